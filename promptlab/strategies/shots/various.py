"""Demonstrations that are not all alike. Nothing is asked of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from promptlab.errors import SetupError
from promptlab.strategies.shots.selector import Selector, fixed
from promptlab.strategies.shots.similar import MOST_NEAREST, Array, Cosines, Embed, Others
from promptlab.types import Example

CANDIDATES = 100  # nearest examples that a question's demonstrations are chosen from


def diverse(
    pool: Sequence[Example], most: int = MOST_NEAREST, weight: float = 0.5, embed: Embed | None = None
) -> Selector:
    """One after the other, the example that is near to the question and unlike those chosen: maximal marginal relevance
    (Carbonell and Goldstein 1998, SIGIR:335), `weight` · nearness - (1 - `weight`) · nearness to the nearest chosen.

    At weight 1 these are the nearest. Nearness is the cosine by TF-IDF, or by `embed`. Differs: chosen among the 100
    nearest.
    """
    if not 0 <= weight <= 1:
        raise SetupError(f"weight is that of nearness, from 0 to 1; got {weight!r}.")

    def choose(near: Array, alike: Array) -> list[int]:
        chosen: list[int] = []
        closest = np.zeros(len(near))  # nothing is near to a choice that there is not yet
        left = np.ones(len(near), bool)
        while left.any() and len(chosen) < most:
            i = int(np.where(left, weight * near - (1 - weight) * closest, -np.inf).argmax())
            chosen.append(i)
            left[i] = False
            closest = np.maximum(closest, alike[i]) if len(chosen) > 1 else alike[i]
        return chosen

    return among_nearest(pool, embed, choose)


def dpp(pool: Sequence[Example], most: int = MOST_NEAREST, scale: float = 0.1, embed: Embed | None = None) -> Selector:
    """The likeliest set under a determinantal point process (Kulesza and Taskar 2012, arXiv 1207.6083), found greedily
    by Chen et al. 2018 (arXiv 1709.05135, algorithm 1): near to the question, and spanning a large volume.

    L = diag(q) S diag(q), S the cosines among examples and q = exp(nearness / (2 · `scale`)), as in Ye et al. 2023
    (arXiv 2302.05698) without their training. It ends where every example left lies in the span of those chosen.
    """
    if not scale > 0:
        raise SetupError(f"scale is above 0; the smaller, the more nearness counts. Got {scale!r}.")

    def choose(near: Array, alike: Array) -> list[int]:
        quality = np.exp((near - near.max()) / (2 * scale))  # a common factor changes no choice, and may overflow
        return greedy_map(quality[:, None] * alike * quality[None, :], most)

    return among_nearest(pool, embed, choose)


def greedy_map(kernel: Array, most: int) -> list[int]:
    """The rows that each add most to the determinant, the first of equal ones; those that would add nothing are not.

    The Cholesky factor of what is chosen grows by a row a step: O(n) for each chosen, for each of n (Chen et al. 2018).
    """
    n = len(kernel)
    gain = np.diag(kernel).copy()  # what of each row is outside the span of those chosen, squared
    least = 1e-10 * np.diag(kernel)
    rows = np.zeros((min(most, n), n))
    chosen: list[int] = []
    while len(chosen) < min(most, n):
        open_ = np.where(gain > least, gain, 0.0)
        open_[chosen] = 0.0
        i = int(open_.argmax())
        if open_[i] <= 0:
            break
        k = len(chosen)
        rows[k] = (kernel[i] - rows[:k, i] @ rows[:k]) / math.sqrt(gain[i])
        gain = gain - rows[k] ** 2
        chosen.append(i)
    return chosen


def vote_k(
    pool: Sequence[Example], most: int = MOST_NEAREST, neighbours: int = 10, embed: Embed | None = None
) -> Selector:
    """Those that stand for most of the pool, the same for every question: fast vote-k (Su et al. 2022, arXiv
    2209.01975, section 2.2, eq. 1), which says what to label before anything is labelled.

    Each example votes for its nearest `neighbours`, with a tenth of its vote for each of them that is chosen already;
    once it is chosen itself it votes no more.
    Differs: they draw as many neighbours as 150 among 3,000, and then show each question the nearest of those chosen.
    """
    if neighbours < 1:
        raise SetupError(f"neighbours is 1 or more; got {neighbours!r}.")
    if not pool:
        return fixed(())
    voters = voters_for(Cosines(pool, embed), len(pool), min(neighbours, len(pool) - 1))
    covered = np.zeros(len(pool))  # how many of those an example voted for are chosen; inf: it is itself
    left = dict.fromkeys(range(len(pool)))
    chosen: list[Example] = []
    while left and len(chosen) < most:
        best = max(left, key=lambda i: float((10.0 ** -covered[voters[i]]).sum()))
        chosen.append(pool[best])
        del left[best]
        covered[voters[best]] += 1
        covered[best] = np.inf
    return fixed(chosen)


def voters_for(cosines: Cosines, n: int, neighbours: int) -> list[list[int]]:
    """Who counts each example among its nearest, equal ones in the pool's order; a few rows at a time."""
    voters: list[list[int]] = [[] for _ in range(n)]
    for start in range(0, n, 512):
        block = cosines.among(slice(start, start + 512), slice(None))
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf  # nobody votes for itself
        for i, near in enumerate((-block).argsort(axis=1, kind="stable")[:, :neighbours], start):
            for j in near:
                voters[j].append(i)
    return voters


def among_nearest(
    pool: Sequence[Example], embed: Embed | None, choose: Callable[[Array, Array], list[int]]
) -> Selector:
    """What `choose` makes of the nearest examples: of their nearness to the question and to each other."""
    if not pool:
        return lambda question: ()
    cosines, others = Cosines(pool, embed), Others(pool)

    def select(question: str) -> Sequence[Example]:
        near = cosines.to(question)
        order = (-near).argsort(kind="stable")
        rows = order[others.than(question)[order]][:CANDIDATES]
        if not len(rows):
            return ()
        alike = cosines.among(rows, rows)
        np.fill_diagonal(alike, 1.0)  # also a text of which nothing is known is like itself
        return [pool[rows[i]] for i in choose(near[rows], alike)]

    return select
