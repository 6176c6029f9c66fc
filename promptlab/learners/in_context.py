"""In-context learning as a learner: the labelled examples become demonstrations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from promptlab.errors import ContextOverflow, SetupError
from promptlab.learners.lengths import hopeless
from promptlab.learners.solver import Family, Solver
from promptlab.options import name_of
from promptlab.program import Program, gather
from promptlab.prompt import Prompt
from promptlab.runners import check_backend
from promptlab.splits import text_key
from promptlab.strategies import CONCLUDING, likeliest_label, sampling_on, zero_shot
from promptlab.strategies.chain_of_thought import triggered
from promptlab.strategies.shots import MOST_NEAREST, PER_QUESTION, SELECTORS, Chosen, Selector, concluded, fitting
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Message

ROOM_TO_WRITE = 256  # tokens kept free for a reply that is more than a label
Policy: TypeAlias = Callable[[Sequence[Example]], Selector]


@dataclass(frozen=True)
class InContext:
    """See `in_context`."""

    base: Backend
    shots: str | Policy = "balanced"
    calibrated: bool = False
    strategy: Any = None
    family: ClassVar[Family] = "prompting"
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_backend(self.base, "in_context")
        if not callable(self.shots) and self.shots not in SELECTORS:
            raise SetupError(f"in_context(shots={self.shots!r}): known are {', '.join(SELECTORS)}.")
        if not getattr(self.base, "chats", True):
            raise SetupError(f"{name_of(self.base)} takes no prompts.")
        if self.calibrated and not getattr(self.base, "scores", False):
            raise SetupError(f"calibration needs log-probabilities, which {name_of(self.base)} does not give.")

    @property
    def draws_without_labels(self) -> bool:
        """A strategy may sample; else nothing is random but the choice and order of demonstrations."""
        return self.strategy is not None

    @property
    def policy(self) -> str:
        """What its demonstrations are called: by name, or as the function is that chooses them."""
        made_of = getattr(self.shots, "func", self.shots)
        return self.shots if isinstance(self.shots, str) else getattr(made_of, "__name__", type(made_of).__name__)

    @property
    def description(self) -> str:
        if self.strategy is not None:
            name = getattr(self.strategy, "func", self.strategy).__name__
            return f"{name.replace('_', ' ')}, after {self.policy} demonstrations"
        most = "" if self.shots in ("balanced", "random") or callable(self.shots) else f" up to {MOST_NEAREST}"
        calibrated = ", contextual calibration" if self.calibrated else ""
        return f"{self.policy} demonstrations, as many as fit{most}{calibrated}; no demonstrations at 0 labels"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        usable = [e for e in examples if self._fits(task, (e,), "")]
        select = self._selector(usable, seed)
        always = isinstance(self.shots, str) and self.shots not in PER_QUESTION
        usual = self._usual(task, select, usable) if always else Chosen((), len(usable))
        texts = {text_key(shot.input) for shot in usual.shots}

        async def program(question: str) -> Answer:
            if hopeless(question, self.base):
                raise ContextOverflow(f"the text has {len(question):,} characters, far more than the context holds")
            chosen = usual
            if not always or text_key(question) in texts or not self._fits(task, usual.shots, question):
                chosen = fitting(select(question), lambda shots: self._fits(task, shots, question))
            shots = chosen.shots
            while True:
                try:
                    answer = await self._answer(question, self._prompt(task, shots), seed)
                except ContextOverflow:  # of a hosted model, which nobody could ask how much it holds
                    if not shots:
                        raise
                    shots = shots[len(shots) - len(shots) // 2 :]  # the best half: they come last
                else:
                    return answer.but(shots=len(shots), left_out=len(examples) - len(shots))

        return Solver(program, self.base)

    def _usual(self, task: Task, select: Selector, examples: Sequence[Example]) -> Chosen:
        """The demonstrations that nearly every question is asked with, so that an engine reads them once.

        They leave room for a question as long as nine in ten examples are at most: a single outlier must not take
        demonstrations from all. Longer questions get fewer, each for itself.
        """
        inputs = sorted((e.input for e in examples), key=len)
        stand_in = inputs[(9 * len(inputs) - 1) // 10] if inputs else ""
        return fitting(select(""), lambda shots: self._fits(task, shots, stand_in))

    def _selector(self, examples: Sequence[Example], seed: int) -> Selector:
        return SELECTORS[self.shots](examples, seed) if isinstance(self.shots, str) else self.shots(examples)

    def _fits(self, task: Task, shots: Sequence[Example], question: str) -> bool:
        """Whether the prompt and its reply fit the context, where the backend can say."""
        context = getattr(self.base, "context_tokens", None)
        count = getattr(self.base, "count_tokens", None) if self.base.batched else likely_tokens
        if context is None or count is None:
            return True
        if any(hopeless(text, self.base) for text in (question, *(shot.input for shot in shots))):
            return False
        asked, reply = question, reply_tokens(task.prompt) or ROOM_TO_WRITE
        if self.strategy is not None:  # others than chain of thought may add less to the question
            asked, reply = triggered(question), ROOM_TO_WRITE
        return int(count(self._prompt(task, shots).render(asked))) + reply <= int(context)

    def _prompt(self, task: Task, shots: Sequence[Example]) -> Prompt:
        """The task's prompt with demonstrations, which end in "The answer is …" for strategies that look for it."""
        reads_conclusions = getattr(self.strategy, "func", self.strategy) in CONCLUDING
        return task.prompt.with_shots(concluded(shots, task.prompt) if reads_conclusions else shots)

    def _answer(self, question: str, prompt: Prompt, seed: int) -> Program[Answer]:
        if self.strategy is not None:
            options = sampling_on(self.base, self.strategy, draw(seed, question))
            return self.strategy(question, prompt=prompt, **options)  # type: ignore[no-any-return]
        return in_both_ways(question, prompt, self.base, self.calibrated)


