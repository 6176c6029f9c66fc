"""How `transformers` is made to draw for each row by itself, and to end each row where its own request says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from promptlab.backends.templates import decode
from promptlab.constrained import Held
from promptlab.types import Request

LOOK_BACK = 64  # tokens more than a stop string has characters, among which one that just ended must lie


class Sampling(LogitsProcessor):
    """Scores whose largest is a draw from softmax(scores / temperature), within top-p; each row's by its own seed.

    By the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030): argmax(log p + G) is distributed as p.
    So a batch is decoded greedily, and what a row draws does not depend on the rows beside it. The model's own log p of
    what is drawn is kept for the rows that ask for it. Rows of `held` draw among what their schemas allow; `width` is
    how many tokens the prompts have.
    """

    def __init__(self, rows: Sequence[tuple[Request, int]], device: str, held: Mapping[int, Held], width: int) -> None:
        self.draws = {
            k: (request.temperature, request.top_p, torch.Generator().manual_seed(seed))
            for k, (request, seed) in enumerate(rows)
            if request.temperature
        }
        self.told = [k for k, (request, _) in enumerate(rows) if request.logprobs]
        self.steps: list[Tensor] = []  # (told, 1) each
        self.device = device
        self.held, self.width = {k: (each, each.allowed()) for k, each in held.items()}, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] > self.width:
            self._take(input_ids[:, -1].tolist())
        drawn = scores.clone() if self.draws or self.held else scores
        for k, (_, allowed) in self.held.items():
            drawn[k, torch.from_numpy(~allowed).to(self.device)] = -torch.inf
        for k, (temperature, top_p, generator) in self.draws.items():
            log_p = torch.log_softmax(drawn[k].double() / temperature, dim=-1)  # (V,)
            if top_p < 1:
                p, order = log_p.exp().sort(descending=True, stable=True)
                log_p[order[p.cumsum(-1) - p >= top_p]] = -torch.inf
            u = torch.rand(log_p.shape, generator=generator, dtype=torch.float64).to(self.device)
            drawn[k] = (log_p - torch.log(-torch.log(u.clamp(1e-300, 1 - 1e-16)))).to(scores.dtype)
        if self.told:
            choice = drawn[self.told].argmax(-1, keepdim=True)
            self.steps.append(torch.log_softmax(scores[self.told].float(), dim=-1).gather(1, choice))
        return drawn

    def _take(self, last: Sequence[int]) -> None:
        """Tells every schema its row's last token; what comes behind an end, or the last that has room, only fills."""
        for k, (held, allowed) in list(self.held.items()):
            if held.whole or not allowed[last[k]]:
                del self.held[k]
            else:
                held.take(last[k])
                self.held[k] = held, held.allowed()

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
