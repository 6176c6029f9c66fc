"""Fine-tuning as a learner: the labelled examples become training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from promptlab.errors import SetupError
from promptlab.learners.in_context import in_both_ways, reply_tokens
from promptlab.learners.lengths import CHARACTERS_A_TOKEN, end_of
from promptlab.learners.solver import Family, Solver
from promptlab.options import name_of
from promptlab.prompt import Prompt
from promptlab.runners import check_backend
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Message

if TYPE_CHECKING:
    from torch import nn

    from promptlab.backends.tiny import Tiny

M = TypeVar("M", bound="nn.Module")

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
        check_backend(self.base, "finetuned")
        if self.method not in METHODS:
            raise SetupError(f"finetuned(method={self.method!r}): known are {', '.join(METHODS)}.")
        if not hasattr(self.base, "model") or not hasattr(self.base, "tokenizer"):
            raise SetupError(f"{name_of(self.base)} cannot be fine-tuned here; tiny can.")

    @property
    def description(self) -> str:
        return METHODS[self.method]

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        if not examples:
            raise ValueError(f"{self.method} needs at least one labelled example")
        return (tune_head if self.method == "head" else tune_sft)(self.base, task, examples, seed)


def tune_sft(base: Backend, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model to reply to a bare text with its label, then ask it so.

    Which labels there are is learnt, not said: a prompt without that list is what makes a fine-tuned model cheap to
    ask. A text too long for the context is cut at its beginning, in training and when asked; an instruction stays.
    """
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.model import parameter_count
    from promptlab.tiny.sft import sft

    assert isinstance(base, Tiny)
    prompt = replace(task.prompt, says_format=False)
    cut = cutter(base, prompt)
    chats = [[*prompt.render(cut(e.input)), Message("assistant", str(e.target))] for e in examples]
    trained = Tiny.of(finite(sft(base.model, base.tokenizer, chats, seed)), base.tokenizer)

    async def program(question: str) -> Answer:
        return await in_both_ways(cut(question), prompt, trained)

    return Solver(program, trained, parameter_count(trained.model))


def cutter(base: Tiny, prompt: Prompt) -> Callable[[str], str]:
    """What is left of a text so that its prompt and the reply fit the context."""
    room = base.context_tokens - (reply_tokens(prompt) or 256)

    def fits(text: str) -> bool:
        return base.count_tokens(prompt.render(text)) <= room

    return lambda text: end_of(text, fits, base.context_tokens)


def tune_head(base: Backend, task: Task, examples: Sequence[Example], seed: int) -> Solver:
    """Train a copy of the base model with a head over the labels; its answer is the likeliest label.

    The head reads the last tokens that fit the context, so more text than holds them need not be encoded.
    """
    from promptlab.backends.tiny import Tiny, TinyClassifier
    from promptlab.strategies import likeliest_label
    from promptlab.tiny.head import train_head
    from promptlab.tiny.model import parameter_count

    assert isinstance(base, Tiny)
    longest = CHARACTERS_A_TOKEN * base.context_tokens
    inputs, targets = [e.input[-longest:] for e in examples], [str(e.target) for e in examples]
    classifier = finite(train_head(base.model, base.tokenizer, inputs, targets, task.labels, seed))

    async def program(question: str) -> Answer:
        return await likeliest_label(question[-longest:], task.prompt)

    return Solver(program, TinyClassifier(classifier, base.tokenizer), parameter_count(classifier))


def finite(trained: M) -> M:
    """The model, if training left numbers in it: one loss that is not finite makes every weight not a number."""
    if not all(bool(p.isfinite().all()) for p in trained.parameters()):
        raise FloatingPointError("training diverged: the weights are not finite numbers")
    return trained


def finetuned(base: Backend, method: str = "sft") -> FineTuned:
    """A learner that trains a copy of `base` on the examples it gets: "sft" or "head". `base` must be tiny."""
    return FineTuned(base, method)
