"""What is wrong with a labelled set, found before a model is asked anything. Nothing is mended here, only said.

"The same text" is `splits.text_key`: apart from case, spacing and punctuation. Every check is one pass over texts or
their hashes, so time and memory grow with the rows and no faster.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from statistics import median
from typing import NamedTuple

from promptlab.splits import group_key, text_key
from promptlab.task import in_text
from promptlab.types import Example


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: its kind, how many times it occurs, a line that says so, and the ids of the first ten."""

    kind: str
    count: int
    message: str
    examples: tuple[str, ...] = ()


class _Side(NamedTuple):
    name: str
    examples: Sequence[Example]
    keys: list[bytes]  # empty where the text is
    exact: list[bytes]
    labels: list[str]


def lint(
    train: Sequence[Example], test: Sequence[Example] | None = None, **elsewhere: Sequence[Example]
) -> list[Finding]:
    """Every defect of the set, and of the two sides together where there is a `test`.

    Of other sets that are asked, by their names (`ood`), only what they share with `train`.
    """
    sides = [_side("data" if test is None else "train", train), *([] if test is None else [_side("test", test)])]
    findings: list[Finding] = []
    for side in sides:
        for check in (_empty, _missing, _duplicates, _conflicts, _one_class, _long, _leak):
            findings += check(side)
    findings += _few(sides[0])
    findings += _measured(sides[0])
    findings += _several(sides[0])
    findings += _imbalance(sides[0])
    findings += _spellings({label for side in sides for label in side.labels})
    if len(sides) == 2:
        for compare in (_overlap, _labels_apart, _groups_across):
            findings += compare(*sides)
    for name, examples in elsewhere.items():
        for compare in (_overlap, _groups_across):
            findings += compare(sides[0], _side(name, examples))
    return findings


def _side(name: str, given: Sequence[Example]) -> _Side:
    examples = in_text(given)
    keys = [text_key(example.input) if example.input.strip() else b"" for example in examples]
    exact = [blake2b(e.input.encode("utf-8", "surrogatepass"), digest_size=16).digest() for e in examples]
    return _Side(name, examples, keys, exact, [str(example.target) for example in examples])


def _ids(examples: Iterable[Example]) -> tuple[str, ...]:
    return tuple(example.id for example in islice(examples, 10))


def _at(side: _Side, rows: Iterable[int]) -> tuple[str, ...]:
    return _ids(side.examples[row] for row in rows)


def _named(labels: Iterable[str]) -> str:
    """At most five labels, sorted, each cut at 30 characters."""
    ordered = sorted(labels)
    shown = (label if len(label) <= 30 else label[:27] + "..." for label in ordered[:5])
    return ", ".join(f'"{label}"' for label in shown) + (", ..." if len(ordered) > 5 else "")


# ---- one side


def _empty(side: _Side) -> Iterator[Finding]:
    rows = [row for row, key in enumerate(side.keys) if not key]
    if rows:
        yield Finding("empty", len(rows), f"{side.name}: {len(rows):,} empty text(s).", _at(side, rows))


_NO_VALUE = {"na", "n/a", "#n/a", "<na>", "nan", "none", "null", "-", "--", "?", "."}


def _missing(side: _Side) -> Iterator[Finding]:
    """What spreadsheets and pandas write where there is no value; it may be the name of a class all the same."""
    rows = [row for row, label in enumerate(side.labels) if label.casefold() in _NO_VALUE]
    if rows:
        named = _named({side.labels[row] for row in rows})
        message = f"{side.name}: {len(rows):,} row(s) have a label that may mean none: {named}. If so, leave them out."
        yield Finding("missing labels?", len(rows), message, _at(side, rows))


def _duplicates(side: _Side) -> Iterator[Finding]:
    rows, to_the_letter = _repeats(side.keys), len(_repeats(side.exact, side.keys))
    if rows:
        counts = _two_counts(len(rows), to_the_letter)
        message = f"{side.name}: {len(rows):,} of {len(side.keys):,} rows repeat an earlier text{counts}."
        yield Finding("duplicates", len(rows), message, _at(side, rows))


