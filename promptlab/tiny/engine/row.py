"""One reply in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan

import numpy as np

from promptlab.constrained import Held
from promptlab.tiny.engine.drawing import Uniforms
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.types import Request

AT_ONCE = 64  # tokens of a reply that may be written in one go, a quarter where it has stop strings

Said = tuple[list[int], list[float]]  # tokens, and the log-probability of each


@dataclass(slots=True)
class Row:
    """`finish` is "stop", "length", or "nan" where the model gave no numbers."""

    prompt: tuple[int, ...]
    request: Request
    uniforms: Uniforms  # one draw in [0, 1) a token: as many as there is room for
    held: Held | None = None  # to the request's schema
    finish: str | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.finish is not None

    @property
    def left(self) -> int:
        """How many tokens there is room for."""
        return len(self.uniforms) - len(self.ids)

    @property
    def unseen(self) -> int:
        """How many tokens may be written before any is looked at: for a schema, a stop string, or Ctrl-C."""
        return 1 if self.held is not None else min(self.left, AT_ONCE // 4 if self.request.stop else AT_ONCE)

    def how(self, most: int) -> tuple[float, float, Uniforms]:
        """Temperature, top-p and the numbers to draw so many tokens by, 0 behind the last there is room for."""
        u = self.uniforms[len(self.ids) : len(self.ids) + most]
        if len(u) < most:
            u = np.pad(u, (0, most - len(u)))
        return self.request.temperature or 0.0, self.request.top_p, u

    def extend(self, tokens: list[int], log_p: list[float], tokenizer: Tokenizer) -> None:
        """Adds tokens up to one that ends the reply; those behind it were for nothing."""
        before, said = len(self.ids), min(len(tokens), self.left)
        if EOS in tokens[:said]:
            said, self.finish = tokens.index(EOS), "stop"
        elif said == self.left:
            self.finish = "length"
        looked_at = log_p[: said + (self.finish == "stop")]
        if isnan(sum(looked_at)):  # none is infinity, so one of them is no number
            said, self.finish = next(i for i, p in enumerate(looked_at) if isnan(p)), "nan"
        self.ids += tokens[:said]
        self.logprobs += log_p[:said]
        if self.held is not None:
            for token in tokens[:said]:
                self.held.take(token)
        if self.stopped(len(self.ids), tokenizer):
            end = next(n for n in range(before + 1, len(self.ids) + 1) if self.stopped(n, tokenizer))
            del self.ids[end:], self.logprobs[end:]
            self.finish = "stop"

    def stopped(self, n: int, tokenizer: Tokenizer) -> bool:
        """Whether the first n tokens say a stop string."""
        text = tokenizer.decode(self.ids[:n]) if self.request.stop else ""
        return any(stop in text for stop in self.request.stop)
