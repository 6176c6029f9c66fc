"""A prompt as structured slots: it renders requests and reads replies. Strategies render it, optimisers edit it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from promptlab.errors import SetupError
from promptlab.extraction import (
    SENTENCE,
    Found,
    Rule,
    announced,
    in_json,
    nothing,
    outermost,
    read_bool,
    read_json,
    read_label,
    read_number,
)
from promptlab.types import Answer, Example, Message


@dataclass(frozen=True)
class Prompt:
    """An instruction, the type of the answer, and demonstrations.

    `output` is a Literal of labels, `int`, `float`, `bool`, `str` or a pydantic model. An input is a string, or a
    mapping of field names to values, which is shown one field a line. Demonstrations are shown as earlier turns of the
    chat. `frame` is put before and after every input ("Text: ", " Label:"). `says_format` puts into words what an
    answer looks like (which labels there are, a number, a schema); `rule` is where in a reply the answer is looked for:
    after the last "the answer is" or in a box, else in all of it.
    """

    instruction: str = ""
    output: Any = str
    shots: tuple[Example, ...] = ()
    says_format: bool = True
    rule: Rule = Rule()
    frame: tuple[str, str] = ("", "")

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
            chat += [Message("user", self.framed(shot.input)), Message("assistant", self._said(shot.target))]
        return [*chat, Message("user", self.framed(question))]

    def framed(self, question: str | Mapping[str, str]) -> str:
        """An input as it is shown: within the frame."""
        before, after = self.frame
        return f"{before}{shown(question)}{after}"

    def parse(self, text: str, rule: Rule | None = None) -> Answer:
        """Read the answer from a reply, by the prompt's rule or another one.

        `found` tells where it stood. What cannot be read is `Answer(None, text, why)`, never an error.
        """
        rule = rule or self.rule
        if text in self.labels:
            return Answer(text, text, found="all of it")
        announcement = announced(text, rule)
        if announcement is None and rule.required:
            return Answer(None, text, "the reply does not say what the answer is")
        if self.of_json:
            return self._parse_json(text, *(announcement or ("", "")))
        said, by = announcement or (text, "")
        found = self._read_first(said.strip(), bool(announcement), rule)
        if found.why is not None:
            return Answer(None, text, found.why)
        where = ", ".join(part for part in (by, found.where) if part)
        return Answer(found.value, text if self.labels or self.output is not str else str(found.value), found=where)

    @property
    def of_json(self) -> bool:
        """Whether an answer is JSON of a pydantic model."""
        return not self.labels and hasattr(self.output, "model_validate_json")

    def _parse_json(self, text: str, said: str, by: str) -> Answer:
        """The reply's JSON as it stands, before that in what it announces, and that before it is mended.

        Within JSON “the answer is” is part of a text and announces nothing.
        """
        if in_json(text[: text.find(said)]) or not outermost(said, self.output):
            said, by = text, ""
        found, where = read_json(text, self.output), ""
        if found.why is not None:
            found, where = read_json(said, self.output, mend=True), by
        if found.why is not None:
            return Answer(None, text, found.why)
        return Answer(found.value, str(found.value), found=", ".join(filter(None, (where, found.where))))

    def _read_first(self, said: str, marked: bool, rule: Rule) -> Found:
        """The first sentence of what is announced, where that can be read, before all of it."""
        if not said:
            return nothing("nothing follows “the answer is”" if marked else "the reply is empty")
        if marked and self.output is not str and (sentence := SENTENCE.split(said, maxsplit=1)[0]):
            found = self._read(sentence, rule)
            if found.why is None:
                return found
        return self._read(said, rule)

    def _format(self) -> str:
        """How the answer should look, in words."""
        if not self.says_format:
            return ""
        if self.labels:
            return "Answer with one of: " + ", ".join(self.labels) + "."
        if self.of_json:
            return "Answer with JSON of this schema: " + json.dumps(self.output.model_json_schema())
        return {bool: "Answer yes or no.", int: "Answer with a whole number.", float: "Answer with a number."}.get(
            self.output, ""
        )

    def _said(self, target: Any) -> str:
        """A demonstration's target as the assistant would say it: of a pydantic model, by the names of its schema."""
        if isinstance(target, bool):
            return "yes" if target else "no"
        if isinstance(target, Mapping | list):
            return json.dumps(target, ensure_ascii=False, default=str)
        return target.model_dump_json(by_alias=True) if hasattr(target, "model_dump_json") else str(target)

    def _read(self, said: str, rule: Rule) -> Found:
        if self.labels:
            return read_label(said, self.labels)
        if self.output is bool:
            return read_bool(said)
        if self.output in (int, float):
            return read_number(said, self.output, rule.of_numbers)
        return Found(said, "all of it")


def shown(question: str | Mapping[str, str]) -> str:
    """An input as text: a string as it is, fields one a line. Raises SetupError for what is neither."""
    if isinstance(question, str):
        return question
    if not isinstance(question, Mapping):
        raise SetupError(f"An input is a text, or a mapping of field names to values; got {question!r}.")
    return "\n".join(f"{k}: {v}" for k, v in question.items())
