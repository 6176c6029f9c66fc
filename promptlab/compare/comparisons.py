"""Arms against each other on the same items and seeds, without flattering the one that is picked as best.

There is no separate set to choose the best arm of a family on, so the test clusters are cut in two random halves; the
arm is chosen on one half and scored on the other, and the other way round (cross-fitting; Chernozhukov et al. 2018,
arXiv 1608.00060, section 3, used here for a choice). Where both halves choose the same arm, as they do when one is
clearly best, its score is simply that arm's score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.compare import statistics
from promptlab.compare.cells import Cell, Items
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.statistics import Floats, Interval, Matrix, Resamples
from promptlab.errors import DataError

PROMPTING, FINE_TUNING, BASELINE = FAMILIES = ("prompting", "fine-tuning", "baseline")
CONTROL, ANOTHER_MODEL = OUTSIDE = ("control", "another model")  # shown beside the families, and never chosen
MAJORITY_ARM = "majority"  # always gives the most frequent answer: a bar to clear, no rival where there are others
FAMILY_QUESTION = "Family against family"
BASELINE_QUESTION = "Each language-model arm against the best baseline"
RUNNER_UP_QUESTION = "The best arm against the runner-up"
RUNNER_UP = "the runner-up"
OUTSIDE_QUESTION = "Each control and each arm of another model against the best arm"
QUESTIONS = (FAMILY_QUESTION, BASELINE_QUESTION, RUNNER_UP_QUESTION, OUTSIDE_QUESTION)


@dataclass(frozen=True, slots=True)
class Option:
    """What one could use: an arm with so many labels."""

    arm: str
    labels: int

    def at(self, budget: int) -> str:
        """Its name where `budget` labels are to be had; an option that uses fewer says so."""
        return self.arm if self.labels == budget else f"{self.arm} ({self.labels or 'no'} labels)"


@dataclass(frozen=True, slots=True)
class Best:
    """The cross-fitted best of a family (or of "all") at a budget: one option, or two where the halves differ."""

    family: str
    budget: int
    options: tuple[Option, ...]
    accuracy: Interval

    @property
    def name(self) -> str:
        return " or ".join(option.at(self.budget) for option in self.options)


@dataclass(frozen=True, slots=True)
class Difference:
    """a - b in accuracy at a budget; `a` and `b` are names, and families where the question is between families.

    `wins`, `losses` and `ties` count clusters; p is that of `sign_flips`, `p_holm` adjusted over the question's. The
    variance of the difference is what its seeds add to it plus that by its clusters: see `statistics.variances`.
    """

    question: str
    budget: int
    a: str
    b: str
    a_family: str
    b_family: str
    interval: Interval
    wins: int
    losses: int
    ties: int
    p: float
    p_holm: float
    seeds_variance: float = 0.0
    items_variance: float = 0.0

    @property
    def reversed(self) -> Difference:
        """The same difference told the other way round."""
        i = self.interval
        turned = replace(i, value=-i.value, low=-i.high, high=-i.low)
        return replace(
            self,
            a=self.b,
            b=self.a,
            a_family=self.b_family,
            b_family=self.a_family,
            interval=turned,
            wins=self.losses,
            losses=self.wins,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Sure:
    """What every interval of a run shares: the items, the resamples and the level.

    Where nothing was `drawn` with a seed, one seed is all there is: the intervals say that instead of warning. `items`
    are in the clusters that are resampled; where those were pooled, `voters` are in those that there are.
    """

    items: Items
    resamples: Resamples
    confidence: float
    drawn: bool = True
    voters: Items | None = None

    def more_right(self, a: Matrix, b: Matrix) -> Floats:
        who = self.voters or self.items
        return statistics.more_right(a, b, who.clusters, who.n_clusters)

    def accuracy(self, correct: Matrix) -> Interval:
        return self.told(statistics.accuracy(correct, self.items.clusters, self.resamples, self.confidence))

    def difference(self, a: Matrix, b: Matrix) -> Interval:
        return self.told(statistics.paired_difference(a, b, self.items.clusters, self.resamples, self.confidence))

    def mean(self, values: NDArray[Any], of: Matrix) -> Interval:
        """Over those of the items, (N,), that `of` says."""
        counted = np.broadcast_to(of, values.shape)
        found = statistics.counted_mean(values, counted, self.items.clusters, self.resamples, self.confidence)
        return self.told(found, len(np.unique((self.voters or self.items).clusters[of])))

    def macro_f1(self, cell: Cell) -> Interval | None:
        items = self.items
        if not items.classes:
            return None
        n = len(items.classes)
        found = statistics.macro_f1(cell.answers, items.targets, n, items.clusters, self.resamples, self.confidence)
        return self.told(found)

    def told(self, interval: Interval, n_clusters: int = 0) -> Interval:
        """With the clusters that there are, and what one seed means here."""
        once = interval.method == statistics.ITEMS and not self.drawn
        method = statistics.RUN_ONCE if once else interval.method
        return replace(interval, method=method, n_clusters=n_clusters or (self.voters or self.items).n_clusters)


def sure_on(items: Items, draws: int, confidence: float) -> Sure:
    """Intervals over these items: no more clusters are resampled than need be, every one of them votes."""
    pooled = items.pooled()
    return Sure(pooled, statistics.resample(pooled.n_clusters, draws), confidence, voters=items)


class Side(NamedTuple):
    """One side of a comparison: who, and its right answers (seeds, items)."""

    best: Best
    correct: Matrix


def aligned(cells: Sequence[Cell]) -> dict[Option, Matrix]:
    """The cells' right answers on the seeds they have in common.

    A cell without labels that ran once counts for every seed. Raises DataError where no seed is common.
    """
    free = [cell for cell in cells if cell.labels == 0 and len(cell.seeds) == 1]
    seeded = [set(cell.seeds) for cell in cells if cell not in free] or [set(cells[0].seeds)]
    seeds = sorted(set.intersection(*seeded))
    if not seeds:
        raise DataError("The arms have no seed in common, so they cannot be paired. Run them all on the same seeds.")
    return {Option(cell.arm, cell.labels): cell.on(seeds) for cell in cells}


def cross_fitted(scored: Mapping[Option, Matrix], items: Items, rank: int = 0) -> tuple[tuple[Option, ...], Matrix]:
    """The best (rank 0) or the runner-up (rank 1), chosen on one half of the clusters and scored on the other.

    Gives the options chosen, without repeats, and their right answers put together. The cut is random and one for
    all choices; equal options go by their order in the run.
    """
    half = np.random.Generator(np.random.Philox(1905)).permutation(items.n_clusters) % 2 == 0
    side = half[items.clusters]
    options, matrices = list(scored), list(scored.values())
    mixed, chosen = np.empty_like(matrices[0]), []
    for scoring in (side, ~side):
        choosing = ~scoring if (~scoring).any() else scoring  # a single cluster has no other half
        order = np.argsort([-matrix[:, choosing].mean() for matrix in matrices], kind="stable")
        mixed[:, scoring] = matrices[order[rank]][:, scoring]
        if scoring.any():
            chosen.append(options[order[rank]])
    return tuple(dict.fromkeys(chosen)), mixed


class Compared(NamedTuple):
    """Where a number of labels is to be had: the best of each family and of "all", the right answers of each family's,
    (seeds, items), and all differences."""

    best: list[Best]
    correct: dict[str, Matrix]
    differences: list[Difference]


def compare_at(budget: int, cells: Sequence[Cell], family: Mapping[str, str], sure: Sure) -> Compared:
    """Everything compared where `budget` labels are to be had. `cells`: those at it, and those without labels."""
    everything = aligned(cells)
    there = {o: m for o, m in everything.items() if family[o.arm] in FAMILIES}
    if not there:  # only controls and other models run here: nothing to choose from
        return Compared([], {}, [])
    # An arm that makes no use of labels runs at every budget all the same; it is told once, as needing none.
    told = {o: m for o, m in there.items() if not (o.labels and _as_without(o, there))}
    scored = {o: m for o, m in told.items() if o.arm != MAJORITY_ARM} or told

    def champion(name: str, among: Mapping[Option, Matrix], rank: int = 0) -> Side:
        options, correct = cross_fitted(among, sure.items, rank)
        return Side(Best(name, budget, options, sure.accuracy(correct)), correct)

    members = {name: {o: m for o, m in scored.items() if family[o.arm] == name} for name in FAMILIES}
    members[BASELINE] = members[BASELINE] or {o: m for o, m in told.items() if o.arm == MAJORITY_ARM}
    champions = {name: champion(name, among) for name, among in members.items() if among}
    order = [champions[name] for name in (FINE_TUNING, PROMPTING, BASELINE) if name in champions]
    differences = [_difference(FAMILY_QUESTION, a, b, sure) for a, b in combinations(order, 2)]
    if baseline := champions.get(BASELINE):
        singles = [champion(name, {o: m}) for name in (PROMPTING, FINE_TUNING) for o, m in members[name].items()]
        differences += [_difference(BASELINE_QUESTION, single, baseline, sure) for single in singles]
    everyone = []
    if len(scored) > 1:
        everyone = [champion("all", scored), champion("runner-up", scored, rank=1)]
        first, second = everyone
        last = _difference(RUNNER_UP_QUESTION, first, second, sure)
        swapped = set(first.best.options) & set(second.best.options)  # the halves disagree on which is which
        differences.append(replace(last, b=RUNNER_UP) if swapped else last)
    best = champion("all", scored)
    outside = {o: m for o, m in everything.items() if family[o.arm] in OUTSIDE and o.labels == budget}
    for option, correct in outside.items():
        side = Side(Best(family[option.arm], budget, (option,), sure.accuracy(correct)), correct)
        differences.append(_difference(OUTSIDE_QUESTION, side, best, sure))
    found = [side.best for side in (*champions.values(), *everyone[:1])]
    return Compared(found, {name: side.correct for name, side in champions.items()}, differences)


def _as_without(option: Option, scored: Mapping[Option, Matrix]) -> bool:
    """Whether the arm is right on the same items when it gets no labels at all."""
    without = scored.get(Option(option.arm, 0))
    return without is not None and np.array_equal(without, scored[option])


def _difference(question: str, a: Side, b: Side, sure: Sure) -> Difference:
    more = sure.more_right(a.correct, b.correct)
    p = sign_flips(more)
    apart = a.correct.astype(np.float64) - b.correct
    by_seeds, by_items = statistics.variances(apart, sure.items.clusters, sure.items.n_clusters)
    return Difference(
        question=question,
        budget=a.best.budget,
        a=a.best.name,
        b=b.best.name,
        a_family=a.best.family,
        b_family=b.best.family,
        interval=sure.difference(a.correct, b.correct),
        wins=int((more > 0).sum()),
        losses=int((more < 0).sum()),
        ties=int((more == 0).sum()),
        p=p,
        p_holm=p,
        seeds_variance=by_seeds,
        items_variance=by_items,
    )


def with_holm(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """The differences in their order, `p_holm` adjusted within each question over all budgets."""
    adjusted = list(differences)
    for question in QUESTIONS:
        places = [place for place, d in enumerate(differences) if d.question == question]
        for place, p in zip(places, statistics.holm([differences[place].p for place in places]), strict=True):
            adjusted[place] = replace(differences[place], p_holm=p)
    return tuple(adjusted)
