"""In how many bits weights are kept: what suits the processor, and what it costs in accuracy."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from promptlab.tiny.engine import Engine, begin
from promptlab.tiny.engine.narrow import Kept
from promptlab.tiny.engine.weights import Weights, attention, hiding
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.tokenizer import BOS, Tokenizer
from promptlab.types import Request

LAST_CACHE = 32 << 20  # bytes that a processor's last cache has for one process, as a rule
TEXTS, LENGTH = 32, 64  # that accuracy is measured on


def suited(config: Config) -> Kept:
    """The dtype of weights with which few replies are written fastest, or many where the processor has tiles for that.

    A step reads all matrices. It is a function of their size and the processor, not timed, so that it is the same each
    time: float32 where the core's own cache holds them, else bfloat16, in which they are half as much to read and
    hardly more to compute with, and int8 where not even that is held by the last cache. With tiles (AMX) bfloat16 is
    several times as fast to compute with, so it is never int8 there, though that writes a single reply the fastest.
    """
    c = config
    numbers = c.n_layers * (4 * c.d_model**2 + 3 * c.d_model * c.d_ff) + c.d_model * c.vocab_size
    has = torch.cpu.get_capabilities()
    if 4 * numbers <= has.get("l2_cache_size", 1 << 20):
        return "float32"
    return "bfloat16" if has.get("amx_bf16") or 2 * numbers <= LAST_CACHE else "int8"


class Cost(NamedTuple):
    """How far predictions of the next token are from those by float32 weights, over so many `tokens`.

    `nats` is the mean divergence, KL(float32 ‖ fewer bits), `same` how often the likeliest token is the same.
    """

    nats: float
    same: float
    tokens: int

    def __str__(self) -> str:
        return (
            f"{self.nats:.2g} nats a token from float32, the likeliest token the same for {self.same:.1%} of "
            f"{self.tokens:,} of its own"
        )


def cost(model: Transformer, tokenizer: Tokenizer, fewer: Weights) -> Cost:
    """Of some weights beside those of the same model in float32, on what that writes from nothing at temperature 1."""
    asked = [Request((), max_tokens=LENGTH, temperature=1.0, branch=(i,)) for i in range(TEXTS)]
    rows = [begin((BOS,), each, model.config.context, seed=0) for each in asked]
    Engine(model, tokenizer).work(rows)
    exact, nats, same = Weights(model), [], []
    with torch.inference_mode():
        for row in rows:
            tokens = torch.tensor([[BOS, *row.ids]]).to(exact.device)
            p, q = (torch.log_softmax(predicted(weights, tokens), dim=-1) for weights in (exact, fewer))
            nats.append((p.exp() * (p - q)).sum(-1))
            same.append(p.argmax(-1) == q.argmax(-1))
    each = torch.cat(nats)
    return Cost(float(each.mean()), float(torch.cat(same).double().mean()), len(each))


def predicted(weights: Weights, tokens: Tensor) -> Tensor:
    """Scores of the token behind each of tokens (1, T), (T, V)."""
    at = torch.arange(tokens.shape[1], device=tokens.device)
    later = hiding(at > at[:, None], weights.dtype)[None, None]

    def attend(layer: int, qkv: Tensor) -> Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (1, H, T, D)
        seen, _ = attention(q, k, v, later)
        return seen.transpose(1, 2).flatten(2)

    return weights.logits(weights.forward(tokens, at[None], attend)[0])
