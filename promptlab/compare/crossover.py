"""Crossover: from how many labels on fine-tuning is ahead of prompting, with its interval; or that it never is.

    right answers at each number of labels ── learning_curve ──┐
                                                               ├── crossover: n*, interval, P(never), P(always)
    the other arm's, on the same items and seeds ──────────────┘

A curve is a monotone fit over the logarithm of the number of labels. The arm to be overtaken holds its last value past
its last number of labels, as a prompt has a cap (its context) and labels that do not fit change nothing. What the other
would do with more labels than it was ever given is not known, so the range ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from promptlab.compare.statistics import Floats, Ints, Matrix, Resamples, by_cluster, student

CROSSES, NEVER, ALWAYS, UNDECIDED = "crosses", "never", "always", "undecided"
LIKELY = 0.75  # what fewer of the resamples say is "undecided"
EVEN = 1e-12  # accuracies this close are tied: the same ratio of different sums may differ in its last bit
NO_LABELS = 0.5  # where no labels stand on the logarithmic axis: one halving below a single label


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One arm's accuracy at each number of labels, (K,), and in each resample, (B, K).

    `parts` are what each seed and cluster adds to or takes from `values`, (K, S, C); None for resamples made elsewhere.
    """

    labels: tuple[int, ...]
    values: Floats
    draws: Floats
    parts: Floats | None = None


@dataclass(frozen=True, slots=True)
class Crossover:
    """From how many labels on `b` is ahead of `a`, over the `labels` at which both are known.

    `outcome` is what three in four resamples say, else "undecided"; `n` the estimate, None where the measured curves do
    not cross. `low` and `high` are its interval; None is an end outside the range: one that was not seen has no number.
    `ahead` is the share of resamples in which b is ahead, at each of `labels`.
    """

    a: str
    b: str
    outcome: str
    n: float | None
    low: float | None
    high: float | None
    confidence: float
    p_never: float
    p_always: float
    labels: tuple[int, ...]
    ahead: tuple[float, ...]

    @property
    def established(self) -> bool:
        """Whether to act on it: both ends of the interval lie within the range, or both on the same side of it."""
        if self.outcome == CROSSES:
            return self.n is not None and self.low is not None and self.high is not None
        return {NEVER: self.p_never, ALWAYS: self.p_always}.get(self.outcome, 0.0) >= 0.5 + self.confidence / 2


def learning_curve(correct: Mapping[int, Matrix], clusters: Ints, resamples: Resamples) -> Curve:
    """The curve through one arm's right answers, (seeds, items) at each number of labels, the same seeds at each.

    A resample moves the estimate by what its seeds do plus what its clusters do. `statistics.mean_draws` multiplies the
    two, and so counts three times what belongs to neither alone (Owen 2007, arXiv 0712.1111, section 3); the sum counts
    it twice, and `crossover` takes the second off.
    """
    labels = tuple(sorted(correct))
    V, W = resamples.clusters, resamples.seeds(len(correct[labels[0]]))
    sizes = np.bincount(clusters, minlength=V.shape[1])  # (C,)
    sums = np.stack([by_cluster(correct[k], clusters, V.shape[1]) for k in labels])  # (K, S, C)
    n = sums.shape[1] * sizes.sum()
    values = sums.sum(axis=(1, 2)) / n
    by_seed = W @ sums.sum(axis=2).T / (W.sum(axis=1, keepdims=True) * sizes.sum())  # (B, K)
    by_item = V @ sums.mean(axis=1).T / (V @ sizes)[:, None]
    return Curve(labels, values, by_seed + by_item - values, (sums - values[:, None, None] * sizes) / n)


def isotonic(y: Floats) -> Floats:
    """The nondecreasing sequence nearest to y in squares, along the last axis: what pooling adjacent violators gives.

    By the min-max formula (Robertson, Wright & Dykstra 1988, Order Restricted Statistical Inference, section 1.4),
    which does all resamples at once. Whoever has more labels can leave some out, so none need be the worse for them.
    """
    sums = np.concatenate([np.zeros((*y.shape[:-1], 1)), np.cumsum(y, axis=-1)], axis=-1)
    fitted = np.empty(y.shape)
    for k in range(y.shape[-1]):
        starts, ends = np.arange(k + 1)[:, None], np.arange(k + 1, y.shape[-1] + 1)
        means = (sums[..., ends][..., None, :] - sums[..., starts]) / (ends - starts)  # (..., k + 1, K - k)
        fitted[..., k] = means.min(axis=-1).max(axis=-1)
    return fitted


