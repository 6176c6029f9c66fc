"""Tests beside the study's own, McNemar's on votes: for scores other than right and wrong, and for "no worse than"."""

from __future__ import annotations

import numpy as np

from promptlab.compare.statistics import Floats, Interval

AT_ONCE = 10_000_000  # signs held in memory


def sign_flips(differences: Floats, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided permutation test that paired differences are as likely one way as the other (Fisher 1935, The Design of
    Experiments, section 21). One difference a cluster, as its items change sign together: see `statistics.by_cluster`.

    Exact where all 2^n flips are at most `draws`; else from so many, the one that was seen counted among them
    (Phipson & Smyth 2010, arXiv 1603.05766), so that p is never 0.
    """
    some = differences[differences != 0]  # a zero is the same either way
    n = len(some)
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


def not_worse(difference: Interval, margin: float) -> bool:
    """Whether a difference is shown to be no worse than -margin: its lower end lies above that (non-inferiority;
    Piaggio et al. 2012, J. Am. Med. Assoc. 308:2594). With a 95 % interval that is a one-sided test at 2.5 %.
    """
    return difference.low > -margin
