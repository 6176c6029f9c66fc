"""How often a planted prompt could be found by one who is told more than any optimiser is: the room there is."""

from __future__ import annotations

import numpy as np

from optimizing.worlds import Floats, logit, shift, sigmoid


def found(runs: int, items_sd: float, own_sd: float, calls: int, prompts: int, items: int, alpha: float) -> Floats:
    """Whether each run finds the one prompt among so many that is right on .75 and not .65 of the items.

    The finder is told both figures and how easy each item is, so that it need not ask the prompt there was. It asks the
    prompt that is likeliest to be the planted one (Chandrasekaran & Karp 2014, Finding a most biased coin with fewest
    flips: no other way takes fewer on average) and stops when the mean of all prompts' likelihood ratios is 1/alpha,
    which under the null happens with probability alpha at most (Ville 1939).
    """
    rng = np.random.default_rng(13)
    abilities = [shift(float(logit(p)), float(np.hypot(items_sd, own_sd))) for p in (0.65, 0.75)]
    ease = rng.normal(0, items_sd, (runs, 1, items))
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    low, high = (sigmoid(a + ease[..., None] + own_sd * nodes) @ (weights / weights.sum()) for a in abilities)
    right = rng.random((runs, prompts, items)) < np.where(np.arange(prompts)[:, None] == 0, high, low)
    evidence = np.where(right, np.log(high / low), np.log((1 - high) / (1 - low)))
    total, asked = np.zeros((runs, prompts)), np.zeros((runs, prompts), int)
    won, run = np.zeros(runs), np.arange(runs)
    over = np.zeros(runs, bool)
    for _ in range(calls):
        likeliest = np.where(asked < items, total, -np.inf).argmax(axis=1)
        told = evidence[run, likeliest, np.minimum(asked[run, likeliest], items - 1)]
        total[run, likeliest] += np.where(over, 0.0, told)
        asked[run, likeliest] += ~over
        sure = ~over & (np.exp(total).mean(axis=1) >= 1 / alpha)
        won[sure] = total[sure].argmax(axis=1) == 0
        over |= sure
    return won
