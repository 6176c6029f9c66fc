"""Fine-tuning as a learner: the labelled examples become training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from promptlab.errors import SetupError
from promptlab.learners.in_context import in_both_ways
from promptlab.learners.solver import Family, Solver
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Message

METHODS = {
    "sft": "all weights, next-token prediction on the label",
    "head": "all weights and a classification head, softmax(W h + b)",
}


@dataclass(frozen=True)
class FineTuned:
    """See `finetuned`."""

    base: Backend
    method: str = "sft"
    family: ClassVar[Family] = "fine-tuning"
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SetupError(f"finetuned(method={self.method!r}): known are {', '.join(METHODS)}.")
        if not hasattr(self.base, "model") or not hasattr(self.base, "tokenizer"):
            raise SetupError(f"{self.base!r} cannot be fine-tuned here; tiny can.")

    @property
    def description(self) -> str:
        return METHODS[self.method]

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise SetupError(f"{self.method} needs at least one labelled example.")
        return (tune_head if self.method == "head" else tune_sft)(self.base, task, examples, seed)


def tune_sft(base: Backend, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model to reply with the label, then ask it as the base is asked with no demonstrations."""
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.model import parameter_count
    from promptlab.tiny.sft import sft

    assert isinstance(base, Tiny)
    chats = [[*task.prompt.render(e.input), Message("assistant", str(e.target))] for e in examples]
    trained = Tiny.of(sft(base.model, base.tokenizer, chats, seed), base.tokenizer)

    async def program(question: str) -> Answer:
        return await in_both_ways(question, task.prompt, trained)

    return Solver(program, trained, parameter_count(trained.model))


def tune_head(base: Backend, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model with a head over the labels; its answer is the likeliest label."""
    from promptlab.backends.tiny import Tiny, TinyClassifier
    from promptlab.strategies import likeliest_label
    from promptlab.tiny.head import train_head
    from promptlab.tiny.model import parameter_count

    assert isinstance(base, Tiny)
    inputs, targets = [e.input for e in examples], [str(e.target) for e in examples]
    classifier = train_head(base.model, base.tokenizer, inputs, targets, task.labels, seed)

    async def program(question: str) -> Answer:
        return await likeliest_label(question, task.prompt)

    return Solver(program, TinyClassifier(classifier, base.tokenizer), parameter_count(classifier))


def finetuned(base: Backend, method: str = "sft") -> FineTuned:
    """A learner that trains a copy of `base` on the examples it gets: "sft" or "head". `base` must be tiny."""
    return FineTuned(base, method)
