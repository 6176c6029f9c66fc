"""Which states of a level go on: the best, or ones drawn by their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from statistics import median
from typing import TypeAlias

# The values of a level, how many go on, and which level it is -> the places of those that do, best first.
Select: TypeAlias = Callable[[Sequence[float], int, int], list[int]]


def known(values: Sequence[float | None]) -> list[float]:
    """Values, those that are not known being taken for the median of the others: nothing was said against them."""
    typical = median([value for value in values if value is not None] or [0.0])
    return [typical if value is None else value for value in values]


def greedy(values: Sequence[float], breadth: int, level: int = 0) -> list[int]:
    """The highest values; ties in the order given."""
    return sorted(range(len(values)), key=lambda i: -values[i])[:breadth]


def sampled(seed: int = 0) -> Select:
    """Draws as the paper's code does: `breadth` times, with replacement, by value / sum of values.

    A state drawn twice goes on once. Where all values are 0, or one is negative, all are equally likely.
    """

    def select(values: Sequence[float], breadth: int, level: int = 0) -> list[int]:
        rng = Random(f"{seed} {level}")
        weights = values if values and min(values) >= 0 and sum(values) > 0 else [1.0] * len(values)
        return list(dict.fromkeys(rng.choices(range(len(values)), weights, k=breadth))) if values else []

    return select
