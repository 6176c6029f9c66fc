"""Texts to choose one of: how likely a reply is one of them, and not only begins with it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import pairwise

LEAST = 1e-9  # share of what begins with a text that is left to it: the rest is rounding


def overlap(texts: Sequence[str]) -> bool:
    """Whether any of the texts begins with another: "10" with "1"."""
    return any(longer.startswith(text) for text, longer in pairwise(sorted(set(texts))))


def scores_of(log_p: Sequence[float], tokens: Sequence[Sequence[Hashable]], alternatives: bool) -> tuple[float, ...]:
    """The scores (nats) of continuations, given Σ log p of their tokens.

    Of `alternatives` one whose tokens begin others' has of what begins with it only what does not go on to them:
    log(p − Σ p'), p' being that of those it goes on to next. Else the longer of two could never be the likelier.
    """
    if not alternatives:
        return tuple(log_p)
    ids = [tuple(each) for each in tokens]
    told = list(log_p)
    for i, shorter in enumerate(ids):
        if log_p[i] == -math.inf:  # nothing begins so
            continue
        longer = {each: j for j, each in enumerate(ids) if len(each) > len(shorter) and each[: len(shorter)] == shorter}
        over = {each for each in longer if any(each[: len(other)] == other for other in longer if other != each)}
        goes_on = sum(math.exp(log_p[j] - log_p[i]) for each, j in longer.items() if each not in over)
        told[i] += math.log(max(1 - goes_on, LEAST))
    return tuple(told)
