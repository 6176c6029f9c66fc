"""Prompt optimisation as a learner: the labelled examples pay for a better prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from promptlab.backends.routed import Routed
from promptlab.errors import SetupError
from promptlab.learners.in_context import in_both_ways, reply_tokens
from promptlab.learners.solver import Family, Solver
from promptlab.optimizers.optimizer import Optimizer
from promptlab.options import takes
from promptlab.program import Program
from promptlab.prompt import Prompt
from promptlab.runners import check_backend, run
from promptlab.strategies import likeliest_label, zero_shot
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example


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

    @property
    def description(self) -> str:
        return f"the prompt that {self.method.__name__} finds with the labelled examples"

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver:
        prompt, note = self._found(task, examples, seed)

        def program(question: str) -> Program[Answer]:
            if (solve := self.options.get("solve")) is not None:
                return solve(question, prompt)  # type: ignore[no-any-return]
            return in_both_ways(question, prompt, self.base)

        return Solver(program, self.base, notes=(note,))

    def _found(self, task: Task, examples: Sequence[Example], seed: int) -> tuple[Prompt, str]:
        """The prompt, and how it came about. Too few labels for an honest comparison leave it as it is."""
        proposer = self.proposer or self.base
        options = {"solve": solve_on(self.base, task.prompt), "seed": seed, **self.options}
        if not takes(proposer, "temperature"):
            options.setdefault("temperature", None)
        if not examples:
            return task.prompt, "no labels, so the prompt is as it was given"
        try:
            search = self.method(task.prompt, examples, task.score, **options)
            found = run(search, Routed(self.base, proposer=proposer))
        except SetupError as error:
            return task.prompt, f"the prompt is as it was given: {error}"
        return found, f"{found.instruction!r}, {len(found.shots)} demonstrations: {found.found.why}"


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
    calls, alpha, …; its own too. Where the examples are too few for an honest comparison the prompt stays as it was
    given, and a note says so. Labels are scored where `base` can, or `solve(question, prompt)` answers.
    """
    return Optimized(base, method, proposer, options)
