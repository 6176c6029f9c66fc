"""A prompt as structured slots: it renders requests and reads replies. Strategies render it, optimisers edit it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from promptlab.errors import SetupError
from promptlab.types import Answer, Example, Message

NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
ANSWER_IS = re.compile(r"(?:answer\s+is|answer\s*:)\s*", re.IGNORECASE)
YES_NO = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Prompt:
    """An instruction, the type of the answer, and demonstrations.

    `output` is a Literal of labels, `int`, `float`, `bool`, `str` or a pydantic model. An input is a string, or a mapping
    of field names to values, which is shown one field a line. Demonstrations are shown as earlier turns of the chat.
    """

    instruction: str = ""
    output: Any = str
    shots: tuple[Example, ...] = ()

    def __post_init__(self) -> None:
        known = self.output in (str, int, float, bool) or self.labels or hasattr(self.output, "model_validate_json")
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

        If the reply says "the answer is …" only what follows the last of these counts.
        """
        *_, said = ANSWER_IS.split(text)
        value, why = self._read(said.strip())
        if why is not None:
            return Answer(None, text, why)
        return Answer(value, text if self.labels or self.output is not str else str(value))

    def _format(self) -> str:
        """How the answer should look, in words."""
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
        if not said:
            return None, "the reply is empty"
        if self.labels:
            return read_label(said, self.labels)
        if self.output is bool:
            words = [w for w in re.findall(r"[a-z]+", said.lower()) if w in YES_NO]
            return (YES_NO[words[0]], None) if words else (None, "neither yes nor no in the reply")
        if self.output in (int, float):
            return read_number(said, self.output)
        if self.output is str:
            return said, None
        return read_json(said, self.output)


def shown(question: str | Mapping[str, str]) -> str:
    """An input as text: a string as it is, fields one a line."""
    return question if isinstance(question, str) else "\n".join(f"{k}: {v}" for k, v in question.items())


def read_label(said: str, labels: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The one label the text names: exactly, else but for case, else as the only one among its words."""
    exact = {label: label for label in labels} | {label.casefold(): label for label in reversed(labels)}
    bare = said.strip().strip("\"'`*.!")
    for candidate in (said, bare, bare.casefold()):
        if candidate in exact:
            return exact[candidate], None
    longest_first = sorted(labels, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(label)}(?!\w)" for label in longest_first)
    named = list(dict.fromkeys(m.group().casefold() for m in re.finditer(pattern, said, re.IGNORECASE)))
    if len(named) == 1:
        return exact[named[0]], None
    return None, "the reply names none of the labels" if not named else f"the reply names {len(named)} labels"


def read_number(said: str, kind: type) -> tuple[Any, str | None]:
    """The last number of the text; a whole one where an int is wanted."""
    numbers = NUMBER.findall(said)
    if not numbers:
        return None, "no number in the reply"
    value = float(numbers[-1].replace(",", ""))
    if kind is int:
        return (int(value), None) if value.is_integer() else (None, f"{numbers[-1]} is not a whole number")
    return value, None


def read_json(said: str, model: Any) -> tuple[Any, str | None]:
    """The outermost {...} of the text as the pydantic model."""
    start, end = said.find("{"), said.rfind("}")
    if start < 0 or end < start:
        return None, "no JSON object in the reply"
    try:
        return model.model_validate_json(said[start : end + 1]), None
    except ValueError as error:  # pydantic's ValidationError is one
        return None, f"the JSON does not fit {model.__name__}: {str(error).splitlines()[0]}"
