"""Attention with its weights in the open: the formula as a function, and what a trained model looks at.

The model computes the same without holding all weights at once (`model.Attention`, `causal`); this is for looking.
Shapes: B rows, T positions that look, S positions looked at, H heads, D channels a head, L layers.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from promptlab.tiny.model import Block, Transformer, rotary, rotate


class Attended(NamedTuple):
    """What attention gives, and how it came about."""

    output: Tensor  # (…, T, D)
    weights: Tensor  # (…, T, S), each row a distribution
    scores: Tensor  # (…, T, S), what the weights are the softmax of


def dot_product_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scaled: bool = True) -> Attended:
    """softmax(q kᵀ / √D) v of q (…, T, D), k (…, S, D) and v (…, S, D) (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

    Where `causal`, a position sees itself and those before it. `scaled=False` leaves out the division by √D, as worked
    examples by hand do.
    """
    scores = q @ k.transpose(-2, -1)
    if scaled:
        scores = scores / math.sqrt(q.shape[-1])
    if causal:
        T, S = scores.shape[-2:]
        future = torch.ones(T, S, dtype=torch.bool, device=scores.device).triu(S - T + 1)
        scores = scores.masked_fill(future, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    return Attended(weights @ v, weights, scores)


@torch.no_grad()
def attention_maps(model: Transformer, tokens: Tensor) -> Tensor:
    """How much each position of tokens (B, T) looks at each other, in every layer and head: (L, B, H, T, T)."""
    B, T = tokens.shape
    config = model.config
    rope = rotary(torch.arange(T)[None], config.d_head, config.rope_theta)
    x, maps = model.model.embed_tokens(tokens), []
    for layer in model.model.layers:
        block = cast(Block, layer)
        attention, normed = block.self_attn, block.input_layernorm(x)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (p(normed).view(B, T, config.n_heads, config.d_head).transpose(1, 2) for p in projections)
        maps.append(dot_product_attention(rotate(q, *rope), rotate(k, *rope), v, causal=config.causal).weights)
        x = block(x, rope, None, config.causal)
    return torch.stack(maps)
