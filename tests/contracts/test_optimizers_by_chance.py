"""How often optimisers accept what is no better: simulated, since that is all one can know it by."""

from __future__ import annotations

import math

from optimizing import OPTIMIZERS, SEED, lists, lot, told, world

from promptlab import run
from promptlab.types import Request


def test_where_all_candidates_are_equal_few_are_accepted():
    def luck(request: Request) -> str:
        words = request.messages[-1].content.split()
        return words[lot(told(request), words) % 2]

    runs, alpha = 16, 0.05
    accepted = {
        name: sum(
            run(optimizer(SEED, lists(80, seed), calls=300, alpha=alpha, seed=seed), world(luck)).found.accepted
            for seed in range(runs)
        )
        for name, optimizer in OPTIMIZERS.items()
    }
    n = runs * len(OPTIMIZERS)
    assert sum(accepted.values()) / n <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / n), accepted