def likely_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens a hosted model makes of a chat: English has four bytes a token, most others fewer."""
    return sum(4 + len(message.content.encode("utf-8", "replace")) // 3 for message in messages)


async def in_both_ways(question: str, prompt: Prompt, backend: Backend, calibrated: bool = False) -> Answer:
    """The likeliest label, and beside it what the model says when asked; only that where labels cannot be scored."""
    asked = zero_shot(question, prompt, max_tokens=reply_tokens(prompt))
    if not (prompt.labels and getattr(backend, "scores", False)):
        return await asked
    scored, generated = await gather(likeliest_label(question, prompt, calibrated), asked)
    return scored.but(generated=generated)


def draw(seed: int, question: str) -> int:
    """The seed, of 32 bits, that a question is sampled with: its own in every repeat of the study."""
    said = f"{seed}\0{question}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(said).digest()[:4], "big")


def reply_tokens(prompt: Prompt) -> int | None:
    """Room for any label, in tokens of at least a byte, and a few words around it; None where the output is free."""
    return 8 + max(len(label.encode()) for label in prompt.labels) if prompt.labels else None


def in_context(
    base: Backend, shots: str | Policy = "balanced", *, calibrated: bool = False, strategy: Any = None
) -> InContext:
    """A learner that shows the examples it gets as demonstrations.

    `shots` orders them: "balanced" (labels take turns), "random", "nearest" to each question by TF-IDF or "bm25", near
    to it and unlike each other ("diverse", "dpp"), or those that stand for the most others ("vote-k"); of all but the
    first two there are at most 32. It may be a function that makes a selector of the examples, as
    `partial(embedded, embed=…)` is. A question is never its own demonstration. As many are shown as fit the context;
    the rest are left out and counted. Labels are chosen by log-probability where the backend gives it, with the free
    generation beside it, and `calibrated` corrects the former (Zhao et al. 2021). `strategy` replaces both by a program
    `strategy(question, prompt=…, seed=…)`, chain of thought for instance; the seed, one for each question and study
    seed, is meant for what it asks, and left out where the model takes none. Chain of thought and self-consistency look
    for "The answer is …" in a reply, so a demonstration of target X says "The answer is X."
    """
    return InContext(base, shots, calibrated, strategy)
