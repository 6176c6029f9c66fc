"""Standard errors by formula, as other tools print them; the study's own intervals are bootstraps (`statistics`).

These are here to check numbers of other tools against ours, item by item, and for single means where nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from promptlab.compare.statistics import Floats, student
from promptlab.errors import DataError


class Mean(NamedTuple):
    """A mean with its standard error and what Student's t makes of them: `df` are n - 1, or clusters - 1."""

    value: float
    error: float
    df: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """value ± t · error."""
        half = student(self.df, 0.5 + confidence / 2) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided, of Student's t test that the mean is zero: of differences of pairs, the paired t test."""
        from scipy.special import stdtr

        if self.error == 0:
            return float(self.value == 0)
        return float(2 * stdtr(self.df, -abs(self.value / self.error)))


def mean_error(x: ArrayLike) -> Mean:
    """Of independent items: sd / √n with n - 1 below the variance (lm-eval's mean_stderr, inspect's stderr).

    Raises DataError for fewer than two values, which have no spread.
    """
    values = _values(x)
    return Mean(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), len(values) - 1)


def clustered_error(x: ArrayLike, clusters: Sequence[object]) -> Mean:
    """Of items that come in clusters: the root of G/(G - 1) · Σ_g (Σ_{i in g} (x_i - mean))² / n² (Liang & Zeger 1986,
    Biometrika 73:13; the factor G/(G - 1) as in Stata's CR1, statsmodels and inspect's stderr(cluster=)).

    Items of their own cluster give `mean_error`. Raises DataError for fewer than two clusters, or an item without one.
    """
    values = _values(x)
    if len(clusters) != len(values):
        raise DataError(f"{len(values)} values came with {len(clusters)} clusters. Give each value its cluster.")
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    if len(number) < 2:
        raise DataError("There is one cluster, and one has no spread. A clustered error takes at least two.")
    sums = np.bincount([number[name] for name in clusters], weights=values - values.mean())
    G = len(number)
    return Mean(float(values.mean()), math.sqrt(G / (G - 1) * float(sums @ sums)) / len(values), G - 1)


def paired_error(a: ArrayLike, b: ArrayLike, clusters: Sequence[object] | None = None) -> Mean:
    """Of a - b on the same items, with or without clusters (Miller 2024, arXiv 2411.00640, section 4)."""
    one, other = _values(a), _values(b)
    if len(one) != len(other):
        raise DataError(f"Pairs take as many of one as of the other: there are {len(one)} and {len(other)} values.")
    return mean_error(one - other) if clusters is None else clustered_error(one - other, clusters)


def pooled_error(errors: Sequence[float], sizes: Sequence[int]) -> float:
    """Of the mean over all items of several sets, from their errors and sizes (lm-eval's pooled_sample_stderr).

    As lm-eval has it: the pooled variance over items, by the total. That leaves out how far the sets' means lie apart.
    """
    squares = sum((n - 1) * n * error * error for error, n in zip(errors, sizes, strict=True))
    return math.sqrt(squares / (sum(sizes) - len(sizes)) / sum(sizes))


def _values(x: ArrayLike) -> Floats:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"A standard error takes a row of at least two values; there is {values.shape}.")
    return values
