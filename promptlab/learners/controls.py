"""Arms that say what the others' scores rest on. They are shown beside them, and never recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from promptlab.learners.solver import Family, Learner, Solver
from promptlab.task import Task
from promptlab.types import Example


@dataclass(frozen=True)
class ShuffledLabels:
    """A learner that gets the same texts, each with the label of another draw: the labels permuted among the examples.

    Min et al. 2022 (arXiv 2202.12837, section 4.1) show demonstrations random labels; Zhang et al. 2017 (arXiv
    1611.03530, section 2) train on them. Where an arm does as well with them as without, it has not learnt what text
    has what label: it has learnt the labels' names, their shares, or the look of a text. Differs: labels are permuted,
    not drawn from all evenly, so that their shares stay, and some texts keep theirs by chance; there is one
    permutation for each number of labels and seed.
    """

    learner: Learner
    family: ClassVar[Family] = "control"
    needs_labels: ClassVar[bool] = True

    @property
    def description(self) -> str:
        return f"{getattr(self.learner, 'description', 'the same')}; with the labels shuffled among the examples"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError("there are no labels to shuffle")
        shuffled = with_shuffled_labels(examples, seed)
        return self.learner(replace(task, train=shuffled), shuffled, seed)


def with_shuffled_labels(examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """The examples in their order, the targets permuted among them."""
    targets = [example.target for example in examples]
    Random(f"shuffled labels/{seed}").shuffle(targets)
    return tuple(replace(example, target=target) for example, target in zip(examples, targets, strict=True))
