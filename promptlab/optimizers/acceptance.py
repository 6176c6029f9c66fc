"""When a challenger replaces what there is: only after a paired test on items that nothing was chosen by.

A paired difference d is the challenger's score minus the incumbent's on one item, or the mean over the items of one
group, which are no independent evidence: between -1 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from promptlab.errors import SetupError

Test = Literal["exact", "betting"]
STAKES = (0.1, 0.2, 0.35, 0.5, 0.7)  # shares of the wealth put on the challenger
FLIPS = 9_999  # random signs, where there are too many to go through


class Verdict(NamedTuple):
    """How the last two compare: independent items (or groups of them), those where one or the other scored more, and
    the evidence.

    `gain` is the mean difference; `p` that of a one-sided test, or 1 / (the largest wealth), which is valid whenever
    one looks (Ville 1939). `accepted` says whether p ≤ alpha.
    """

    n: int
    wins: int
    losses: int
    gain: float
    p: float
    accepted: bool
    test: Test


def verdict(differences: Sequence[float], alpha: float, test: Test = "exact") -> Verdict:
    """What a test says to all of the differences, in the order they were asked."""
    if test not in get_args(Test):
        raise SetupError(f"The test is one of {', '.join(get_args(Test))}, got {test!r}.")
    n, wins, losses = len(differences), sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = one_sided(differences) if test == "exact" else 1 / max(wealth(differences))
    gain = sum(differences) / n if n else 0.0
    return Verdict(n, wins, losses, gain, p, p <= alpha and gain > 0, test)


def one_sided(differences: Sequence[float]) -> float:
    """The probability of a mean difference at least as large, were each difference's sign a coin's.

    With 0/1 scores that is McNemar's exact test, one-sided; with graded ones a sign-flip permutation test.
    """
    moved = [d for d in differences if d != 0]
    if all(abs(d) == 1 for d in moved):
        return binomial_tail(sum(d > 0 for d in moved), len(moved))
    total = math.fsum(moved)
    size = [abs(d) for d in moved]
    if len(moved) <= 12:
        sums = [math.fsum(s if bits >> i & 1 else -s for i, s in enumerate(size)) for bits in range(1 << len(moved))]
        return sum(s >= total - 1e-12 for s in sums) / len(sums)
    import numpy as np

    signs = np.random.default_rng(len(moved)).integers(0, 2, (FLIPS, len(moved))) * 2 - 1
    as_large = int((signs @ np.array(size) >= total - 1e-12).sum())
    return (as_large + 1) / (FLIPS + 1)


def binomial_tail(k: int, n: int) -> float:
    """P(at least k heads in n tosses of a fair coin)."""
    return sum(math.comb(n, i) for i in range(k, n + 1)) / (1 << n)


def wealth(differences: Sequence[float]) -> list[float]:
    """What a gambler has who bets on the challenger, after none of the items, one, two, …, beginning with 1.

    The mean over STAKES of prod(1 + stake · d): a nonnegative martingale where the challenger is not better, so that it
    ever reaches 1/alpha with probability alpha at most (Ville's inequality; Waudby-Smith & Ramdas 2024, arXiv
    2010.09686). One may look after each item, and stop.
    """
    logs = [0.0] * len(STAKES)
    path = [1.0]
    for d in differences:
        logs = [log + math.log1p(stake * d) for log, stake in zip(logs, STAKES, strict=True)]
        path.append(math.fsum(map(math.exp, logs)) / len(STAKES))
    return path


def fewest(alpha: float) -> int:
    """Items below which nothing can be accepted, though the challenger wins every one."""
    return math.ceil(math.log2(1 / alpha) - 1e-9)


def smallest_gain(n: int, alpha: float, discordant: float = 0.25, power: float = 0.8) -> float:
    """The gain that n items show with this power, where the two differ on a share of them: the normal approximation.

    At least so many items must differ as the gain itself.
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return min(1.0, max(z * math.sqrt(discordant / n), z * z / (n + z * z)))
