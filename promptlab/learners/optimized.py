"""Prompt optimisation as a learner: the labelled examples pay for a better prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, ClassVar, NamedTuple

from promptlab.backends.routed import Routed
from promptlab.errors import BudgetExceeded, BudgetSpent, DataError, ModelError, SetupError
from promptlab.learners.in_context import in_both_ways, reply_tokens
from promptlab.learners.solver import Family, Solver
from promptlab.optimizers.found import TooFew
from promptlab.optimizers.optimizer import Optimizer
from promptlab.options import takes
from promptlab.program import Exchange, Program, traced
from promptlab.prompt import Prompt
from promptlab.runners import check_backend, run
from promptlab.strategies import likeliest_label, zero_shot
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example

CALLS_A_LABEL = 20  # that a search may make, where nobody says how many: it grows with what the labels can pay for
MOST_CALLS = 2_000


@dataclass(frozen=True)
class Optimized:
    """See `optimized`."""

    base: Backend
    method: Optimizer
    proposer: Backend | None = None
    options: dict[str, Any] = field(default_factory=dict)
    family: ClassVar[Family] = "prompting"
    needs_labels: ClassVar[bool] = False
    draws_without_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_backend(self.base, "optimized")
        if not callable(self.method):
            raise SetupError(f"optimized takes a model and an optimiser, such as ape; got {self.method!r}.")
        given = list(signature(self.method).parameters)[:3]  # by the task: the prompt, the examples, the score
        if theirs := [name for name in given if name in self.options]:
            raise SetupError(
                f"What counts for {' and '.join(theirs)} is the task's, of every arm: Task(name, prompt, train, test, "
                f"score=…). Leave it out of optimized({self.method.__name__})."
            )
        if unknown := self.options.keys() - known_options(self.method, self.options):
            known = sorted(known_options(self.method, {}) - {*given})
            raise SetupError(
                f"{self.method.__name__} has no option {', '.join(sorted(unknown))}. Its options: {', '.join(known)}."
            )

    @property
    def description(self) -> str:
        return f"the prompt that {self.method.__name__} finds with the labelled examples"

    def most_calls(self, labels: int) -> int:
        """How many calls a search with so many labels makes at most, its proposals among them."""
        return int(self.options.get("calls", min(MOST_CALLS, CALLS_A_LABEL * labels)))

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        learnt = self._learnt(task, examples, seed)

        def program(question: str) -> Program[Answer]:
            if (solve := self.options.get("solve")) is not None:
                return solve(question, learnt.prompt)  # type: ignore[no-any-return]
            return in_both_ways(question, learnt.prompt, self.base)

        replies = [exchange.reply for exchange in learnt.exchanges]
        if spent := next((reply for reply in replies if isinstance(reply, BudgetExceeded)), None):
            raise BudgetSpent(spent)
        usages = [reply.usage for reply in replies if not isinstance(reply, ModelError)]
        tokens = sum(usage.input_tokens + usage.output_tokens for usage in usages)
        return Solver(program, self.base, notes=(learnt.note,), learn_calls=len(replies), learn_tokens=tokens)

    def _learnt(self, task: Task, examples: Sequence[Example], seed: int) -> Learnt:
        """The prompt, and how it came about. Too few labels for an honest comparison leave it as it is."""
        proposer = self.proposer or self.base
        options = {"solve": solve_on(self.base, task.prompt), "seed": seed, **self.options}
        options.setdefault("calls", self.most_calls(len(examples)))
        if not takes(proposer, "temperature"):
            options.setdefault("temperature", None)
        if not examples:
            return Learnt(task.prompt, "no labels, so the prompt is as it was given")

        async def searched() -> Any:
            try:
                return await self.method(task.prompt, examples, task.score, **options)
            except (TooFew, DataError) as error:  # also after the first answer, when it is known what one costs
                return error

        found, exchanges = run(traced(searched()), Routed(self.base, proposer=proposer))
        if isinstance(found, TooFew | DataError):
            return Learnt(task.prompt, f"the prompt is as it was given: {found}", exchanges)
        note = f"{found.instruction!r}, {len(found.shots)} demonstrations: {found.found.why}"
        return Learnt(found, note, exchanges)


class Learnt(NamedTuple):
    """A prompt, what a reader should know of it, and everything that was asked to find it."""

    prompt: Prompt
    note: str
    exchanges: Sequence[Exchange] = ()


def known_options(method: Optimizer, given: Any) -> set[str]:
    """The options that an optimiser names; all that are given where it takes any."""
    parameters = signature(method).parameters
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
        return set(given)
    return set(parameters)


def solve_on(backend: Backend, prompt: Prompt) -> Any:
    """How a prompt's answers are had most cheaply: its labels scored, where the backend can; else asked."""
    if prompt.labels and getattr(backend, "scores", False):
        return likeliest_label

    def solve(question: str, prompt: Prompt) -> Program[Answer]:
        return zero_shot(question, prompt, max_tokens=reply_tokens(prompt))

    return solve


def optimized(base: Backend, method: Optimizer, *, proposer: Backend | None = None, **options: Any) -> Optimized:
    """A learner that has `method` improve the task's prompt with the examples it gets, and then answers with it.

    `proposer` is the model that writes proposals, `base` itself if there is none. `options` are those of the optimiser:
    calls, alpha, …; its own too. `calls` left out are 20 for each labelled example, 2,000 at most, so that what a
    search may spend grows with what it can be judged by. Where the examples are too few for an honest comparison the
    prompt stays as it was given, and a note says so. Labels are scored where `base` can, or `solve(question, prompt)`
    answers.
    """
    return Optimized(base, method, proposer, options)
