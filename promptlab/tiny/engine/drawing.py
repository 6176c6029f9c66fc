"""Choosing the next token of many replies: the likeliest, or one drawn by the reply's own numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptlab.types import Request

LIKELIEST = 64  # tokens that most draws are among, so that the rest need no sorting

Uniforms = NDArray[np.float64]


def uniforms(request: Request, seed: int, n: int) -> Uniforms:
    """n draws that depend on seed and branch alone, so that a sample does not depend on its place in a batch."""
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    return np.random.Generator(philox).random(n)


def choose(
    logits: Tensor, how: Sequence[tuple[float, float, float]], allowed: Mapping[int, NDArray[np.bool_]]
) -> tuple[list[int], list[float]]:
    """The next token of every row (B, V) and its log-probability (of the model, before temperature and top-p).

    `how` is each row's temperature, top-p and number in [0, 1); at temperature 0 it is the likeliest. A row of
    `allowed` gets one of the tokens that are there. The log-probability is NaN where the row's logits are no numbers.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    for row, may in allowed.items():
        log_p[row] += torch.zeros(len(may)).masked_fill_(torch.from_numpy(~may), float("-inf"))
    if not any(temperature for temperature, _, _ in how):
        best = log_p.max(dim=-1)
        return best.indices.tolist(), best.values.tolist()
    greedy = [k for k, (temperature, _, _) in enumerate(how) if not temperature]
    cut = [k for k, (temperature, top_p, _) in enumerate(how) if temperature and top_p < 1]
    temperature, top_p, u = torch.tensor(how, dtype=log_p.dtype).unbind(1)
    if greedy:
        temperature[greedy] = 1
    p = torch.softmax((log_p - log_p.amax(-1, True)).div_(temperature[:, None]), dim=-1)
    choice = draw(p, u)
    if cut:
        choice[cut] = nucleus_draw(p[cut], top_p[cut], u[cut])
    if greedy:
        choice[greedy] = log_p[greedy].argmax(dim=-1)
    return choice.tolist(), log_p.gather(1, choice[:, None]).squeeze(1).tolist()


def draw(p: Tensor, u: Tensor) -> Tensor:
    """A token of each row of p (B, V), by the inverse of its cumulative distribution at u (B,) in [0, 1)."""
    below = p.cumsum(-1)
    total = below[:, -1:]
    i = torch.searchsorted(below, torch.minimum(u[:, None] * total, total.nextafter(torch.zeros(()))), right=True)
    return i.squeeze(1).clamp_(max=p.shape[-1] - 1)


def nucleus_draw(p: Tensor, top_p: Tensor, u: Tensor) -> Tensor:
    """Holtzman et al. 2019 (arXiv 1904.09751): draws from the fewest likeliest tokens that hold `top_p` (B,).

    Few of them are sorted, unless those hold too little.
    """
    found = torch.empty(len(p), dtype=torch.long)
    few, order = p.topk(min(LIKELIEST, p.shape[-1]), dim=-1)
    holds = few.sum(-1) >= top_p
    for rows, wide in ((holds, False), (~holds, True)):
        if rows.any():
            sorted_p, ids = p[rows].sort(dim=-1, descending=True) if wide else (few[rows], order[rows])
            below = sorted_p.cumsum(-1)
            inside = below - sorted_p < top_p[rows, None]
            inside[:, 0] = True
            found[rows] = ids.gather(1, draw(sorted_p * inside, u[rows])[:, None]).squeeze(1)
    return found
