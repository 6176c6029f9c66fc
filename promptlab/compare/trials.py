"""Several tries of the same tasks: the chance that all of k succeed, and that one of k does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import comb

from promptlab.errors import DataError


def pass_hat(k: int, tasks: Collection[Sequence[bool]]) -> float:
    """The chance that k tries of a task all succeed, averaged over tasks: pass^k (Yao et al. 2024, arXiv 2406.12045).

    Without bias, from the k-subsets of the tries made. Raises DataError where a task was tried fewer than k times.
    """
    return _mean(k, tasks, lambda n, c: comb(c, k) / comb(n, k))


def pass_at(k: int, tasks: Collection[Sequence[bool]]) -> float:
    """The chance that one of k tries succeeds, averaged over tasks: pass@k (Chen et al. 2021, arXiv 2107.03374)."""
    return _mean(k, tasks, lambda n, c: 1 - comb(n - c, k) / comb(n, k))


def _mean(k: int, tasks: Collection[Sequence[bool]], of: Callable[[int, int], float]) -> float:
    fewest = min((len(tries) for tries in tasks), default=0)
    if not 1 <= k <= fewest:
        raise DataError(f"k = {k} takes tasks that were each tried that often; the fewest tries are {fewest}.")
    return sum(of(len(tries), sum(tries)) for tries in tasks) / len(tasks)
