"""In-context learning as a learner: the labelled examples become demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from promptlab.errors import ContextOverflow, SetupError
from promptlab.learners.lengths import hopeless
from promptlab.learners.solver import Family, Solver
from promptlab.program import Program, gather
from promptlab.prompt import Prompt
from promptlab.strategies import likeliest_label, zero_shot
from promptlab.strategies.shots import Chosen, Selector, at_random, balanced, fitting, nearest
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example

SELECTORS = ("balanced", "random", "nearest")


@dataclass(frozen=True)
class InContext:
    """See `in_context`."""

    base: Backend
    shots: str = "balanced"
    calibrated: bool = False
    strategy: Any = None
    family: ClassVar[Family] = "prompting"
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.shots not in SELECTORS:
            raise SetupError(f"in_context(shots={self.shots!r}): known are {', '.join(SELECTORS)}.")
        if self.calibrated and not getattr(self.base, "scores", False):
            raise SetupError(f"calibration needs log-probabilities, which {self.base!r} does not give.")

    @property
    def description(self) -> str:
        if self.strategy is not None:
            return f"{self.strategy.__name__.replace('_', ' ')}, after {self.shots} demonstrations"
        calibrated = ", contextual calibration" if self.calibrated else ""
        return f"{self.shots} demonstrations, as many as fit{calibrated}; no demonstrations at 0 labels"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        usable = [e for e in examples if self._fits(task, (e,), "")]
        too_long = len(examples) - len(usable)
        select = self._selector(usable, seed)
        usual = self._usual(task, select, usable)

        async def program(question: str) -> Answer:
            if hopeless(question, self.base):
                raise ContextOverflow(f"the text has {len(question):,} characters, far more than the context holds")
            chosen = usual
            if self.shots == "nearest" or not self._fits(task, usual.shots, question):
                chosen = fitting(select(question), lambda shots: self._fits(task, shots, question))
            answer = await self._answer(question, task.prompt.with_shots(chosen.shots))
            return answer.but(shots=len(chosen.shots), left_out=chosen.left_out + too_long)

        return Solver(program, self.base)

    def _usual(self, task: Task, select: Selector, examples: Sequence[Example]) -> Chosen:
        """The demonstrations that nearly every question is asked with, so that an engine reads them once.

        They leave room for a question as long as nine in ten examples are at most: a single outlier must not take
        demonstrations from all. Longer questions get fewer, each for itself.
        """
        inputs = sorted((e.input for e in examples), key=len)
        stand_in = inputs[(9 * len(inputs) - 1) // 10] if inputs else ""
        return fitting(select(stand_in), lambda shots: self._fits(task, shots, stand_in))

    def _selector(self, examples: Sequence[Example], seed: int) -> Selector:
        if self.shots == "nearest":
            return nearest(examples)
        return (balanced if self.shots == "balanced" else at_random)(examples, seed)

    def _fits(self, task: Task, shots: Sequence[Example], question: str) -> bool:
        """Whether the prompt and its reply fit the context, where the backend can say."""
        context, count = getattr(self.base, "context_tokens", None), getattr(self.base, "count_tokens", None)
        if context is None or count is None:
            return True
        if any(hopeless(text, self.base) for text in (question, *(shot.input for shot in shots))):
            return False
        used = int(count(task.prompt.with_shots(shots).render(question)))
        return used + (reply_tokens(task.prompt) or 256) <= int(context)

    def _answer(self, question: str, prompt: Prompt) -> Program[Answer]:
        if self.strategy is not None:
            return self.strategy(question, prompt=prompt)  # type: ignore[no-any-return]
        return in_both_ways(question, prompt, self.base, self.calibrated)


async def in_both_ways(question: str, prompt: Prompt, backend: Backend, calibrated: bool = False) -> Answer:
    """The likeliest label, and beside it what the model says when asked; only that where labels cannot be scored."""
    asked = zero_shot(question, prompt, max_tokens=reply_tokens(prompt))
    if not (prompt.labels and getattr(backend, "scores", False)):
        return await asked
    scored, generated = await gather(likeliest_label(question, prompt, calibrated), asked)
    return scored.but(generated=generated)


def reply_tokens(prompt: Prompt) -> int | None:
    """Room for any label, in tokens of at least a byte, and a few words around it; None where the output is free."""
    return 8 + max(len(label.encode()) for label in prompt.labels) if prompt.labels else None


def in_context(base: Backend, shots: str = "balanced", *, calibrated: bool = False, strategy: Any = None) -> InContext:
    """A learner that shows the examples it gets as demonstrations.

    `shots` orders them: "balanced" (labels take turns), "random", or "nearest" to each question by TF-IDF. As many are
    shown as fit the context; the rest are left out and counted. Labels are chosen by log-probability where the backend
    gives it, with the free generation beside it, and `calibrated` corrects the former (Zhao et al. 2021). `strategy`
    replaces both by a program `strategy(question, prompt=…)`, chain of thought for instance.
    """
    return InContext(base, shots, calibrated, strategy)
