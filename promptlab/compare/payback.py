"""From how many queries on what costs more to begin with has paid: break-even with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from promptlab.compare.comparisons import FINE_TUNING, PROMPTING, Best, Option, Sure
from promptlab.compare.costs import break_even
from promptlab.compare.spending import UNITS, Expense, Expenses
from promptlab.compare.statistics import Floats, mean_draws


@dataclass(frozen=True, slots=True)
class Payback:
    """Between the best prompt and the best fine-tuning at a number of labels, in one unit.

    `instead` costs more once. `n` is the break-even in queries, None where it never comes, as where `low` or `high` are
    None; `p_never` is the share of resamples in which it does not. `once` and `query` are (now's, instead's).
    """

    budget: int
    unit: str
    now: Option
    instead: Option
    n: float | None
    low: float | None
    high: float | None
    p_never: float
    once: tuple[float, float]
    query: tuple[float, float]


def paybacks(
    best: Mapping[tuple[str, int], Best], expenses: Mapping[Option, Expenses], sure: Sure
) -> Iterator[Payback]:
    """At each number of labels where both families were run, in each unit that is known of both."""
    for family, budget in best:
        if family != PROMPTING or (FINE_TUNING, budget) not in best:
            continue
        one, other = best[PROMPTING, budget].options[0], best[FINE_TUNING, budget].options[0]
        for unit in UNITS:
            if unit in expenses[one] and unit in expenses[other]:
                sides = [(option, expenses[option][unit]) for option in (one, other)]
                (now, a), (instead, b) = sorted(sides, key=lambda side: side[1].bill.once)
                yield payback(budget, unit, (now, a), (instead, b), sure)


def payback(
    budget: int, unit: str, now: tuple[Option, Expense], instead: tuple[Option, Expense], sure: Sure
) -> Payback:
    """The interval is a percentile one over the resamples of seeds and items that all of a run share."""
    (name, a), (other, b) = now, instead
    found = np.sort(break_even_draws(*(totals(each, sure) for each in (a, b))))
    outside = int((1 - sure.confidence) / 2 * len(found))
    low, high = float(found[outside]), float(found[-1 - outside])
    return Payback(
        budget,
        unit,
        name,
        other,
        break_even(a.bill, b.bill),
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
        float(np.isinf(found).mean()),
        (a.bill.once, b.bill.once),
        (a.bill.query, b.bill.query),
    )


def totals(expense: Expense, sure: Sure) -> tuple[Floats, Floats]:
    """What is paid once and with a query in each resample, (B,) each."""
    W = sure.resamples.seeds(len(expense.once))
    once = W @ expense.once / W.sum(axis=1)
    return once, mean_draws(expense.query, sure.items.clusters, sure.resamples)


def break_even_draws(now: tuple[Floats, Floats], instead: tuple[Floats, Floats]) -> Floats:
    """`costs.break_even` of each resample; infinite where it never comes."""
    more_once, less_a_query = instead[0] - now[0], now[1] - instead[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.maximum(more_once / less_a_query, 0.0)
    at_once = (less_a_query == 0) & (more_once < 0)
    return np.where(less_a_query > 0, n, np.where(at_once, 0.0, np.inf))
