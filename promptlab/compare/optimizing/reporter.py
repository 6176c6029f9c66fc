"""The only one who is given the test: it asks the first and the last prompt, once, and says how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from promptlab.compare.cells import Items
from promptlab.compare.comparisons import Sure, sure_on
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.statistics import Interval, smallest_detectable_difference
from promptlab.errors import BudgetExceeded, ModelError
from promptlab.program import Program, attempt, gather
from promptlab.prompt import Prompt
from promptlab.splits import clusters
from promptlab.task import Task, scored
from promptlab.types import Answer, Example

TEST = -2  # the first number of its branches: apart from those of the search, which are -1
Row = dict[str, Any]


@dataclass(frozen=True)
class Tested:
    """The first and the last prompt on the test. Without a new prompt there is no `difference`, and p is 1."""

    n: int
    n_clusters: int
    detectable: float
    seed: Interval
    final: Interval
    difference: Interval | None
    p: float
    wins: int
    losses: int
    failed: dict[str, int]
    unreadable: dict[str, int]
    rows: tuple[Row, ...]


async def asked(
    prompts: Sequence[Prompt], items: Sequence[Example], solve: Callable[[Any, Prompt], Program[Any]], first: int = TEST
) -> list[list[Answer | ModelError]]:
    """Every prompt's answers to the items, one list a prompt; an item is asked on one branch, whatever the prompt."""
    flat = await gather(
        (attempt(solve(item.input, prompt)) for prompt in prompts for item in items),
        branches=[(first, i) for _ in prompts for i in range(len(items))],
    )
    return [flat[i * len(items) : (i + 1) * len(items)] for i in range(len(prompts))]


def affordable(task: Task, calls: int, each: float) -> tuple[Example, ...]:
    """As many of the test items as both prompts can be asked, where an answer takes so many calls, drawn by lot."""
    n = max(1, int(calls / (2 * max(each, 1.0))))
    drawn = Random("test").sample(range(len(task.test)), min(n, len(task.test)))
    return tuple(task.test[i] for i in sorted(drawn))


def tested(
    task: Task, items: Sequence[Example], run: Callable[[Program[Any]], Any], seed: Prompt, final: Prompt, solve: Any
) -> Tested:
    """Ask both prompts all the items, and compare them. The same prompt twice is asked once."""
    changed = final != seed
    answers = run(asked([seed, final] if changed else [seed], items, solve))
    first, last = answers[0], answers[-1]
    rows = [row(task, item, *both) for item, *both in zip(items, first, last, strict=True)]
    sure = sure_of(items)
    a, b = (np.array([[r[who]["score"] == 1 for r in rows]]) for who in ("final", "seed"))
    more = sure.more_right(a, b)  # of each cluster
    wins, losses = int((more > 0).sum()), int((more < 0).sum())
    return Tested(
        len(items),
        len(more),
        smallest_detectable_difference(len(more)),
        sure.accuracy(b),
        sure.accuracy(a),
        sure.difference(a, b) if changed else None,
        sign_flips(more),
        wins,
        losses,
        {who: sum(r[who]["failed"] for r in rows) for who in ("seed", "final")},
        {who: sum(r[who]["answer"] is None and not r[who]["failed"] for r in rows) for who in ("seed", "final")},
        tuple(rows),
    )


def sure_of(items: Sequence[Example]) -> Sure:
    """Intervals over these items, as everywhere: of very many clusters only so many are resampled."""
    of = np.array(clusters(items), dtype=np.int64)
    return sure_on(Items((), np.full(len(of), -1), of, int(of.max()) + 1, (), 0.0), 2_000, 0.95)


def row(task: Task, item: Example, first: Answer | ModelError, last: Answer | ModelError) -> Row:
    told = {"item": item.id, "input": item.input, "target": str(item.target)}
    return {**told, "seed": answered(task, item, first), "final": answered(task, item, last)}


def answered(task: Task, item: Example, answer: Answer | ModelError) -> Row:
    """An answer, what it was worth, and why there is none; a failure stays in the denominator."""
    if isinstance(answer, ModelError):
        why = f"{type(answer).__name__}: {answer}"
        return {"answer": None, "score": 0.0, "failed": True, "why": why, "unpaid": isinstance(answer, BudgetExceeded)}
    value = answer.value
    told = None if value is None else str(value)
    return {"answer": told, "score": scored(task.score, value, item.target)[0], "failed": False, "why": answer.why}
