"""An arm of another model than the one that the study prompts and fine-tunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from promptlab.learners.solver import Family, Learner, Solver
from promptlab.task import Task
from promptlab.types import Example


@dataclass(frozen=True)
class OfAnotherModel:
    """A prompting arm of `model`, which is not trained here: a larger one, say.

    It has a family of its own, since prompting one model and fine-tuning another compares two things at once: which
    model, and which way. It is asked what all are asked, and is left out of the choice between the ways.
    """

    learner: Learner
    model: str
    family: ClassVar[Family] = "another model"

    @property
    def needs_labels(self) -> bool:
        return bool(getattr(self.learner, "needs_labels", False))

    @property
    def draws_without_labels(self) -> bool:
        return bool(getattr(self.learner, "draws_without_labels", True))

    @property
    def description(self) -> str:
        return f"{getattr(self.learner, 'description', '')}; of another model, {self.model}".removeprefix("; ")

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        return self.learner(task, examples, seed)
