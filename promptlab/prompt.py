"""A prompt as structured slots: it renders requests and reads replies. Strategies render it, optimisers edit it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from promptlab.errors import SetupError
from promptlab.types import Answer, Example, Message

NUMBER = re.compile(r"(?:(?<!\w)[-+])?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
ANSWER_IS = re.compile(r"\banswer(?:\s+is\b\s*:?|[*_]*\s*:)[*_]*\s*", re.IGNORECASE)
SENTENCE = re.compile(r"[.!?;](?:\s|$)|\n")  # where one ends
EMPHASIS = " \t*_`\"'“”‘’"
AROUND = EMPHASIS + ".,;:!()[]"  # what may stand around a label said by itself
YES_NO = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Prompt:
    """An instruction, the type of the answer, and demonstrations.

    `output` is a Literal of labels, `int`, `float`, `bool`, `str` or a pydantic model. An input is a string, or a
    mapping of field names to values, which is shown one field a line. Demonstrations are shown as earlier turns of the
    chat. `says_format` puts into words what an answer looks like (which labels there are, a number, a schema).
    """

    instruction: str = ""
    output: Any = str
    shots: tuple[Example, ...] = ()
    says_format: bool = True

    def __post_init__(self) -> None:
        known = self.output in (str, int, float, bool) or hasattr(self.output, "model_validate_json")
        known = known or (bool(self.labels) and all(isinstance(label, str) for label in self.labels))
        if not known:
            raise SetupError(
                f"Prompt(output={self.output!r}) cannot be read from a reply. "
                "Use a Literal of strings, int, float, bool, str, or a pydantic model."
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The strings a Literal output chooses from; empty for other outputs."""
        return get_args(self.output) if get_origin(self.output) is Literal else ()

    def with_shots(self, shots: Iterable[Example]) -> Prompt:
        return replace(self, shots=tuple(shots))

    def render(self, question: str | Mapping[str, str]) -> list[Message]:
        """The chat to send: what is wanted, each demonstration's two turns, then the question."""
        wanted = "\n".join(part for part in (self.instruction, self._format()) if part)
        chat = [Message("system", wanted)] if wanted else []
        for shot in self.shots:
            chat += [Message("user", shown(shot.input)), Message("assistant", self._said(shot.target))]
        return [*chat, Message("user", shown(question))]

    def parse(self, text: str) -> Answer:
        """Read the answer from a reply. What cannot be read is `Answer(None, text, why)`, never an error.

        If the reply says "the answer is …", only what follows the last of these counts, its first sentence first.
        """
        if text in self.labels:
            return Answer(text, text)
        *before, said = ANSWER_IS.split(text)
        said = said.strip()
        if not said:
            return Answer(None, text, "nothing follows “the answer is”" if before else "the reply is empty")
        value, why = self._read(said)
        if before and self.output is not str and (sentence := SENTENCE.split(said, maxsplit=1)[0]):
            first, unread = self._read(sentence)
            value, why = (first, None) if unread is None else (value, why)
        if why is not None:
            return Answer(None, text, why)
        return Answer(value, text if self.labels or self.output is not str else str(value))

    def _format(self) -> str:
        """How the answer should look, in words."""
        if not self.says_format:
            return ""
        if self.labels:
            return "Answer with one of: " + ", ".join(self.labels) + "."
        if hasattr(self.output, "model_json_schema"):
            return "Answer with JSON of this schema: " + json.dumps(self.output.model_json_schema())
        return {bool: "Answer yes or no.", int: "Answer with a whole number.", float: "Answer with a number."}.get(
            self.output, ""
        )

    def _said(self, target: Any) -> str:
        """A demonstration's target as the assistant would say it."""
        if isinstance(target, bool):
            return "yes" if target else "no"
        return target.model_dump_json() if hasattr(target, "model_dump_json") else str(target)

    def _read(self, said: str) -> tuple[Any, str | None]:
        """(value, None), or (None, why it could not be read)."""
        if self.labels:
            return read_label(said, self.labels)
        if self.output is bool:
            return read_bool(said)
        if self.output in (int, float):
            return read_number(said, self.output)
        if self.output is str:
            return said, None
        return read_json(said, self.output)


