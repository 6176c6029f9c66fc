"""How `transformers` is made to draw for each row by itself, and to end each row where its own request says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from promptlab.backends.templates import decode
from promptlab.types import Request

LOOK_BACK = 64  # tokens more than a stop string has characters, among which one that just ended must lie


class Sampling(LogitsProcessor):
    """Scores whose largest is a draw from softmax(scores / temperature), within top-p; each row's by its own seed.

    By the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030): argmax(log p + G) is distributed as p.
    So a batch is decoded greedily, and what a row draws does not depend on the rows beside it. The model's own log p of
    what is drawn is kept for the rows that ask for it.
    """

    def __init__(self, rows: Sequence[tuple[Request, int]], device: str) -> None:
        self.draws = {
            k: (request.temperature, request.top_p, torch.Generator().manual_seed(seed))
            for k, (request, seed) in enumerate(rows)
            if request.temperature
        }
        self.told = [k for k, (request, _) in enumerate(rows) if request.logprobs]
        self.steps: list[Tensor] = []  # (told, 1) each
        self.device = device

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = scores.clone() if self.draws else scores
        for k, (temperature, top_p, generator) in self.draws.items():
            log_p = torch.log_softmax(scores[k].double() / temperature, dim=-1)  # (V,)
            if top_p < 1:
                p, order = log_p.exp().sort(descending=True, stable=True)
                log_p[order[p.cumsum(-1) - p >= top_p]] = -torch.inf
            u = torch.rand(log_p.shape, generator=generator, dtype=torch.float64).to(self.device)
            drawn[k] = (log_p - torch.log(-torch.log(u.clamp(1e-300, 1 - 1e-16)))).to(scores.dtype)
        if self.told:
            choice = drawn[self.told].argmax(-1, keepdim=True)
            self.steps.append(torch.log_softmax(scores[self.told].float(), dim=-1).gather(1, choice))
        return drawn

    def log_p(self) -> dict[int, list[float]]:
        """Of every row that asks, the log-probability of each token drawn, in nats."""
        if not self.told:
            return {}
        return dict(zip(self.told, torch.cat(self.steps, dim=1).tolist(), strict=True))


class Ends(StoppingCriteria):
    """A row ends at the most tokens of its own, or once one of its stop strings is written."""

    def __init__(self, rows: Sequence[tuple[int, tuple[str, ...]]], tokenizer: Any, width: int) -> None:
        self.rows, self.tokenizer, self.width = rows, tokenizer, width

    def __call__(self, input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        written = input_ids[:, self.width :]
        over = [
            written.shape[1] >= room or (bool(stop) and self._said(written[k], stop))
            for k, (room, stop) in enumerate(self.rows)
        ]
        return torch.tensor(over, device=input_ids.device)

    def _said(self, written: Tensor, stop: Sequence[str]) -> bool:
        said = decode(self.tokenizer, written[-LOOK_BACK - max(map(len, stop)) :].tolist())
        return any(each in said for each in stop)
