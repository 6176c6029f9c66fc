"""How likely each family is the one to use: the share of resamples in which the rule, applied to them, names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.compare.comparisons import FAMILIES, Best, Option, Sure
from promptlab.compare.payback import totals
from promptlab.compare.spending import FLOPS, USD, Expenses
from promptlab.compare.statistics import Floats, Matrix, mean_draws


@dataclass(frozen=True, slots=True)
class Chance:
    """At a number of labels: `ahead` is how likely the family's best is the most often right of all, `cheapest` how
    likely it costs least of those within the margin of that one; `total` what it costs in all the queries, in `unit`.
    """

    budget: int
    family: str
    ahead: float
    cheapest: float
    total: float | None = None
    unit: str | None = None


def chances_at(
    best: Mapping[str, Best],
    correct: Mapping[str, Matrix],
    expenses: Mapping[Option, Expenses],
    by_cost: Sequence[Option],
    queries: float | None,
    margin: float,
    sure: Sure,
    budget: int,
) -> Iterator[Chance]:
    """Of each family. `correct` are the right answers of its best, `by_cost` the options from the cheapest on, which is
    what counts where the `queries` are not known, or nothing that all of them cost is."""
    names = [name for name in FAMILIES if name in correct]
    if not names:
        return
    acc = np.array([mean_draws(correct[name], sure.items.clusters, sure.resamples) for name in names])  # (F, B)
    paid = {name: expenses.get(best[name].options[0], {}) for name in names}
    unit = next((u for u in (USD, FLOPS) if all(u in paid[name] for name in names)), None) if queries else None
    rank = np.array([[float(min(by_cost.index(option) for option in best[name].options))] for name in names])  # (F, 1)
    if unit is None or queries is None:
        cost: Floats = np.repeat(rank, acc.shape[1], axis=1)
    else:
        each = (totals(paid[name][unit], sure) for name in names)
        cost = np.array([once + queries * query for once, query in each])
    top = acc.max(axis=0)
    ahead = acc >= top - 1e-12
    cost = np.where(acc > top - margin, cost, np.inf)
    cheapest = np.where(cost <= cost.min(axis=0) * (1 + 1e-9), rank, np.inf).argmin(axis=0)  # of equal costs the first
    for i, name in enumerate(names):
        total = None if unit is None or queries is None else paid[name][unit].bill.total(queries)
        share = float((ahead[i] / ahead.sum(axis=0)).mean())
        yield Chance(budget, name, share, float((cheapest == i).mean()), total, unit)
