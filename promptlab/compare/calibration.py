"""Whether a model is right as often as it is sure, from the log-probabilities it gives the labels."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from promptlab.compare.statistics import (
    Floats,
    Interval,
    Ints,
    Matrix,
    Resamples,
    by_cluster,
    counted_interval,
    counted_mean,
)
from promptlab.errors import DataError

BINS = 15  # Guo et al. 2017


class Calibration(NamedTuple):
    """`brier` and `ece` are better the lower; `confidence` less `accuracy` is how much too sure the model is."""

    brier: float
    ece: float
    confidence: float
    accuracy: float


def probabilities(scores: ArrayLike) -> Floats:
    """The labels' shares of what the model gives to all of them, (N, K), from their log-probabilities.

    What it would give to other texts is left out: an arm that is scored must choose among the labels. A label that it
    holds impossible may have -inf. Raises DataError for a row without any possible label, and for nan.
    """
    logs = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    most = logs.max(axis=1, keepdims=True)
    if not np.isfinite(most).all():
        bad = int(np.argmin(np.isfinite(most[:, 0])))
        raise DataError(f"Row {bad} has no possible label: {logs[bad].tolist()}. Each needs a finite log-probability.")
    shares = np.exp(logs - most)
    normal: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normal


def calibration(p: Floats, targets: Ints, bins: int = BINS) -> Calibration:
    """How far probabilities (N, K) are from the targets, (N,), class numbers; of equal labels the first is answered."""
    answers, sure = p.argmax(axis=1), p.max(axis=1)
    right = answers == targets
    return Calibration(brier(p, targets), ece(sure, right, bins), float(sure.mean()), float(right.mean()))


def brier(p: Floats, targets: Ints) -> float:
    """The mean squared distance to the truth over all classes, 0 to 2 (Brier 1950, Mon. Weather Rev. 78:1, eq. 2).

    Of two classes that is twice what scikit-learn's brier_score_loss gives by default.
    """
    truth = np.zeros_like(p)
    truth[np.arange(len(p)), targets] = 1
    return float(((p - truth) ** 2).sum(axis=1).mean())


def ece(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error: |accuracy - confidence| in bins of equal width, weighted by what is in them
    (Guo et al. 2017, arXiv 1706.04599, eq. 3). It is biased upwards where bins hold few items.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(sure) or not ((sure >= 0) & (sure <= 1)).all():
        raise DataError("Confidences are probabilities of at least one answer, from 0 to 1.")
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)  # (low, high], as in the paper
    gaps = np.bincount(place, weights=correct - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def brier_interval(far: Floats, clusters: Ints, resamples: Resamples, confidence: float = 0.95) -> Interval:
    """The mean of squared distances (seeds, items), nan where no labels were scored, with its interval."""
    half = counted_mean(far / 2, ~np.isnan(far), clusters, resamples, confidence)  # the interval's range is 0 to 1
    return replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high)


def ece_interval(
    sure: Floats, right: Matrix, clusters: Ints, resamples: Resamples, confidence: float = 0.95, bins: int = BINS
) -> Interval:
    """The calibration error of confidences (seeds, items), nan where no labels were scored, with its interval.

    Resamples are less calibrated than what they are drawn from, by about as much as that is less than the truth. So
    their upper end is moved down by what they are too high on average, their lower end by twice that. Of a model that
    is calibrated all the error is noise, and resamples, which double its variance, have √2 times as much: where they
    have a quarter more, the lower end is 0.
    """
    counted = ~np.isnan(sure)
    V, W = resamples.clusters, resamples.seeds(len(sure))
    gaps = np.zeros((len(V), bins))
    place = np.clip(np.ceil(np.where(counted, sure, 0.0) * bins).astype(np.int64) - 1, 0, bins - 1)
    for row, (inside, p, hit, bin) in enumerate(zip(counted, sure, right, place, strict=True)):
        cells = clusters[inside] * bins + bin[inside]
        by_bin = np.bincount(cells, weights=hit[inside] - p[inside], minlength=V.shape[1] * bins)
        gaps += W[:, row, None] * (V @ by_bin.reshape(V.shape[1], bins))
    weights = (W * (V @ by_cluster(counted, clusters, V.shape[1]).T)).sum(axis=1)
    draws = np.where(weights > 0, np.abs(gaps).sum(axis=1) / np.maximum(weights, 1e-300), np.nan)
    value = ece(sure[counted], right[counted], bins)
    bias = max(float(np.nanmean(draws)) - value, 0.0) if weights.any() else 0.0
    off = np.where(counted, right - np.where(counted, sure, 0.0), 0.0)
    parts = np.where(counted, np.sign(np.bincount(place.ravel(), off.ravel(), bins))[place] * off - value, 0.0)
    upper, lower = (
        counted_interval(value, draws - shift, counted, parts, clusters, resamples, confidence, lowest=0.0)
        for shift in (bias, 2 * bias)
    )
    return replace(upper, low=0.0 if bias > value / 4 else min(lower.low, value))
