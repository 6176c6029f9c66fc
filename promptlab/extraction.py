"""Reading an answer from what a model wrote: one rule, said aloud, and how each answer was found or why it was not.

No model is asked here. What is read is data, never an error: a text without an answer has none, and a reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple
from unicodedata import numeric

# Repeats are bounded, so that a text of a million numbers is read in linear time.
DIGITS = r"(?:\d+(?:,\d{2,3}){0,40},\d{3}(?!\d)|\d+)(?:\.\d+)?|\.\d+"
PARTS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
FRACTIONS = (
    rf"\d{{1,15}}[ \u00a0]\d{{1,2}}/(?:[2-9]|1[026]|20|32|64|100)(?![\d/]|\.\d)|(?:\d{{1,15}} ?)?[{PARTS}]"  # 3 1/2, 2½
)
# Thousands apart by spaces: by such as do not break, else where it hardly is a list (1 234 567, 250 000, not 100 200).
SPACED = (
    r"\d{1,3}(?:[\u00a0\u2009\u202f]\d{3}){1,12}(?!\d)"
    r"|[1-9]\d{0,2}(?: \d{3}){0,12} 000(?!\d)|[1-9]\d?(?: \d{3}){2,12}(?!\d)"
)
NUMBER = re.compile(  # 1/2 is one
    r"(?:(?<!\w)[-+−])?"
    rf"(?:(?<![\d.,/])(?:{FRACTIONS}|{SPACED})"
    rf"|(?<![\d/])\d[\d,]{{0,160}}/[1-9]\d*(?![\d/]|\.\d)|(?:{DIGITS})(?:[eE][-+−]?\d+)?)"
)
# As LaTeX has it: fractions, thousands apart, and what any text may say of large and small ones.
PART = r"\s{0,9}(?:\{\s{0,9}([-+−]?[\d.,]{1,160})\s{0,9}\}|(\d))"
FRACTION = re.compile(rf"\\[dt]?frac{PART}{PART}")
OVER = re.compile(r"(?<=\d) / (?=\d)")
APART = re.compile(r"(?<=\d)(?:\{,\}|\\[,!:; ])(?=\d{3}(?!\d))")
# As others write thousands (1'000, 1_000, 1.000.000) and decimals (0,5): where no list or date is written so.
THOUSANDS = re.compile(
    r"(?<![\w.,])[1-9]\d{0,2}(?:(?:['’]\d{3}){1,12}|(?:_\d{3}){1,12}|(?:\.\d{3}){2,12})(?![\w.,'’]?\d|_)"
)
DECIMALS = re.compile(
    r"(?<![\w.,])(?:[1-9]\d{0,2}(?:[.\u00a0\u202f ]\d{3}){1,12},\d{1,15}|0,\d{1,15}|\d{1,15},\d\d?)(?![.,]?\d)"
)
PAIRS = {"()", "[]", "{}", "(]", "[)"}  # of brackets around two numbers
SIGNED = re.compile(r"(?<!\w)(?:([-+−])\\?[$€£¥]|–)(?=\.?\d)")
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
POWER_OF_TEN = re.compile(
    r"(?:(?<=\d)\s{0,9}(?:[×·*x]|\\times|\\cdot)\s{0,9}|(?<![\w.,^]))10"
    r"(?:\s?\^\s?(?:\{\s?([-+−]?\d{1,3})\s?\}|\(?([-+−]?\d{1,3})\)?)|([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))(?!\w)"
)
STRING = re.compile(r'"(?:[^"\\]|\\.)*+("?)', re.DOTALL)  # of JSON, or what is there of one
BEGINS = re.compile(r"[{\[]\s{0,99}[\"'{]")  # JSON does, unless its numbers come first
LONGEST_NUMBER = 4000  # characters; Python itself refuses to read whole numbers of more than 4,300 digits
ANSWER_IS = re.compile(r"\banswer(?:\s+is\b\s*:?|[*_]*\s*:)[*_]*\s*", re.IGNORECASE)
SENTENCE = re.compile(r"[.!?;](?:\s|$)|\n")  # where one ends
EMPHASIS = " \t*_`\"'“”‘’"
# A negation, and what may stand between it and the label that it denies: a few words of its clause.
DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|nobody|none|cannot|hardly|(?:no|without)(?! doubt| question))|n[’']t)"
    r"(?:\s+(?!(?:but|so|and|or|because|since|as|if|therefore|thus|hence|rather|only)\b)[^\W\d_][\w’'-]*+){0,4}\s+$",
    re.IGNORECASE,
)
CLAUSE = 120  # characters of it that are looked at
AROUND = EMPHASIS + ".,;:!()[]"  # what may stand around a label said by itself
NONE_NAMED = "the reply names none of the labels"
YES_NO = {"yes": True, "true": True, "no": False, "false": False}
# An "A" that begins a sentence, and any "I", is a word unless what follows makes it the subject: "A is right".
A_WORD = re.compile(
    r"(?:(?<![^\s\"“(])(?<![^.!?:;\n\"“(]\s)A|(?<!\w)I)\s+(?!(?:is|was|are|because|since|and|or|seems|fits|as)\b)[a-z]"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Where in a reply the answer is, and which number counts where there are several.

    What follows a `marker` counts: of several markers the last or the `first`, up to the next one, its first sentence
    before the rest. In what follows, or without a marker in all of the reply, the last \\boxed{…} counts alone. A
    reply with neither is read as a whole, unless an announcement is `required`.
    """

    marker: re.Pattern[str] = ANSWER_IS
    of_markers: Literal["first", "last"] = "last"
    of_numbers: Literal["first", "last"] = "last"
    required: bool = False


