"""Prompts that are better or worse by a known amount, on items that are easier or harder: a model that is a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab import Example, Prompt
from promptlab.testing import Script
from promptlab.types import Request

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """`right[i, j]`: whether prompt i is right on item j, always; `truth[i]`: its accuracy on endless items."""

    right: Bools  # (prompts, items)
    truth: Floats  # (prompts,)
    group_size: int = 1  # so many items, one behind the other, are of one group

    @property
    def prompts(self) -> list[Prompt]:
        return [Prompt(f"prompt {i}") for i in range(len(self.right))]

    @property
    def items(self) -> list[Example]:
        items = range(self.right.shape[1])
        if self.group_size == 1:
            return [Example(f"item {j}", "right") for j in items]
        return [Example(f"item {j}", "right", group=f"group {j // self.group_size}") for j in items]

    def model(self, batched: bool = True) -> Script:
        """A model that is right where the table says so."""

        def reply(request: Request) -> str:
            i = int(request.messages[0].content.split()[1])
            j = int(request.messages[-1].content.split()[1])
            return "right" if self.right[i, j] else "wrong"

        return Script(reply, batched=batched)


def world(seed: int, abilities: Floats, n: int, items_sd: float = 2.2, own_sd: float = 0.5) -> World:
    """Items drawn from an endless supply: P(right) = sigmoid(ability + ease of the item + what is the pair's own).

    The abilities are shifted so that prompt i's accuracy over all items is sigmoid(abilities[i]) all the same. As
    given, two prompts' right answers correlate by .39 over items: as those of ten models on MedQA do, and less than
    those of two prompts of one model (.5 to .9 between gpt-4o's methods in recorded medical runs, .74 between
    EvoPrompt's prompts for sst2 on the bundled model). The less they do, the less is won by asking all the same items.
    """
    rng = np.random.default_rng(seed)
    shifted = np.array([shift(float(a), float(np.hypot(items_sd, own_sd))) for a in abilities])
    ease = rng.normal(0, items_sd, n)
    p = sigmoid(shifted[:, None] + ease[None, :] + rng.normal(0, own_sd, (len(abilities), n)))
    return World(rng.random(p.shape) < p, sigmoid(abilities))


@cache
def shift(ability: float, sd: float) -> float:
    """The mean of a normal with this sd whose sigmoid is sigmoid(ability) on average, by bisection."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        average = float((weights * sigmoid(middle + sd * nodes)).sum() / weights.sum())
        low, high = (middle, high) if average < float(sigmoid(np.array(ability))) else (low, middle)
    return (low + high) / 2


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def logit(p: Any) -> Any:
    return np.log(p / (1 - p))
