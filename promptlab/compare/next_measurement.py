"""What to measure next where nothing is decided: more seeds, more test items, or another number of labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from promptlab.compare.comparisons import FAMILY_QUESTION, Difference
from promptlab.compare.crossover import CROSSES
from promptlab.compare.doubts import FEW_SEEDS
from promptlab.compare.hypotheses import not_worse
from promptlab.compare.overtaking import families
from promptlab.compare.statistics import satterthwaite, student
from promptlab.compare.wording import labels, number, shown

if TYPE_CHECKING:
    from promptlab.compare.measures import Results
    from promptlab.compare.points import Point

POWER = 0.8
MOST_SEEDS = 30  # more are a study of another kind
MANY = 10**8  # more of anything are as good as never
SEEDS, ITEMS, LABELS = "seeds", "test items", "labels"


@dataclass(frozen=True, slots=True)
class Next:
    """`what` is "seeds", "test items" or "labels"; `number` how many there should be in all (of labels: which number to
    try); `said` the sentence."""

    what: str
    number: int
    said: str


def enough(d: Difference, margin: float, confidence: float) -> tuple[int | None, int | None]:
    """How many seeds alone, and how many clusters of items alone, would settle a difference; None where none would.

    Settled: told apart the way it looks now, or shown to lie within the margin; in 4 of 5 studies if it is what it
    looks like now. The variance of its mean is what the seeds add to it plus what the items do, each falling with
    their number, and its interval's t has the degrees of freedom that so many of each leave.
    """
    S, C = d.interval.n_seeds, d.interval.n_clusters

    def settles(n_seeds: int, n_clusters: int) -> bool:
        seeds, items = d.seeds_variance * S / n_seeds, d.items_variance * C / n_clusters
        t = student(satterthwaite(seeds, items, n_seeds, max(n_clusters, 2)), 0.5 + confidence / 2)
        return _settled(abs(d.interval.value), math.sqrt(seeds + items), t, margin) >= POWER

    return _fewest(S, lambda n: settles(n, C)), _fewest(C, lambda n: settles(S, n))


def _fewest(n: int, enough: Callable[[int], bool]) -> int | None:
    """The least number from n on that is enough, as all above it are."""
    low, high = n - 1, n
    while not enough(high):
        low, high = high, 2 * high
        if high > MANY:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _settled(v: float, error: float, t: float, margin: float) -> float:
    """How often a difference v >= 0 is settled that is estimated with this standard error.

    Told apart is an estimate more than t errors above 0; within the margin one that ends t errors short of it on either
    side. Near 0 both sides fail alike, so the t that power takes with one side would give 60 % (Julious 2004, Stat.
    Med. 23:1921, on equivalence: half the failures are each side's). The error is taken as known.
    """
    if not error:
        return float(v != 0 or margin > 0)
    normal, far = NormalDist(), t * error
    within = max(min(margin - far, far), 0.0)
    return normal.cdf((v - far) / error) + normal.cdf((within - v) / error) - normal.cdf((-within - v) / error)


def next_measurement(results: Results, undecided: Sequence[int], unproven: Sequence[int] = ()) -> Next | None:
    """The cheapest measurement that is likely to settle what is open: more seeds take no label, so they come first;
    then the test set that need grow least. None where nothing is open.

    `undecided` are the numbers of labels at which families are not told apart, `unproven` those at which nothing is
    shown to be above the commonest class.
    """
    open_ = [d for budget in undecided for d in _open_at(results, budget)]
    if not open_:
        nearly = [top for budget in unproven if (top := results.nearly_above(budget)) is not None]
        return _more_of(max(nearly, key=lambda top: top.accuracy.low), results) if nearly else _between(results)
    ways = [(d, *enough(d, results.margin, results.confidence)) for d in open_]
    by_seeds = [(n, d) for d, n, _ in ways if n is not None and d.interval.n_seeds < n <= MOST_SEEDS]
    if by_seeds:
        n, d = min(by_seeds, key=lambda way: way[0])
        return Next(SEEDS, n, f"Run with --seeds {n}: it takes no new labels and should settle {_told(d)}.")
    by_items = [(n, d) for d, _, n in ways if n is not None and n > d.interval.n_clusters]
    if not by_items:
        d = min(open_, key=lambda d: d.seeds_variance)
        n = 2 * d.interval.n_seeds
        return Next(SEEDS, n, f"Run with --seeds {n} and a larger test: neither alone would settle {_told(d)}.")
    clusters, d = min(by_items, key=lambda way: way[0])
    n = math.ceil(clusters * d.interval.n_items / d.interval.n_clusters / 10) * 10
    spare = int(results.run.get("n_train") or 0) - results.budgets[-1]
    held = f" ({spare:,} of your rows are not used: hold more of them back)" if spare > n - results.n_items else ""
    return Next(
        ITEMS, n, f"Test on about {n:,} items in place of {results.n_items:,}{held}: it should settle {_told(d)}."
    )


def _more_of(top: Point, results: Results) -> Next:
    """Twice as much of what an arm's interval is as wide for: seeds where they are few, else items."""
    bar = f"may show that {top.arm}, now {shown(top.accuracy)}, is above {number(results.majority)}"
    if 1 < (n := top.accuracy.n_seeds) <= FEW_SEEDS:
        return Next(SEEDS, 2 * n, f"Run with --seeds {2 * n}: it takes no new labels and {bar}.")
    return Next(ITEMS, 2 * results.n_items, f"Test on about {2 * results.n_items:,} items: it {bar}.")


def _open_at(results: Results, budget: int) -> list[Difference]:
    """Neither told apart nor shown to be as good as each other."""
    there = [
        d
        for d in results.differences
        if d.budget == budget and d.a_family != d.b_family and d.question == FAMILY_QUESTION
    ]
    over_zero = [d for d in there if d.interval.low <= 0 <= d.interval.high and d.interval.low < d.interval.high]
    return [d for d in over_zero if not all(not_worse(way.interval, results.margin) for way in (d, d.reversed))]


def _told(d: Difference) -> str:
    with_ = f"with {labels(d.budget)}" if d.budget else "without labels"
    return f"{d.a} over {d.b} {with_}, now {shown(d.interval, sign=True)}"


def _between(results: Results) -> Next | None:
    """Everything tried is decided: where the winner changes between two numbers of labels, what lies between."""
    found = families(results.crossovers)
    if found is None or found.outcome != CROSSES or found.n is None:
        return None
    below = max((k for k in found.labels if k <= found.n), default=0)
    above = min((k for k in found.labels if k > found.n), default=0)
    if above <= max(2 * below, 8):
        return None
    k = round(math.sqrt(max(below, 1) * above))
    return Next(LABELS, k, f"Try {labels(k)} too: fine-tuning overtakes prompting between {below:,} and {above:,}.")


def chance(p: float) -> str:
    """A probability as the decision says it: no share of resamples is certainty."""
    return "> 0.99" if p > 0.99 else "< 0.01" if p < 0.01 else number(p)
