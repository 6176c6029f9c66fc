"""How far two raters agree beyond chance."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from promptlab.compare.statistics import Floats, Interval, Ints, pooled, resample, student, wilson

KAPPA = "bootstrap over items"
ALL_AGREE = "Wilson score interval of the share that agrees (every resample gave the same value)"


def cohens_kappa(
    a: Ints, b: Ints, n_classes: int, clusters: Ints, draws: int = 2_000, confidence: float = 0.95
) -> Interval | None:
    """Cohen's κ (1960, Educ. Psychol. Meas. 20:37) of two raters of the same items, with its interval.

    κ = (p_o − p_e) / (1 − p_e): the agreement observed and that of chance, from each rater's own shares of the classes,
    which are numbers from 0; all three (N,). None where it is not defined: no items, or both always say one class.
    Clusters of items are resampled, and the interval is stretched for few of them, as everywhere here.
    """
    if not len(a):
        return None
    known, numbers = np.unique(clusters, return_inverse=True)
    numbers, n = pooled(numbers.astype(np.int64), len(known))
    cells = (numbers * n_classes + a) * n_classes + b
    tables = np.bincount(cells, minlength=n * n_classes**2).reshape(n, -1).astype(np.float64)  # (C, K²)
    value = float(_kappa(tables.sum(axis=0), n_classes))
    if np.isnan(value):
        return None
    drawn = _kappa(resample(n, draws).clusters @ tables, n_classes)
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist() if len(drawn) else (value, value)
    method = KAPPA
    if high - low < 1e-12:
        observed, by_chance = _agreement(tables.sum(axis=0), n_classes)
        ends = wilson(float(observed), n, confidence)
        low, high = ((end - float(by_chance)) / (1 - float(by_chance)) for end in ends)
        method = ALL_AGREE
    else:
        stretch = student(max(n - 1, 1), 1 - tail) / NormalDist().inv_cdf(1 - tail)
        low, high = value - stretch * (value - low), value + stretch * (high - value)
    return Interval(value, max(min(low, value), -1.0), min(max(high, value), 1.0), len(a), n, 1, method)


def _agreement(tables: Floats, n_classes: int) -> tuple[Floats, Floats]:
    """p_o and p_e of tables of counts, (..., K²)."""
    shares = tables.reshape(*tables.shape[:-1], n_classes, n_classes)
    shares = shares / shares.sum(axis=(-2, -1), keepdims=True)
    return np.trace(shares, axis1=-2, axis2=-1), (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)


def _kappa(tables: Floats, n_classes: int) -> Floats:
    """κ of each table; not a number where chance alone agrees always."""
    observed, by_chance = _agreement(tables, n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(by_chance < 1 - 1e-12, (observed - by_chance) / (1 - by_chance), np.nan)
    return found