def _repeats(keys: Sequence[bytes], texts: Sequence[bytes] | None = None) -> list[int]:
    """Rows whose key occurred before; rows with an empty text (by `texts`, else the keys) do not count."""
    seen: set[bytes] = set()
    rows = []
    for row, (key, text) in enumerate(zip(keys, texts or keys, strict=True)):
        if not text:
            continue
        if key in seen:
            rows.append(row)
        seen.add(key)
    return rows


def _two_counts(same: int, to_the_letter: int) -> str:
    return (
        "" if same == to_the_letter else f" apart from case, spacing and punctuation ({to_the_letter:,} to the letter)"
    )


def _conflicts(side: _Side) -> Iterator[Finding]:
    label_of: dict[bytes, str] = {}
    torn = {key for key, label in zip(side.keys, side.labels, strict=True) if label_of.setdefault(key, label) != label}
    torn.discard(b"")
    if torn:
        rows = [row for row, key in enumerate(side.keys) if key in torn]
        message = f"{side.name}: {len(torn):,} text(s) occur with different labels, in {len(rows):,} rows."
        yield Finding("conflicts", len(torn), message, _at(side, rows))


def _one_class(side: _Side) -> Iterator[Finding]:
    if len(set(side.labels)) == 1:
        message = f"{side.name}: every row has the same label, {_named(side.labels[:1])}. Is it unlabelled?"
        yield Finding("one class", len(side.labels), message, _at(side, range(len(side.labels))))


def _few(side: _Side) -> Iterator[Finding]:
    counts = Counter(side.labels)
    for kind, low, high in (("classes under 2", 1, 1), ("classes under 5", 2, 4)):
        few = {label for label, count in counts.items() if low <= count <= high}
        if few:
            many = "one example" if high == 1 else f"{low} to {high} examples"
            message = f"{side.name}: {len(few):,} class(es) with {many}: {_named(few)}."
            rows = (row for row, label in enumerate(side.labels) if label in few)
            yield Finding(kind, len(few), message, _at(side, rows))


_MEASURED = re.compile(r"[-+]?\d[\d\s.,:/T-]*[%Z]?")  # numbers, dates and times in digits
_MANY = 20  # values, which codes of classes and the steps of a scale seldom have more of


def _measured(side: _Side) -> Iterator[Finding]:
    """Ages, amounts or dates: all but a tenth of many different labels."""
    labels = set(side.labels)
    found = {label for label in labels if _MEASURED.fullmatch(label)}
    if len(labels) > _MANY and len(found) >= 0.9 * len(labels):
        message = (
            f"{side.name}: {len(found):,} of {len(labels):,} labels are numbers or dates, each a class of its own: "
            f"{_named(found)}. Make ranges of what was measured, and write names in place of codes."
        )
        rows = (row for row, label in enumerate(side.labels) if label in found)
        yield Finding("numbers as labels?", len(found), message, _at(side, rows))


def _several(side: _Side) -> Iterator[Finding]:
    """Cells of several labels: most of the rare ones are made of others, as "cost safety" of "cost" and "safety"."""
    counts = Counter(side.labels)
    alone = {label.strip(_AROUND) for label in counts}
    rare = {label for label, count in counts.items() if count < 5}
    made = {label for label in rare if any(_made_of(label, between, alone) for between in _BETWEEN)}
    if len(made) >= 3 and len(made) > len(rare) / 2:
        message = (
            f"{side.name}: {len(made):,} of {len(rare):,} labels with fewer than 5 examples are several others in one "
            f"cell: {_named(made)}. An answer is one label: make a yes/no column of each, and study one at a time."
        )
        rows = (row for row, label in enumerate(side.labels) if label in made)
        yield Finding("several labels?", len(made), message, _at(side, rows))


_BETWEEN = ("\n", ";", ",", "|", "/", "+", "&", " ")
_AROUND = " []\"'"  # of a list that was written as text


def _made_of(label: str, between: str, alone: set[str]) -> bool:
    parts = [part.strip(_AROUND) for part in label.split(between)]
    return len(parts) > 1 and alone.issuperset(parts)


def _imbalance(side: _Side) -> Iterator[Finding]:
    counts = Counter(side.labels)
    if len(counts) < 2:
        return
    label, count = counts.most_common(1)[0]
    n = len(side.labels)
    if count / n >= (0.6 if len(counts) == 2 else 0.5):
        message = (
            f"{side.name}: {count:,} of {n:,} rows are {_named([label])}: always saying so is {count / n:.1%} right."
        )
        yield Finding("imbalance", count, message)


