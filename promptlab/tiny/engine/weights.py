"""A model as the engine computes with it: one forward pass for prompts, continuations and replies.

Matrices stand ready to multiply from the right, and those that read the same input are one. The norms' weights and the
1/√D of attention are part of them. The two halves of a rotary pair stand side by side: turning is a complex product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptlab.tiny.engine.narrow import Kept, rounded
from promptlab.tiny.model import Transformer, rotary

if TYPE_CHECKING:
    from promptlab.tiny.engine.program import Program

ALIKE = 8  # rows from which on a product's rows come out the same beside any others
VECTORS = 512  # numbers: a multiple of what a processor takes at a time, in as many threads as it may have
LINE = 64  # bytes of the cache
CPU = torch.device("cpu")
Attend = Callable[[int, Tensor], Tensor]  # layer, queries, keys and values (…, 3, H, D) -> what is seen, (…, C)


class Layer(NamedTuple):
    """The matrices of one block, each (inputs, outputs)."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


class Weights:
    """What a Transformer's parameters are at this moment, packed. They may be parametrised (LoRA).

    The matrices' numbers, those of the embedding but as it is looked up in, are rounded to what `kept` can hold.
    """

    def __init__(self, model: Transformer, kept: Kept = "float32"):
        self.config, self.kept = (c := model.config), kept
        self.dtype, self.device = model.dtype, model.device
        self.wide = torch.promote_types(self.dtype, torch.float32)  # of what half precision is too coarse for
        self.times = 1 if self.device.type == "cpu" else 8  # as many tokens are read or scored at once
        self.program: Program | None = None  # what computes with them instead, where there is a compiler
        with torch.no_grad():
            self.embedding = model.model.embed_tokens.weight.detach().clone()
            self.unembedding = rounded((self.embedding * model.model.norm.weight).t().contiguous(), kept)  # (C, V)
            self.layers = [packed(block, c.n_heads, kept) for block in model.model.layers]
            cos, sin = rotary(torch.arange(c.context)[None], c.d_head, c.rope_theta)  # (1, 1, context, D)
            half = c.d_head // 2
            self.turns = torch.complex(*(x[0, 0, :, :half].to(self.device, self.wide) for x in (cos, sin)))
            self.eps = torch.tensor(c.norm_eps, dtype=self.wide).to(self.device)

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Normed hidden states (…, C) of tokens at positions, both (B,) or (B, T).

        Of (B, T) every row is multiplied as a matrix of its own, so that it comes out the same in any batch.
        """
        H, D = self.config.n_heads, self.config.d_head
        x = self.embedding[tokens]
        shape = tokens.shape
        turn = self.turns[positions].unsqueeze(-2)  # (…, 1, D/2)
        for i, layer in enumerate(self.layers):
            qkv = product(self.normed(x), layer.qkv)
            pairs = qkv.view(*shape, 3 * H, D // 2, 2)[..., : 2 * H, :, :]  # queries and keys
            if self.wide == self.dtype:
                torch.view_as_complex(pairs).mul_(turn)
            else:  # there are no complex numbers of bfloat16
                pairs.copy_(torch.view_as_real(torch.view_as_complex(pairs.to(self.wide)).mul_(turn)))
            x = product(attend(i, qkv.view(*shape, 3, H, D)), layer.out, x)
            gate, up = product(self.normed(x), layer.gate_up).chunk(2, dim=-1)
            x = product(F.silu(gate).mul_(up), layer.down, x)
        return self.normed(x)

    def normed(self, x: Tensor) -> Tensor:
        """x over its root mean square (Zhang & Sennrich 2019); the weight is part of the next matrix."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=self.wide)
        return (x * torch.addcmul(self.eps, length, length, value=1 / x.shape[-1]).rsqrt_()).to(x.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, (N, V), for normed hidden states (N, C)."""
        return product(hidden, self.unembedding).to(self.wide)

    def alike(self, hidden: Tensor) -> Tensor:
        """The logits, each row's the same whatever the others are."""
        n = len(hidden)
        return self.logits(hidden if n >= ALIKE else F.pad(hidden, (0, 0, 0, ALIKE - n)))[:n]


def packed(block: Any, n_heads: int, kept: Kept) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    before, between = block.input_layernorm.weight, block.post_attention_layernorm.weight
    queries = paired(attention.q_proj.weight, n_heads) / math.sqrt(attention.q_proj.weight.shape[0] // n_heads)
    qkv = torch.cat((queries, paired(attention.k_proj.weight, n_heads), attention.v_proj.weight))
    gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight))
    matrices = (qkv * before, attention.o_proj.weight, gate_up * between, mlp.down_proj.weight)
    return Layer(*(rounded(matrix.detach().t().contiguous(), kept) for matrix in matrices))


def paired(weight: Tensor, n_heads: int) -> Tensor:
    """Rows (C, C) of every head in the order 0, D/2, 1, D/2 + 1, …: what queries and keys share changes no product."""
    halves = weight.view(n_heads, 2, -1, weight.shape[-1])  # (H, 2, D/2, C)
    return halves.transpose(1, 2).reshape(weight.shape)


def product(x: Tensor, matrix: Tensor, plus: Tensor | None = None) -> Tensor:
    """x (N, K) or (B, T, K) times (K, N'), plus something of the result's shape."""
    if x.dim() == 3:
        every = matrix.expand(len(x), *matrix.shape)
        return torch.bmm(x, every) if plus is None else torch.baddbmm(plus, x, every)
    return torch.mm(x, matrix) if plus is None else torch.addmm(plus, x, matrix)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ + mask) v, (B, H, T, D), and the logarithm of the softmax's denominator, (B, H, T).

    q is (B, H, T, D); k and v are (B, H, S, D), or (1, H, S, D) of what all rows share; mask is (B, 1, T or 1, S).
    """
    if q.device.type != "cpu":
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = torch.matmul(q.to(wide), k.to(wide).transpose(2, 3))  # (B, H, T, S)
        scores = scores if mask is None else scores.add_(mask)
        log = scores.logsumexp(dim=-1)
        return torch.matmul(scores.sub_(log.unsqueeze(-1)).exp_().to(v.dtype), v), log
    k, v = (x.expand(len(q), -1, -1, -1) for x in (k, v))
    # What F.scaled_dot_product_attention calls on a CPU; it does not hand on the denominator.
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return cast("tuple[Tensor, Tensor]", flash(q, k, v, attn_mask=mask, scale=1.0))


def merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over two stretches of keys as over both: each counts by its share of the denominator."""
    share = sigmoid(one[1] - other[1]).unsqueeze(-1).to(one[0].dtype)  # (B, H, T, 1)
    return torch.lerp(other[0], one[0], share)


def hiding(what: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: minus infinity where it is True, else 0."""
    return torch.zeros(what.shape, dtype=dtype, device=what.device).masked_fill_(what, float("-inf"))


def sigmoid(x: Tensor) -> Tensor:
    """The same of a number wherever it stands: PyTorch's rounds otherwise in what is left over of its last vector."""
    whole = x.new_zeros(-(-x.numel() // VECTORS) * VECTORS)
    whole[: x.numel()] = x.flatten()
    return whole.sigmoid_()[: x.numel()].view_as(x)


def room(*shape: int, dtype: torch.dtype, device: torch.device = CPU) -> Tensor:
    """Zeros; a CPU's in memory that numpy takes, in huge pages where the system has them: a step reads all over it.

    They begin where a line of the cache does, so that no vector is in two.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    found = torch.from_numpy(np.zeros(size + LINE, dtype="u1"))
    return found[-found.data_ptr() % LINE :][:size].view(dtype).view(shape)
