"""Fine-tuning and demonstrations together, paid for from one budget of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from promptlab.learners.finetuned import FineTuned, finetuned, tuned_to_reply
from promptlab.learners.in_context import in_context
from promptlab.learners.solver import Family, Solver
from promptlab.task import Task
from promptlab.types import Backend, Example


@dataclass(frozen=True)
class TunedAndPrompted:
    """See `tuned_and_prompted`."""

    tuning: FineTuned
    family: ClassVar[Family] = "fine-tuning"
    needs_labels: ClassVar[bool] = True
    stays_general: ClassVar[bool] = True

    @property
    def base(self) -> Backend:
        return self.tuning.base

    @property
    def classifies(self) -> bool:
        return self.tuning.classifies

    @property
    def description(self) -> str:
        return f"{self.tuning.description}, on half of the labels; then asked with the other half as demonstrations"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError(f"{self.tuning.method} needs at least one labelled example")
        trained_on, shown = halves(examples)
        tuned = tuned_to_reply(self.base, self.tuning.method, task, trained_on, seed)
        asked = replace(task, prompt=replace(task.prompt, says_format=False), train=shown)
        solver = in_context(tuned.backend, "balanced")(asked, shown, seed)
        note = f"trained on {len(trained_on)} of the labels, asked with up to {len(shown)} others as demonstrations"
        return replace(solver, trained_parameters=tuned.parameters, notes=(*solver.notes, note))


def halves(examples: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """What is trained on and what is shown: the examples of each label take turns, its first one is trained on."""
    sides: tuple[list[Example], list[Example]] = ([], [])
    seen = Counter[str]()
    for example in examples:
        sides[seen[str(example.target)] % 2].append(example)
        seen[str(example.target)] += 1
    return tuple(sides[0]), tuple(sides[1])


def tuned_and_prompted(base: Backend, method: str = "sft") -> TunedAndPrompted:
    """A learner that fine-tunes `base` on half of the examples it gets and shows it the other half when asked.

    What was trained on is not shown, so what the demonstrations add is theirs; and no label is paid for twice. `method`
    is "sft", "lora" or "dpo": a head is not asked with a prompt.
    """
    return TunedAndPrompted(finetuned(base, method))