class Found(NamedTuple):
    """A value and where in the text it stood; or None, and `why`."""

    value: Any
    where: str = ""
    why: str | None = None


def nothing(why: str) -> Found:
    return Found(None, "", why)


def announced(text: str, rule: Rule) -> tuple[str, str] | None:
    """What a reply announces as its answer, and by what; None where it announces none."""
    marked = list(rule.marker.finditer(text))
    by = ""
    if marked:
        at = 0 if rule.of_markers == "first" else len(marked) - 1
        end = marked[at + 1].start() if at + 1 < len(marked) else len(text)
        by = (
            f"after the {rule.of_markers} “{marked[at][0].strip()}”"
            if len(marked) > 1
            else (f"after “{marked[at][0].strip()}”")
        )
        text = text[marked[at].end() : end]
    if (inside := boxed(text)) is not None:
        return inside, "in a box"
    return (text, by) if marked else None


def boxed(text: str) -> str | None:
    """What the last \\boxed{…} holds, braces balanced; None where there is none, or it does not end."""
    start = text.rfind("\\boxed{")
    depth = 0
    for i in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : i]
    return None


def read_label(said: str, labels: Sequence[str]) -> Found:
    """The one label the text says: as all of it, else as a line by itself, else as the only one among its words.

    By itself a label may be in quotes or emphasis, and in another case if that leaves no doubt. Nothing is read from
    a text that names several labels, or one only to deny it.
    """
    if said in labels:
        return Found(said, "all of it")
    if (label := by_itself(said, labels)) is not None:
        return Found(label, "all of it")
    lines = {label for line in said.splitlines() if (label := by_itself(line, labels))}
    if len(lines) == 1:
        return Found(lines.pop(), "a line by itself")
    named, denied = among_words(said, labels)
    if len(named) == 1 and not denied:
        return Found(named.pop(), "the only label named")
    if denied:
        return nothing("the reply says what the label is not")
    return nothing(f"the reply names {len(named)} labels" if named else NONE_NAMED)


def by_itself(said: str, labels: Sequence[str]) -> str | None:
    """The label the text is, but for case and for what stands around it; None if it is none, or could be two."""
    for bare in (said.strip(), said.strip().strip(AROUND)):
        if bare in labels:
            return bare
        alike = [label for label in labels if label.casefold() == bare.casefold()]
        if len(alike) == 1:
            return alike[0]
    return None