def _long(side: _Side) -> Iterator[Finding]:
    """A text of more than ten times the median length is often several rows that ran together."""
    lengths = [len(example.input) for example in side.examples]
    middle = median(lengths) if lengths else 0
    rows = [row for row, length in enumerate(lengths) if length > 10 * middle > 0]
    if rows:
        than = f"10 times the median of {middle:,.0f} characters; the longest has {max(lengths):,}"
        yield Finding("long", len(rows), f"{side.name}: {len(rows):,} text(s) longer than {than}.", _at(side, rows))


_WORDS = re.compile(r"[^\W_]+")


def _words(text: str) -> str:
    return f" {' '.join(_WORDS.findall(text.casefold()))} "


def _leak(side: _Side) -> Iterator[Finding]:
    """More than half of the texts hold their own label as words, and far fewer hold another's ("no" is in many)."""
    words_of = {label: _words(label) for label in set(side.labels)}
    rows, by_chance, label, other = [], 0, "", ""
    for row, example in enumerate(side.examples):
        if side.labels[row] != label:
            label, other = side.labels[row], label
        text = _words(example.input)
        if words_of[label].strip() and words_of[label] in text:
            rows.append(row)
        by_chance += bool(words_of.get(other, "").strip() and words_of[other] in text)
    if len(rows) > len(side.labels) / 2 and len(rows) > 1.5 * by_chance:
        message = (
            f"{side.name}: {len(rows):,} of {len(side.labels):,} texts hold their own label. Do they give it away?"
        )
        yield Finding("leak", len(rows), message, _at(side, rows))


def _spellings(labels: Iterable[str]) -> Iterator[Finding]:
    spelt = defaultdict[str, set[str]](set)
    for label in labels:
        spelt[_spelling(label)].add(label)
    for variants in sorted(sorted(variants) for variants in spelt.values() if len(variants) > 1):
        message = f"One label in {len(variants)} spellings? {_named(variants)} differ in case, spacing or punctuation."
        yield Finding("label spellings", len(variants), message)


def _spelling(label: str) -> str:
    """What stays of a label without case, spacing and punctuation; a number's value, since "-1" is not "1"."""
    try:
        return repr(float(label))
    except ValueError:
        plain = unicodedata.normalize("NFKC", label).casefold()
        return "".join(_WORDS.findall(plain)) or plain


# ---- two sides


def _overlap(train: _Side, test: _Side) -> Iterator[Finding]:
    labels_of = defaultdict[bytes, set[str]](set)
    for key, label in zip(train.keys, train.labels, strict=True):
        labels_of[key].add(label)
    rows = [row for row, key in enumerate(test.keys) if key and key in labels_of]
    if rows:
        letters = set(train.exact)
        counts = _two_counts(len(rows), sum(test.exact[row] in letters for row in rows))
        torn = sum(test.labels[row] not in labels_of[test.keys[row]] for row in rows)
        torn_too = f"; {torn:,} of them under another label" if torn else ""
        message = f"{len(rows):,} of {len(test.keys):,} {test.name} texts are in train too{counts}{torn_too}."
        yield Finding("overlap", len(rows), message, _at(test, rows))


def _labels_apart(train: _Side, test: _Side) -> Iterator[Finding]:
    for side, other in ((test, train), (train, test)):
        alone = set(side.labels) - set(other.labels)
        if alone:
            rows = [row for row, label in enumerate(side.labels) if label in alone]
            message = f"{len(alone):,} label(s) only in {side.name}, in {len(rows):,} rows: {_named(alone)}."
            if side is test:  # as Task.classification has it
                message += " All arms are shown the names nevertheless: every prompt and every head has all labels."
            yield Finding(f"labels only in {side.name}", len(alone), message, _at(side, rows))


def _groups_across(train: _Side, test: _Side) -> Iterator[Finding]:
    groups = {group_key(example.group) for example in train.examples if example.group is not None}
    across = [e for e in test.examples if e.group is not None and group_key(e.group) in groups]
    if across:
        count = len({group_key(example.group) for example in across if example.group is not None})
        rows = f"{len(across):,} of {len(test.examples):,} {test.name} rows"
        message = f"{count:,} group(s) are on both sides, with {rows}."
        yield Finding("groups across", count, message, _ids(across))
