"""A Llama-shaped transformer in plain PyTorch: RMSNorm, rotary positions, SwiGLU, tied embeddings.

Parameter names are those of `transformers.LlamaForCausalLM`, so one checkpoint loads in both.
Shapes: B rows, T positions, C channels, H heads, D channels a head, S positions attended to, V tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptlab.tiny import block as compiled
from promptlab.tiny.causal import causal_attention, is_faster


@dataclass(frozen=True, slots=True)
class Config:
    """The shape of a model. `context` is the longest sequence it was trained on, in tokens.

    `causal` is whether a position sees only those before it; not so in a masked language model (`promptlab.tiny.mlm`).
    """

    vocab_size: int = 1536
    d_model: int = 128
    n_layers: int = 6
    n_heads: int = 4
    d_ff: int = 352
    context: int = 1024
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    causal: bool = True

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads


def rotary(positions: Tensor, d_head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Su et al. 2021 (arXiv 2104.09864) in the half-split layout: cos and sin of (B, 1, T, D) for positions (B, T).

    The division comes last, as in transformers: a frequency one rounding apart moves logits by 1e-5 at position 100.
    """
    pairs = torch.arange(0, d_head, 2, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / theta ** (pairs / d_head)  # (D/2,)
    angles = positions[:, None, :, None].float() * frequencies  # (B, 1, T, D/2)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair (i, i + D/2) of x (B, H, T, D) by its position's angle."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class RMSNorm(nn.Module):
    """Zhang & Sennrich 2019 (arXiv 1910.07467), no bias, the mean square taken in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1) with rotary positions."""

    def __init__(self, config: Config):
        super().__init__()
        C = config.d_model
        self.n_heads = config.n_heads
        self.q_proj, self.k_proj = nn.Linear(C, C, bias=False), nn.Linear(C, C, bias=False)
        self.v_proj, self.o_proj = nn.Linear(C, C, bias=False), nn.Linear(C, C, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool) -> Tensor:
        B, T, C = x.shape
        weights = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))  # one product, not three
        qkv = F.linear(x, weights).view(B, T, 3 * self.n_heads, -1).transpose(1, 2)  # (B, 3H, T, D)
        qk, v = torch.split(qkv, [2 * self.n_heads, self.n_heads], dim=1)
        q, k = rotate(qk, rope[0].to(qk.dtype), rope[1].to(qk.dtype)).chunk(2, dim=1)  # (B, H, T, D)
        if causal and is_faster(q):
            y = causal_attention(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool) -> Tensor:
        if mask is None and compiled.fits(x, rope[0].shape[-1]):
            return compiled.block(x, rope, causal, self.input_layernorm.eps, self.weights())
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, causal)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]

    def weights(self) -> dict[str, Tensor]:
        """As they are at this moment: they may be parametrised (LoRA)."""
        attention, mlp = self.self_attn, self.mlp
        return {
            "norm_1": self.input_layernorm.weight, "norm_2": self.post_attention_layernorm.weight,
            "q": attention.q_proj.weight, "k": attention.k_proj.weight, "v": attention.v_proj.weight,
            "out": attention.o_proj.weight, "gate": mlp.gate_proj.weight, "up": mlp.up_proj.weight,
            "down": mlp.down_proj.weight,
        }  # fmt: skip


class Blocks(nn.Module):
    """The stack between token ids and hidden states (`LlamaModel` in transformers)."""

    def __init__(self, config: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)


class Transformer(nn.Module):
    """The language model. Its output matrix is the embedding matrix (tied)."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Blocks(config)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    def initialise(self, generator: torch.Generator) -> Transformer:
        """Every matrix N(0, 0.02), those that write to the residual stream divided by sqrt(2 layers); norms 1."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            to_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = 0.02 / math.sqrt(2 * self.config.n_layers) if to_residual else 0.02
            with torch.no_grad():
                weight.normal_(0.0, std, generator=generator)
        return self

    def forward(
        self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None, causal: bool | None = None
    ) -> Tensor:
        """Hidden states (B, T, C) of tokens (B, T).

        `positions` (B, T) default to 0, 1, 2, …; `mask` (B, 1, T, S) is 0 where a position may attend, minus infinity
        where not (or True and False), and replaces `causal`, which defaults to the config's; without both, every
        position sees every other (a masked language model). The engine has its own (`promptlab.tiny.engine.weights`).
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        rope = rotary(positions, self.config.d_head, self.config.rope_theta)
        causal = self.config.causal if causal is None else causal
        x = self.model.embed_tokens(tokens)
        for block in self.model.layers:
            x = block(x, rope, mask, causal and mask is None)
        return self.model.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, (…, V), for hidden states (…, C)."""
        return F.linear(hidden, self.model.embed_tokens.weight)


def parameter_count(model: nn.Module) -> int:
    """How many numbers a training run of this model would change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