def among_words(said: str, labels: Sequence[str]) -> tuple[set[str], bool]:
    """The labels named in the text, and whether one is denied by what its clause says before it.

    Longer labels go first ("weak evidence" is not "weak"), parts of words, numbers and compounds are not names
    ("10", "1.5", "-1", "non-smoker"), and a label of one letter counts only as it is written and where it is no word.
    """
    named: set[str] = set()
    denied = False
    longest_first = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True) if label)
    name = re.compile(
        rf"(?<!\w)(?<![\w][-’'])(?<!\d[.,])(?!(?<=[-−])\d)(?P<label>{longest_first})(?!\w|[-’']\w|[.,]\d)",
        re.IGNORECASE,
    )
    for match in name.finditer(said):
        written = match["label"]
        alike = [label for label in labels if label.casefold() == written.casefold()]
        same = [label for label in alike if label == written]
        if len(written) == 1 and A_WORD.match(said, match.start("label")):
            continue
        if len(written) > 1 or same or not written.isalpha():
            named.update(same or alike)
            denied = denied or DENIED.search(said[max(0, match.start() - CLAUSE) : match.start()]) is not None
    return named, denied


def read_choice(said: str, choices: Mapping[str, str]) -> Found:
    """The letter of the option that the text chooses, by its letter ("B", "(B)") or else by what the option says."""
    letter = read_label(said, [form for key in choices for form in (f"({key})", key)])
    if letter.why is None:
        return Found(letter.value.strip("()"), letter.where)
    text = read_label(said, list(dict.fromkeys(choices.values())))
    if text.why is not None:
        return letter if text.why == NONE_NAMED else text
    keys = [key for key, option in choices.items() if option == text.value]
    return Found(keys[0], f"{text.where}, by its text") if len(keys) == 1 else nothing("several options say the same")


def read_bool(said: str) -> Found:
    """A yes, true, no or false that the text begins with, else the only one it names."""
    opening = re.match(r"\W*(yes|no|true|false)\b", said, re.IGNORECASE)
    if opening:
        return Found(YES_NO[opening[1].lower()], "the first word")
    label = read_label(said, tuple(YES_NO))
    return label if label.why else Found(YES_NO[label.value], label.where)


def read_number(said: str, kind: type, which: Literal["first", "last"] = "last") -> Found:
    """The last number of the text, or its first; a whole one where an int is wanted.

    1,200 and 1 200 000, 1/2, 3 1/2 and 2½, 5 × 10³, 1'000, 1.000.000 and 0,5, and LaTeX's \\frac{1}{2} and 1{,}200 are
    numbers; currency, percent signs and units around one are no part of it.
    """
    written = [match[0] for match in NUMBER.finditer(in_digits(said))]
    if not written:
        return nothing("no number in the reply")
    number = written[0 if which == "first" else -1]
    exactly = fraction(number)
    if exactly is None:
        return nothing(f"{number[:20]} is too large a number, or too small a one")
    where = "the only number" if len(written) == 1 else f"the {which} of {len(written)} numbers"
    if kind is float:
        return Found(float(exactly), where)
    if exactly.denominator != 1:
        return nothing(f"{number} is not a whole number")
    return Found(int(exactly), where)


def in_digits(said: str) -> str:
    """The same with LaTeX's numbers, powers of ten, and other countries' thousands and decimals as 1,234.5 is."""
    said = THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), APART.sub(",", said))

    def decimal(match: re.Match[str]) -> str:
        if said[match.start() - 1 : match.start()] + said[match.end() : match.end() + 1] in PAIRS:
            return match[0]  # two numbers: (1,5)
        return re.sub(r"[.\s]", "", match[0]).replace(",", ".")

    def power(match: re.Match[str]) -> str:
        exponent = next(filter(None, match.groups())).translate(RAISED).replace("−", "-")
        return f"e{exponent}" if match[0][:2] != "10" else f"1e{exponent}"

    def of_two(match: re.Match[str]) -> str:
        above, below = (part.replace("−", "-").replace(",", "") for part in match.groups() if part is not None)
        try:
            exactly = Fraction(above) / Fraction(below)
        except (ValueError, ZeroDivisionError):  # 1.2.3, or of nothing
            return match[0]
        follows_whole = said[match.start() - 1 : match.start()].isdigit()
        return f"{' ' if follows_whole else ''}{exactly.numerator}/{exactly.denominator}"

    said = DECIMALS.sub(decimal, said)
    said = POWER_OF_TEN.sub(power, FRACTION.sub(of_two, said))
    return SIGNED.sub(lambda match: match[1] or "-", OVER.sub("/", said))


