"""The model that answers and the one that proposes, as a run has them: kept, paid for once, and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from promptlab.backends import made
from promptlab.backends.routed import Routed
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.backends.wrappers.recorded import FILE
from promptlab.backends.wrappers.recordings import calls_in
from promptlab.backends.wrappers.stack import stacked
from promptlab.backends.wrappers.worst import usd_of
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.compare.optimizing.arguments import Arguments, Calls
from promptlab.errors import ModelError, SetupError
from promptlab.learners.in_context import ROOM_TO_WRITE, reply_tokens
from promptlab.learners.optimized import solve_on
from promptlab.options import name_of, takes
from promptlab.program import Program
from promptlab.prompt import Prompt
from promptlab.runners import run
from promptlab.strategies import CONCLUDING, STRATEGIES, sampling_on, zero_shot
from promptlab.strategies.shots import concluded
from promptlab.task import Task
from promptlab.types import Answer, Backend, Request, Usage

T = TypeVar("T")
BUDGET = "budget.db"
LONGEST_REPLY = 1_024  # tokens of a strategy's reply, where money is counted


class Metered(Wrapper):
    """A model, and what its answers came to: those of before a restart among them, which the cache gives again.

    So a run that was interrupted tells the same sums as one that was not; what was sent twice is the Budget's to count.
    """

    def __init__(self, backend: Backend, on_answers: Callable[[int], None] | None = None) -> None:
        super().__init__(backend)
        self.calls, self.failed, self.usage = 0, 0, Usage(cost_usd=0.0)
        self.on_answers = on_answers

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        replies = await inner.send(requests)
        for reply in replies:
            self.calls += 1
            self.failed += isinstance(reply, ModelError)
            answered = reply.reply if isinstance(reply, ModelError) else reply
            if answered is not None:
                self.usage += self._priced(answered.usage)
        if self.on_answers is not None:
            self.on_answers(len(requests))
        return replies

    def _priced(self, usage: Usage) -> Usage:
        return usage if usage.cost_usd is not None else Usage(**{**asdict(usage), "cost_usd": usd_of(self, usage)})

    @property
    def told(self) -> dict[str, Any]:
        read, written = self.usage.input_tokens, self.usage.output_tokens
        usd = None if self.usage.cost_usd is None else round(self.usage.cost_usd, 9)
        return {"calls": self.calls, "failed": self.failed, "read": read, "written": written, "usd": usd}


class Named(Wrapper):
    """A backend of the user's own that does not say what it is: in this run's folder, by the name it was given."""

    def __init__(self, backend: Backend, spec: str) -> None:
        super().__init__(backend)
        self.identity: Mapping[str, Any] = {"spec": spec}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        return await inner.send(requests)


@dataclass(frozen=True)
class Models:
    """The two models of a run, which may be one, behind one cache file and one budget."""

    task: Metered
    proposer: Metered
    budget: Budget
    also: Callable[[str], Metered]  # another model, kept and counted as they are: a judge
    workers: int = 64

    def run(self, program: Program[T], part: Budget | None = None) -> T:
        """A program's result, with so many requests in flight; it is the same whatever their number.

        `part` is what this program may spend of the whole: answers that are kept count too, as they did when they came.
        """
        task, proposer = (each if part is None else Budgeted(each, part) for each in (self.task, self.proposer))
        return run(program, Routed(task, proposer=proposer), max_in_flight=self.workers)


def models_of(
    given: Arguments,
    calls: Calls,
    folder: Path,
    on_answers: Callable[[int], None] | None = None,
    workers: int = 64,
) -> Models:
    """The models of a run, each of whose answers is on the disk before anything is made of it.

    The bundled model's are kept too: a resumed run then asks it nothing twice either. What a process that was killed
    had in flight may have been served, so it counts, and comes on top of the most calls: the same run goes on.
    """
    limit = None if calls.most is None else calls.most + lost(folder / FILE)
    budget = Budget(usd=given.budget_usd, calls=limit, path=folder / BUDGET)

    def made_of(spec: str) -> Metered:
        backend = allowed(given, spec)
        if getattr(backend, "identity", None) is None:
            backend = Named(backend, spec)
        return Metered(stacked(backend, cache=folder / FILE, budget=budget), on_answers)

    return Models(made_of(given.model), made_of(given.proposer or given.model), budget, made_of, workers)


def allowed(given: Arguments, spec: str) -> Backend:
    """A model by itself. Raises SetupError for one that the run may not, or cannot, ask."""
    backend = made(spec)
    if given.local_only and not getattr(backend, "local", False):
        raise SetupError(f"--local-only: {spec} is not known to stay on this machine (it lacks local = True).")
    if given.budget_usd is not None and usd_of(backend, Usage()) is None:
        raise SetupError(f"--budget-usd: the price of {spec} is not known; give the most --calls in its place.")
    return backend


def lost(answers: Path) -> int:
    """Calls that were sent, and nobody noted how they ended: those in flight when a process was killed."""
    if not answers.exists():
        return 0
    return sum(call.decision == "sent" and call.outcome == "unknown" for call in calls_in(answers))


def solve_of(given: Arguments, task: Task, base: Backend) -> Callable[[Any, Prompt], Program[Answer]]:
    """The program that answers a question with a prompt: the strategy that was named, or the cheapest way there is."""
    if given.strategy is None and task.labels:
        return solve_on(base, task.prompt)  # type: ignore[no-any-return]
    if given.strategy is None:
        longest = max(len(str(e.target).encode()) for e in task.train)

        def ask_it(question: Any, prompt: Prompt) -> Program[Answer]:
            return zero_shot(question, prompt, max_tokens=max(2 * longest, 8) + (reply_tokens(prompt) or 16))

        return ask_it
    strategy = STRATEGIES[given.strategy]
    options = sampling_on(base, strategy, given.seed)
    if given.budget_usd is not None:
        options["max_tokens"] = max(ROOM_TO_WRITE, LONGEST_REPLY)

    def solve(question: Any, prompt: Prompt) -> Program[Answer]:
        if strategy in CONCLUDING:
            prompt = prompt.with_shots(concluded(prompt.shots, prompt))
        return strategy(question, prompt=prompt, **options)

    return solve


def search_options(given: Arguments, task: Task, models: Models, calls: int) -> dict[str, Any]:
    """The options that the optimiser is given, the user's own last but for those that belong to the run."""
    options: dict[str, Any] = dict(given.options)
    if not takes(models.proposer, "temperature"):
        options.setdefault("temperature", None)
    solve = solve_of(given, task, models.task)
    return {**options, "solve": solve, "calls": calls, "seed": given.seed, "alpha": given.alpha}


def described(spec: str, model: Metered) -> str:
    return f"{spec} ({getattr(model, 'description', name_of(model))})"