def crossover(a: Curve, b: Curve, names: tuple[str, str] = ("a", "b"), confidence: float = 0.95) -> Crossover | None:
    """Where b overtakes a for good: the last change of sign of b - a. None where both are known at no number of labels.

    The interval is a percentile one: each resample, the same for both arms, is fitted anew. One in which b is ahead all
    along counts as below the range, one in which it is not ahead at the end of the range as above it.
    """
    first, last = max(a.labels[0], b.labels[0]), b.labels[-1]
    grid = tuple(sorted({k for k in (*a.labels, *b.labels) if first <= k <= last}))
    if not grid:
        return None
    gap = _at(isotonic(b.values), b.labels, grid) - _at(isotonic(a.values), a.labels, grid)  # (G,)
    draws = _at(isotonic(b.draws), b.labels, grid) - _at(isotonic(a.draws), a.labels, grid)  # (B, G)
    draws = gap + _spread(a, b, grid, confidence) * (draws - gap)
    found = np.sort(_last_change(draws, _log(grid)))
    outside = int((1 - confidence) / 2 * len(found))
    p_never, p_always = float((found == np.inf).mean()), float((found == -np.inf).mean())
    shares = {CROSSES: 1 - p_never - p_always, NEVER: p_never, ALWAYS: p_always}
    return Crossover(
        *names,
        outcome=next((outcome for outcome, share in shares.items() if share >= LIKELY), UNDECIDED),
        n=_labels(_last_change(gap[None], _log(grid))[0]),
        low=_labels(found[outside]),
        high=_labels(found[-1 - outside]),
        confidence=confidence,
        p_never=p_never,
        p_always=p_always,
        labels=grid,
        ahead=tuple(float(share) for share in (draws > EVEN).mean(axis=0)),
    )


def _log(labels: Sequence[int]) -> Floats:
    return np.log(np.maximum(np.array(labels, dtype=np.float64), NO_LABELS))


def _labels(x: float) -> float | None:
    return float(np.exp(x)) if np.isfinite(x) else None


def _at(values: Floats, labels: Sequence[int], grid: Sequence[int]) -> Floats:
    """What lies between values at `labels` (last axis) at each number of the grid: linear in the logarithm, flat beyond
    the ends."""
    x, at = _log(labels), _log(grid)
    right = np.minimum(np.searchsorted(x, at), len(x) - 1)
    left = np.maximum(right - 1, 0)
    width = np.where(right > left, x[right] - x[left], 1)
    share = np.where(right > left, np.clip((at - x[left]) / width, 0, 1), 0)
    between: Floats = values[..., left] * (1 - share) + values[..., right] * share
    return between


def _last_change(gaps: Floats, x: Floats) -> Floats:
    """Where along x each row of gaps turns positive for good: -inf where it always is, inf where it ends otherwise."""
    behind = gaps <= EVEN
    last = gaps.shape[1] - 1 - np.argmax(behind[:, ::-1], axis=1)
    found = np.where(behind[:, -1], np.inf, -np.inf)
    rows = np.flatnonzero(behind.any(axis=1) & ~behind[:, -1])
    i = last[rows]
    below, above = np.maximum(-gaps[rows, i], 0), gaps[rows, i + 1]
    found[rows] = x[i] + (x[i + 1] - x[i]) * below / (below + above)
    return found


def _spread(a: Curve, b: Curve, grid: Sequence[int], confidence: float) -> Floats:
    """How many times as far from the estimate as they are the resamples belong, at each number of labels, (G,).

    The variance of a mean over crossed seeds and clusters is that by seeds, plus that by clusters, less that of what
    belongs to neither alone, as each of the former holds it (Cameron, Gelbach & Miller 2011, J. Bus. Econ. Stat.
    29:238; here by analysis of variance, and never less than either). Percentiles are as narrow as if it were known:
    t / z makes up for that, at the degrees of freedom of what the clusters have and what the seeds add to it
    (Satterthwaite 1946, Biometrics Bull. 2:110).
    """
    if a.parts is None or b.parts is None:
        return np.ones(len(grid))
    parts = _at(np.moveaxis(b.parts, 0, -1), b.labels, grid) - _at(np.moveaxis(a.parts, 0, -1), a.labels, grid)
    S, C = parts.shape[0], max(parts.shape[1], 2)  # parts: (S, C, G)
    by_seed, by_item = parts.sum(axis=1), parts.sum(axis=0)
    clusters = C / (C - 1) * (by_item**2).sum(axis=0)
    if S == 1:
        return np.full(len(grid), _t_over_z(C - 1, confidence))
    seeds = S / (S - 1) * (by_seed**2).sum(axis=0)
    neither = S * C / ((S - 1) * (C - 1)) * ((parts - by_seed[:, None] / C - by_item / S) ** 2).sum(axis=(0, 1))
    added = np.maximum(np.maximum(seeds - neither, seeds - clusters), 0)
    total = np.maximum(clusters + added, 1e-300)  # arms that are right on the same items have none
    df = total**2 / np.maximum(clusters**2 / (C - 1) + added**2 / (S - 1), 1e-300)
    t_over_z = np.array([_t_over_z(max(n, 1.0), confidence) for n in df])
    spread: Floats = np.sqrt(total / np.maximum(seeds + clusters, 1e-300)) * t_over_z
    return spread


def _t_over_z(df: float, confidence: float) -> float:
    p = 0.5 + confidence / 2
    return student(df, p) / NormalDist().inv_cdf(p)
