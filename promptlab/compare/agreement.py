"""How far two raters agree beyond chance."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from promptlab.compare.confusion import agreements, cohens_kappa, kappas
from promptlab.compare.statistics import Interval, Ints, pooled, resample, student, wilson

KAPPA = "bootstrap over items"
ALL_AGREE = "Wilson score interval of the share that agrees (every resample gave the same value)"


def agreement(
    a: Ints, b: Ints, n_classes: int, clusters: Ints, draws: int = 2_000, confidence: float = 0.95
) -> Interval | None:
    """Cohen's κ (see `confusion.kappas`) of two raters of the same items, with its interval.

    The classes are numbers from 0; all three (N,). None where it is not defined: no items, or both always say one
    class. Clusters of items are resampled, and the interval is stretched for few of them, as everywhere here.
    """
    if not len(a):
        return None
    known, numbers = np.unique(clusters, return_inverse=True)
    numbers, n = pooled(numbers.astype(np.int64), len(known))
    cells = (numbers * n_classes + a) * n_classes + b
    tables = np.bincount(cells, minlength=n * n_classes**2).reshape(n, -1).astype(np.float64)  # (C, K²)
    table = tables.sum(axis=0).reshape(n_classes, n_classes)
    value = cohens_kappa(table)
    if value is None:
        return None
    drawn = kappas((resample(n, draws).clusters @ tables).reshape(draws, n_classes, n_classes))
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist() if len(drawn) else (value, value)
    method = KAPPA
    if high - low < 1e-12:
        observed, by_chance = agreements(table)
        ends = wilson(float(observed), n, confidence)
        low, high = ((end - float(by_chance)) / (1 - float(by_chance)) for end in ends)
        method = ALL_AGREE
    else:
        stretch = student(max(n - 1, 1), 1 - tail) / NormalDist().inv_cdf(1 - tail)
        low, high = value - stretch * (value - low), value + stretch * (high - value)
    return Interval(value, max(min(low, value), -1.0), min(max(high, value), 1.0), len(a), n, 1, method)
