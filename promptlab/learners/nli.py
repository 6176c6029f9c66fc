"""Zero-shot classification with a natural-language-inference model as a learner: it learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from promptlab.errors import SetupError
from promptlab.learners.solver import Family, Solver
from promptlab.options import name_of
from promptlab.runners import check_backend
from promptlab.strategies.entailment import HYPOTHESIS, entailed_label
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example


@dataclass(frozen=True)
class ZeroShotNLI:
    """See `zero_shot_nli`."""

    base: Backend
    hypothesis: str = HYPOTHESIS
    family: ClassVar[Family] = "prompting"
    needs_labels: ClassVar[bool] = False
    draws_without_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_backend(self.base, "zero_shot_nli")
        if not getattr(self.base, "entails", False):
            raise SetupError(
                f"{name_of(self.base)} was not trained on inference; hf-nli:facebook/bart-large-mnli was, for instance."
            )

    @property
    def description(self) -> str:
        return f"the label whose hypothesis is entailed most, of {self.hypothesis!r}; the examples are not looked at"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        async def program(question: str) -> Answer:
            return await entailed_label(question, task.labels, self.hypothesis)

        return Solver(program, self.base)


def zero_shot_nli(base: Backend, hypothesis: str = HYPOTHESIS) -> ZeroShotNLI:
    """A learner that answers with the label whose hypothesis a text entails most; `base` is an "hf-nli" model.

    `hypothesis` holds {} where the label goes. It is the same solver whatever the labelled examples.
    """
    return ZeroShotNLI(base, hypothesis)
