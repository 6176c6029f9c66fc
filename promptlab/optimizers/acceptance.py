"""When a challenger replaces what there is: only after a paired test on items that nothing was chosen by.

A paired difference d is the challenger's score minus the incumbent's on one item, or the mean over the items of one
group, which are no independent evidence: between -1 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Literal, NamedTuple, get_args

from promptlab.errors import SetupError

Test = Literal["exact", "betting"]
STAKES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.95)  # shares of the wealth put on the challenger
NUISANCE = 200  # shares of items on which the two differ, at which the null is looked at


class Verdict(NamedTuple):
    """How the last two compare: independent items (or groups of them), those where one or the other scored more, and
    the evidence.

    `gain` is the mean difference; `p` that of a one-sided test, or 1 / (the largest wealth), which is valid whenever
    one looks (Ville 1939). `accepted` says whether p ≤ alpha, `test` which of the two was made.
    """

    n: int
    wins: int
    losses: int
    gain: float
    p: float
    accepted: bool
    test: Test


def verdict(differences: Sequence[float], alpha: float, test: Test = "exact") -> Verdict:
    """What a test says to all of the differences, in the order they were asked.

    "exact" is McNemar's where every difference is 1, 0 or -1. Graded ones, and means of groups, are bet on in any case:
    a permutation of signs takes them for symmetric under the null, and where a challenger wins often and little and
    loses seldom and much it accepts one that is no better in up to .27 of cases at alpha .05 (benchmarks/LOG.md).
    """
    if test not in get_args(Test):
        raise SetupError(f"The test is one of {', '.join(get_args(Test))}, got {test!r}.")
    n, wins, losses = len(differences), sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if not all(d in (-1, 0, 1) for d in differences):
        test = "betting"
    p = mcnemar(wins, losses, n) if test == "exact" else 1 / max(wealth(differences))
    gain = sum(differences) / n if n else 0.0
    return Verdict(n, wins, losses, gain, p, p <= alpha and gain > 0, test)


def mcnemar(wins: int, losses: int, n: int) -> float:
    """The exact unconditional test that wins are no likelier than losses on n items (Suissa & Shuster 1991, Biometrics
    47:361), one-sided: the probability of a z = (wins - losses) / √(wins + losses) at least as large, at the worst of
    all shares of items on which the two differ.

    Of the same level as the conditional test, which takes that share as it was seen, and of more power: what is
    attained of alpha there jumps with the number of discordant items.
    """
    if wins <= losses:
        return 1.0
    import numpy as np
    from scipy.stats import binom

    differ = np.arange(n + 1)
    z = (wins - losses) / math.sqrt(wins + losses)
    enough = np.ceil((differ + z * np.sqrt(differ)) / 2 - 1e-9)  # so many wins make a z as large
    as_large = np.where(differ > 0, binom.sf(enough - 1, differ, 0.5), 0.0)
    shares = np.linspace(0, 1, NUISANCE + 1)[1:]
    return float((binom.pmf(differ, n, shares[:, None]) @ as_large).max())


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


def fewest(alpha: float, test: Test = "exact", *, graded: bool = True) -> int:
    """Items below which nothing can be accepted, though the challenger wins every one by all there is.

    Scores that are not known to be 0 or 1 are `graded`: `verdict` bets on those whatever the test is, and a bet takes
    more items.
    """
    if test == "exact" and not graded:
        return math.ceil(math.log2(1 / alpha) - 1e-9)
    return next(n for n in count(1) if 1 / wealth([1.0] * n)[-1] <= alpha)


def smallest_gain(n: int, alpha: float, discordant: float = 0.25, power: float = 0.8) -> float:
    """The gain that n items show with this power, where the two differ on a share of them: the normal approximation.

    At least so many items must differ as the gain itself.
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return min(1.0, max(z * math.sqrt(discordant / n), z * z / (n + z * z)))
