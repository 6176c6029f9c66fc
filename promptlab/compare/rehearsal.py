"""What a study would take, before anything is asked: its programs run on a stand-in that counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from promptlab.backends import model as model_named
from promptlab.backends.wrappers.worst import most_read, usd_of
from promptlab.compare.plan import planned
from promptlab.compare.study import Arguments, task_of, with_labels
from promptlab.learners import ARMS, arms_named, default_arms
from promptlab.program import attempt
from promptlab.runners import run
from promptlab.types import Reply, Request, Usage

ITEMS = 8  # test items of a cell that are rehearsed; the rest is taken to be like them
BYTES_A_TOKEN = 4  # of English, about
A_REPLY = 128  # tokens, where a request does not say how many at most


class Estimate(NamedTuple):
    """Calls, tokens read (likely, and at most), tokens written (at most), and dollars, where the price is known."""

    calls: int = 0
    read: int = 0
    most_read: int = 0
    most_written: int = 0
    usd: float | None = None
    most_usd: float | None = None

    def __str__(self) -> str:
        money = "the price of the model is not known"
        if self.usd is not None and self.most_usd is not None:
            money = f"${self.usd:,.2f} to ${self.most_usd:,.2f}"
        return (
            f"It would take {self.calls:,} calls that read about {self.read:,} tokens ({self.most_read:,} at most) and "
            f"write up to {self.most_written:,}: {money}."
        )


class StandIn:
    """Looks like a model, and answers nothing of worth: it counts what it is asked."""

    batched = True

    def __init__(self, backend: Any, word: str) -> None:
        self.backend, self.word, self.seen = backend, word, Estimate()

    def __getattr__(self, name: str) -> Any:
        if name in ("backend", "agenerate", "aclose", "identity"):
            raise AttributeError(name)
        return getattr(self.backend, name)

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._counted(request) for request in requests]

    def _counted(self, request: Request) -> Reply:
        size = most_read(self.backend, request)
        likely = size if self.backend.batched else -(-size // BYTES_A_TOKEN)
        written = 0 if request.continuations else A_REPLY if request.max_tokens is None else request.max_tokens
        seen = self.seen
        self.seen = Estimate(seen.calls + 1, seen.read + likely, seen.most_read + size, seen.most_written + written)
        return Reply(f"The answer is {self.word}.", scores=tuple(-float(i) for i in range(len(request.continuations))))


def rehearse(given: Arguments) -> Estimate:
    """What the study of `given` would ask of its model, from the first items of every cell. Nothing is sent."""
    task, _, _ = task_of(given)
    given, _ = with_labels(given, task)
    base = model_named(given.model)
    learners = arms_named(given.arms, base) if given.arms else default_arms(base)[0]
    stand_in = StandIn(base, task.labels[0])
    asking = {name: ARMS[name](stand_in) for name, learner in learners.items() if learner.family == "prompting"}  # type: ignore[attr-defined,arg-type]
    if not asking:
        return Estimate(usd=0.0, most_usd=0.0)
    plan = planned(task, asking, given.labels or [], range(given.seed, given.seed + given.seeds))
    items = plan.task.test[:ITEMS]
    total = Estimate()
    for cell in plan.cells():
        stand_in.seen = Estimate()
        solver = plan.arms[cell.arm](
            plan.shown(cell.labels, cell.seed), plan.examples(cell.labels, cell.seed), cell.seed
        )
        run([attempt(solver.program(item.input)) for item in items], solver.backend)
        total = plus(total, stand_in.seen, len(plan.task.test) / len(items))
    return total._replace(
        usd=usd_of(base, Usage(total.read, output_tokens=total.most_written // 2)),
        most_usd=usd_of(base, Usage(total.most_read, output_tokens=total.most_written)),
    )


def plus(total: Estimate, seen: Estimate, times: float) -> Estimate:
    """A cell's counts added, as often as its items stand for others."""
    return Estimate(*(a + round(times * b) for a, b in zip(total[:4], seen[:4], strict=True)))