def fraction(number: str) -> Fraction | None:
    """A number as NUMBER finds it, exactly; None if no float is as large, or it is written with too small a power."""
    plain = number.replace(",", "").replace("−", "-")
    _, _, power = plain.lower().partition("e")
    if len(plain) > LONGEST_NUMBER or (power and (len(power) > 9 or abs(int(power)) > LONGEST_NUMBER)):
        return None
    if mixed := re.fullmatch(rf"([-+]?)(\d*)\s?([{PARTS}]|(?<=\s)\d+/\d+)", plain):
        sign, whole, part = mixed.groups()
        exactly = Fraction(part) if "/" in part else Fraction(numeric(part)).limit_denominator(9)
        exactly = (exactly + int(whole or 0)) * (-1 if sign == "-" else 1)
    else:
        exactly = Fraction(re.sub(r"\s", "", plain))
    try:
        return exactly if math.isfinite(float(exactly)) else None
    except OverflowError:
        return None


def read_json(said: str, model: Any, mend: bool = False) -> Found:
    """The outermost {...} of the text as the pydantic model; to be mended where it is not quite JSON, but never where
    it was cut off: what is missing then would be lost without a word.

    Of a RootModel, whose JSON may be of any kind, all of the text, else the outermost [...] or {...}.
    """
    if of_any_kind(model):
        with suppress(ValueError):  # pydantic's ValidationError is one
            return Found(model.model_validate_json(said), "all of it")
    written = outermost(said, model)
    if not written:
        return nothing("no JSON in the reply" if of_any_kind(model) else "no JSON object in the reply")
    for cut, where in written:
        try:
            return Found(model.model_validate_json(cut), where)
        except ValueError as error:
            unfit = error
    if cut_off(written[-1][0]):
        return nothing("the reply ends before its JSON is whole")
    if mend:
        from json_repair import repair_json

        for cut, where in written:
            with suppress(ValueError, RecursionError):
                return Found(model.model_validate_json(repair_json(cut)), f"{where}, mended")
    faults = [(".".join(map(str, e["loc"])), e["msg"]) for e in getattr(unfit, "errors", list)()]
    told = "; ".join(f"{at}: {what}" if at else what for at, what in faults[:3]) or str(unfit)
    return nothing(f"the JSON does not fit {model.__name__}: {told}")


def of_any_kind(model: Any) -> bool:
    return bool(getattr(model, "__pydantic_root_model__", False))


def outermost(said: str, model: Any) -> list[tuple[str, str]]:
    """The text from the first opening bracket to the last closing one, or to its end, and what it is: of each kind that
    could be JSON of the model, but not a part of the other.
    """
    kinds = [("[", "]"), ("{", "}")] if of_any_kind(model) else [("{", "}")]
    found, over = [], 0
    for start, opening, closing in sorted((said.find(kind[0]), *kind) for kind in kinds):
        if start >= over:
            last = said.rfind(closing)
            over = last + 1 if last > start else len(said)
            found.append((said[start:over], f"the outermost {opening}…{closing}"))
    return found


def cut_off(written: str) -> bool:
    """Whether brackets, or a text in double quotes, are still open at the end of what should be JSON."""
    bare = without_strings(written)
    return '"' in bare or open_brackets(bare) > 0


def in_json(before: str) -> bool:
    """Whether a text stops amid JSON, of an object or a list of texts: not where a bracket of prose is open, [0, 1)."""
    return BEGINS.search(before) is not None and open_brackets(without_strings(before)) > 0


def without_strings(written: str) -> str:
    """JSON without its strings; of one that is not closed a quotation mark stays."""
    return STRING.sub(lambda string: "" if string[1] else '"', written)


def open_brackets(bare: str) -> int:
    return sum(bare.count(open_) - bare.count(shut) for open_, shut in ("{}", "[]"))