def shown(question: str | Mapping[str, str]) -> str:
    """An input as text: a string as it is, fields one a line."""
    return question if isinstance(question, str) else "\n".join(f"{k}: {v}" for k, v in question.items())


def read_label(said: str, labels: Sequence[str]) -> tuple[str | None, str | None]:
    """The one label the text says: as all of it, else as a line by itself, else as the only one among its words.

    By itself a label may be in quotes or emphasis, and in another case if that leaves no doubt. Nothing is read from
    a text that names several labels, or one only to deny it.
    """
    if said in labels:
        return said, None
    if (label := by_itself(said, labels)) is not None:
        return label, None
    lines = {label for line in said.splitlines() if (label := by_itself(line, labels))}
    if len(lines) == 1:
        return lines.pop(), None
    named, denied = among_words(said, labels)
    if len(named) == 1 and not denied:
        return named.pop(), None
    if denied:
        return None, "the reply says what the label is not"
    return None, "the reply names none of the labels" if not named else f"the reply names {len(named)} labels"


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
    """The labels named in the text, and whether one is named after a "not".

    Longer labels go first ("weak evidence" is not "weak"), parts of words, numbers and compounds are not names
    ("10", "1.5", "-1", "non-smoker"), and a label of one letter counts only as it is written.
    """
    named: set[str] = set()
    denied = False
    longest_first = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True) if label)
    name = re.compile(
        r"(?P<denied>\b(?:not|never|neither|nor)\s+|n[’']t\s+)?(?:\b(?:an?|the)\s+)??"
        rf"(?<!\w)(?<![\w][-’'])(?<!\d[.,])(?!(?<=[-−])\d)(?P<label>{longest_first})(?!\w|[-’']\w|[.,]\d)",
        re.IGNORECASE,
    )
    for match in name.finditer(said):
        written = match["label"]
        alike = [label for label in labels if label.casefold() == written.casefold()]
        same = [label for label in alike if label == written]
        if len(written) > 1 or same or not written.isalpha():
            named.update(same or alike)
            denied = denied or match["denied"] is not None
    return named, denied


def read_bool(said: str) -> tuple[bool | None, str | None]:
    """A yes, true, no or false that the text begins with, else the only one it names."""
    opening = re.match(r"\W*(yes|no|true|false)\b", said, re.IGNORECASE)
    if opening:
        return YES_NO[opening[1].lower()], None
    label, why = read_label(said, tuple(YES_NO))
    return (None, why) if label is None else (YES_NO[label], None)


def read_number(said: str, kind: type) -> tuple[Any, str | None]:
    """The last number of the text; a whole one where an int is wanted."""
    numbers = NUMBER.findall(said)
    if not numbers:
        return None, "no number in the reply"
    number = numbers[-1].rstrip(",").replace(",", "")
    if not math.isfinite(float(number)):
        return None, f"{number[:20]} is too large a number"
    if kind is float:
        return float(number), None
    exactly = Decimal(number)
    if exactly != exactly.to_integral_value():
        return None, f"{number} is not a whole number"
    return int(exactly), None


def read_json(said: str, model: Any) -> tuple[Any, str | None]:
    """The outermost {...} of the text as the pydantic model, mended where it is not quite JSON."""
    start, end = said.find("{"), said.rfind("}")
    if start < 0 or end < start:
        return None, "no JSON object in the reply"
    written = said[start : end + 1]
    try:
        return model.model_validate_json(written), None
    except ValueError as error:  # pydantic's ValidationError is one
        unfit = error
    with suppress(ValueError, RecursionError):
        from json_repair import repair_json

        return model.model_validate_json(repair_json(written)), None
    faults = [(".".join(map(str, e["loc"])), e["msg"]) for e in getattr(unfit, "errors", list)()]
    told = "; ".join(f"{at}: {what}" if at else what for at, what in faults[:3]) or str(unfit)
    return None, f"the JSON does not fit {model.__name__}: {told}"
