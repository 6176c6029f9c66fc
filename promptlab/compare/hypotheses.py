"""Whether paired differences are more than chance, and whether one is no worse than a margin."""

from __future__ import annotations

import numpy as np
from scipy.signal import convolve
from scipy.stats import binom

from promptlab.compare.statistics import Floats, Interval, Ints

AT_ONCE = 10_000_000  # signs held in memory


def sign_flips(differences: Floats, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided permutation test that paired differences are as likely one way as the other (Fisher 1935, The Design of
    Experiments, section 21). One difference a cluster, as its items change sign together: see `statistics.by_cluster`.

    Exact for whole numbers, such as how many more answers are right, where it is McNemar's test (1947) if all are 1, 0
    or -1; and where all 2^n flips are at most `draws`. Else from so many flips, the one that was seen counted among
    them (Phipson & Smyth 2010, arXiv 1603.05766), so that p is never 0.
    """
    some = differences[differences != 0]  # a zero is the same either way
    n = len(some)
    if (some == np.round(some)).all():
        return _whole(some.astype(np.int64))
    seen = abs(float(some.sum())) - 1e-12 * float(np.abs(some).sum())  # another order may change a sum's last bits
    if 2**n <= draws:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ some) >= seen).mean())
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, n])))
    step, extreme = max(1, AT_ONCE // n), 0
    for start in range(0, draws, step):
        signs = 1 - 2 * rng.integers(2, size=(min(step, draws - start), n))
        extreme += int((np.abs(signs @ some) >= seen).sum())
    return (extreme + 1) / (draws + 1)


def _whole(differences: Ints) -> float:
    """Of numbers other than 0: with fair coins as signs the sum is twice that of the positive ones less all of them."""
    if not len(differences):
        return 1.0
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    unit = int(np.gcd.reduce(sizes))
    positive = np.ones(1)  # the chance of each sum of the positive ones, in units
    for size, count in zip((sizes // unit).tolist(), counts.tolist(), strict=True):
        of_size = np.zeros(size * count + 1)
        of_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        positive = convolve(positive, of_size, method="direct" if len(positive) * len(of_size) < AT_ONCE else "fft")
    seen = abs(int(differences.sum())) // unit
    tail = float(positive[(len(positive) - 1 + seen) // 2 :].sum())
    all_one_way = 2.0 ** (1 - len(differences))  # is the least there is; rounding may make less than 0 of what is small
    return min(1.0, max(2 * tail, all_one_way))


def not_worse(difference: Interval, margin: float) -> bool:
    """Whether a difference is shown to be no worse than -margin: its lower end lies above that (non-inferiority;
    Piaggio et al. 2012, J. Am. Med. Assoc. 308:2594). With a 95 % interval that is a one-sided test at 2.5 %.
    """
    return difference.low > -margin
