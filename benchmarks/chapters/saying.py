"""A model that says what it is told to, so that losses can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from promptlab.tiny.model import Config, Transformer


class Saying(Transformer):
    """Hidden states are the given ones (T, C), whatever is read, and stand for log-probabilities as they are."""

    def __init__(self, hidden: Tensor, causal: bool = True):
        T, C = hidden.shape
        super().__init__(Config(vocab_size=C, d_model=C, n_layers=0, n_heads=1, context=T + 1, causal=causal))
        self.hidden = hidden

    def forward(self, tokens: Tensor, *args: Any, **options: Any) -> Tensor:
        return self.hidden[: tokens.shape[1]].expand(len(tokens), -1, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def saying(right: Sequence[float], targets: Sequence[int], causal: bool = True, vocabulary: int = 16) -> Saying:
    """A model that gives the t-th target the t-th probability, and all other tokens equal parts of the rest."""
    p = (1 - torch.tensor(right, dtype=torch.float64)[:, None]).expand(-1, vocabulary) / (vocabulary - 1)  # (T, V)
    p = p.clone()
    p[range(len(targets)), list(targets)] = torch.tensor(right, dtype=torch.float64)
    return Saying(p.log(), causal)
