"""Accuracy by whom an item is about: each subgroup's, and the largest gap between any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from promptlab.compare.cells import Cell
from promptlab.compare.comparisons import Sure
from promptlab.compare.statistics import WILSON, Interval, counted_draws, counted_interval, newcombe

SMALL = 30  # items; a share of fewer has an interval some 0.35 wide, and no part in the largest gap


@dataclass(frozen=True, slots=True)
class Subgroup:
    """`small` ones are told, and take no part in the largest gap."""

    name: str
    n_items: int
    accuracy: Interval
    small: bool


@dataclass(frozen=True, slots=True)
class Subgroups:
    """An arm's accuracy in each subgroup of the test, and `gap`, that of `best` less that of `worst`.

    The two lie furthest apart of `n_pairs`, so their interval is at a level corrected for that number (Bonferroni): it
    leaves out 0 by chance in 5 of 100 studies at most. None where fewer than two are not small.
    """

    arm: str
    family: str
    labels: int
    groups: tuple[Subgroup, ...]
    best: str | None
    worst: str | None
    gap: Interval | None
    n_pairs: int


def subgroups_of(cell: Cell, family: str, sure: Sure) -> Subgroups:
    """One arm's at one number of labels; items without a subgroup are in none."""
    of = np.array([name or "" for name in sure.items.subgroups])
    there = {name: of == name for name in sorted(set(of)) if name}
    groups = tuple(
        Subgroup(name, int(inside.sum()), sure.mean(cell.correct, inside), int(inside.sum()) < SMALL)
        for name, inside in there.items()
    )
    large = [group for group in groups if not group.small]
    pairs = list(combinations(sorted(large, key=lambda group: -group.accuracy.value), 2))
    if not pairs:
        return Subgroups(cell.arm, family, cell.labels, groups, None, None, None, 0)
    best, worst = max(pairs, key=lambda pair: pair[0].accuracy.value - pair[1].accuracy.value)
    gap = _gap(cell, there[best.name], there[worst.name], replace(sure, confidence=corrected(sure.confidence, pairs)))
    return Subgroups(cell.arm, family, cell.labels, groups, best.name, worst.name, gap, len(pairs))


def corrected(confidence: float, pairs: Sequence[object]) -> float:
    return 1 - (1 - confidence) / len(pairs)


def _gap(cell: Cell, one: np.ndarray, other: np.ndarray, sure: Sure) -> Interval:
    clusters, again = sure.items.clusters, sure.resamples
    sides = [np.broadcast_to(inside, cell.correct.shape) for inside in (one, other)]
    draws = [counted_draws(cell.correct, side, clusters, again) for side in sides]
    value = float(cell.correct[:, one].mean() - cell.correct[:, other].mean())
    of_one, of_other = (np.where(side, cell.correct - cell.correct[side].mean(), 0.0) / side.sum() for side in sides)
    either, parts = sides[0] | sides[1], of_one - of_other
    found = counted_interval(value, draws[0] - draws[1], either, parts, clusters, again, sure.confidence, lowest=-1.0)
    n, m = (len(np.unique(clusters[inside])) for inside in (one, other))
    if found.method == WILSON or min(n, m) < 2:  # each side all right or all wrong, or a cluster without another
        p, q = (float(cell.correct[:, inside].mean()) for inside in (one, other))
        low, high = newcombe(p, n, q, m, sure.confidence)
        found = replace(found, low=low, high=high, method=WILSON)
    return sure.told(found, found.n_clusters)
