"""Choosing the next token of many replies: the likeliest, or one drawn by the reply's own numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptlab.tiny.engine.weights import Weights, hiding
from promptlab.types import Request

LIKELIEST = 64  # tokens that most draws are among, so that the rest need no sorting

Uniforms = NDArray[np.float64]


def uniforms(request: Request, seed: int, n: int) -> Uniforms:
    """n draws that depend on seed and branch alone, so that a sample does not depend on its place in a batch; zeros,
    which are not looked at, where the likeliest token is said."""
    if not request.temperature:
        return np.zeros(n)
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    return np.random.Generator(philox).random(n)


class Drawing:
    """The next tokens of rows, drawn one by one where their scores are, and looked at but once.

    `how` is each row's temperature, top-p and numbers in [0, 1), as many of each as there are tokens to draw; at
    temperature 0 it is the likeliest. A row of `allowed` gets one of the tokens that are there.
    """

    def __init__(
        self, how: Sequence[tuple[float, float, Uniforms]], allowed: Mapping[int, NDArray[np.bool_]], like: Weights
    ):
        def put(numbers: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(numbers, dtype=dtype).to(like.device, non_blocking=True)

        greedy = [k for k, (temperature, _, _) in enumerate(how) if not temperature]
        cut = [k for k, (temperature, top_p, _) in enumerate(how) if temperature and top_p < 1]
        self.greedy, self.cut = (put(rows, torch.long) if rows else None for rows in (greedy, cut))
        self.random = len(greedy) < len(how)
        if self.random:
            self.temperature = put([temperature or 1.0 for temperature, _, _ in how], like.wide)
            self.top_p = put([top_p for _, top_p, _ in how], like.wide)
            self.u = put(np.stack([u for _, _, u in how], axis=1), like.wide)  # (tokens, B)
        self.held = None
        if allowed:
            others = put(~np.stack([*allowed.values()]), torch.bool)
            self.held = put([*allowed], torch.long), hiding(others, like.wide)
        self.tokens: list[Tensor] = []
        self.log_p: list[Tensor] = []  # of the model, before temperature and top-p; NaN where logits are no numbers

    def next(self, logits: Tensor) -> Tensor:
        """A token of every row (B,) by its logits (B, V)."""
        log_p = torch.log_softmax(logits, dim=-1)
        if self.held is not None:
            log_p.index_add_(0, *self.held)
        if self.random:
            choice = self.drawn(log_p, self.u[len(self.tokens)])
            self.log_p.append(log_p.gather(1, choice[:, None]).squeeze(1))
        else:
            best, choice = log_p.max(dim=-1)
            self.log_p.append(best)
        self.tokens.append(choice)
        return choice

    def drawn(self, log_p: Tensor, u: Tensor) -> Tensor:
        p = torch.softmax((log_p - log_p.amax(-1, True)).div_(self.temperature[:, None]), dim=-1)
        choice = draw(p, u)
        if self.cut is not None:
            choice[self.cut] = nucleus_draw(p[self.cut], self.top_p[self.cut], u[self.cut])
        if self.greedy is not None:
            choice[self.greedy] = log_p[self.greedy].argmax(dim=-1)
        return choice

    def said(self) -> list[tuple[list[int], list[float]]]:
        """The tokens of every row so far, and the log-probability of each."""
        tokens, log_p = (torch.stack(each, dim=1).cpu().tolist() for each in (self.tokens, self.log_p))
        return list(zip(tokens, log_p, strict=True))


def draw(p: Tensor, u: Tensor) -> Tensor:
    """A token of each row of p (B, V), by the inverse of its cumulative distribution at u (B,) in [0, 1)."""
    below = p.cumsum(-1, dtype=p.dtype if p.device.type == "cpu" else torch.float64)  # a GPU adds in no fixed order
    total = below[:, -1:]
    most = total.nextafter(torch.zeros_like(total))
    i = torch.searchsorted(below, torch.minimum(u[:, None] * total, most), right=True)
    return i.squeeze(1).clamp_(max=p.shape[-1] - 1)


def nucleus_draw(p: Tensor, top_p: Tensor, u: Tensor) -> Tensor:
    """Holtzman et al. 2019 (arXiv 1904.09751): draws from the fewest likeliest tokens that hold `top_p` (B,).

    Few of them are sorted, unless those hold too little. On a GPU sorting all takes less than a look at which do.
    """
    if p.device.type != "cpu":
        return within(p, *p.sort(dim=-1, descending=True), top_p, u)
    found = torch.empty(len(p), dtype=torch.long)
    few, order = p.topk(min(LIKELIEST, p.shape[-1]), dim=-1)
    holds = few.sum(-1) >= top_p
    for rows, wide in ((holds, False), (~holds, True)):
        if rows.any():
            sorted_p, ids = p[rows].sort(dim=-1, descending=True) if wide else (few[rows], order[rows])
            found[rows] = within(p[rows], sorted_p, ids, top_p[rows], u[rows])
    return found


def within(p: Tensor, sorted_p: Tensor, ids: Tensor, top_p: Tensor, u: Tensor) -> Tensor:
    """Draws by p (B, V) from the fewest of its likeliest, which `sorted_p` and `ids` tell, that hold `top_p` (B,)."""
    inside = sorted_p.cumsum(-1) - sorted_p < top_p[:, None]
    inside[:, 0] = True
    return draw(torch.zeros_like(p).scatter_(1, ids, sorted_p * inside), u)
