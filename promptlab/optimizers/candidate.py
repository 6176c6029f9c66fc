"""What an optimiser changes: the prompts of a program, as slots, known by what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from promptlab.errors import SetupError
from promptlab.jsonable import dumped
from promptlab.prompt import Prompt, shown
from promptlab.types import Example

Prompts: TypeAlias = Prompt | Mapping[str, Prompt]  # of a program with one prompt, or with several by their names
ONLY = ""  # the slot of a program with one prompt


@dataclass(frozen=True)
class Candidate:
    """Prompts to try, where they come from (`parents`, by key) and by what (`op`), for the lineage.

    Two candidates that say the same have the same `key`, wherever they come from.
    """

    prompts: Prompts
    parents: tuple[str, ...] = ()
    op: str = "seed"

    def __post_init__(self) -> None:
        several = isinstance(self.prompts, Mapping)
        if (several and not self.prompts) or not all(isinstance(each, Prompt) for each in self.by_slot.values()):
            raise SetupError(f"An optimiser takes a Prompt, or a mapping of names to Prompts; got {self.prompts!r}.")

    @property
    def by_slot(self) -> Mapping[str, Prompt]:
        return self.prompts if isinstance(self.prompts, Mapping) else {ONLY: self.prompts}

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(self.by_slot)

    def slot(self, name: str = ONLY) -> Prompt:
        """The prompt in a slot; the only one, where there is only one."""
        return self.prompts if isinstance(self.prompts, Prompt) else self.prompts[name or self.slots[0]]

    def with_prompt(self, prompt: Prompt, op: str, slot: str = ONLY, parents: Iterable[Candidate] = ()) -> Candidate:
        """Another prompt in a slot; a child of this candidate, or of `parents`."""
        made: Prompts = prompt
        if not isinstance(self.prompts, Prompt):
            made = {**self.prompts, slot or self.slots[0]: prompt}
        return Candidate(made, tuple(parent.key for parent in parents or (self,)), op)

    def saying(self, instruction: str, op: str, slot: str = ONLY, parents: Iterable[Candidate] = ()) -> Candidate:
        """Another instruction in a slot."""
        return self.with_prompt(replace(self.slot(slot), instruction=instruction), op, slot, parents)

    def showing(self, shots: Iterable[Example], op: str, slot: str = ONLY) -> Candidate:
        """Other demonstrations in a slot."""
        return self.with_prompt(self.slot(slot).with_shots(shots), op, slot)

    @cached_property
    def told(self) -> dict[str, Any]:
        """All that its prompts say, as JSON has it."""
        return {slot: prompt_json(prompt) for slot, prompt in self.by_slot.items()}

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of all that its prompts say."""
        return hashlib.sha256(dumped(self.told)).hexdigest()[:12]

    @cached_property
    def length(self) -> int:
        """Characters of all that is said before a question: what each of its calls has to read."""
        return sum(sum(len(message.content) for message in prompt.render("")) for prompt in self.by_slot.values())


def prompt_json(prompt: Prompt) -> dict[str, Any]:
    """What of a prompt an optimiser may change, and what its answers are; all else is the task's."""
    shots = [{"input": shown(shot.input), "target": as_text(shot.target)} for shot in prompt.shots]
    return {
        "instruction": prompt.instruction,
        "shots": shots,
        "says_format": prompt.says_format,
        "frame": list(prompt.frame),
        "output": list(prompt.labels) or str(getattr(prompt.output, "__name__", prompt.output)),
    }


def as_text(target: Any) -> str:
    """A target as one would write it."""
    if isinstance(target, str):
        return target
    dumps = getattr(target, "model_dump_json", None)
    return str(dumps(by_alias=True)) if dumps else json.dumps(target, ensure_ascii=False, default=str)
