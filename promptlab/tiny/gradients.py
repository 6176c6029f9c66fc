"""Parts of the model with a gradient of their own: on a processor, what is not a product is passes over memory.

Each is what a line or two of PyTorch says, in its forward pass as in its backward one, with fewer passes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Norm(torch.autograd.Function):
    """x / rms(x) · w (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4) of x (…, C) and w (C,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)
        shrink = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise)
        shrink = shrink.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (…, 1)
        unit = x * shrink.to(x.dtype)
        ctx.save_for_backward(unit, shrink, weight)
        return unit * weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, shrink, weight = ctx.saved_tensors
        both = dy * unit
        along = torch.mv(both.flatten(0, -2), weight).div_(weight.numel()).view_as(shrink)
        dx = (dy * weight).addcmul_(unit, along, value=-1).mul_(shrink)
        return dx, both.flatten(0, -2).sum(0), None


class Heads(torch.autograd.Function):
    """Projections (B, T, 3 C), side by side, as queries, keys and values (3, B, H, T, D), the first two rotated."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, n_heads: int) -> Tensor:
        B, T, width = qkv.shape
        heads = qkv.view(B, T, 3, n_heads, width // 3 // n_heads).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D)
        out = torch.empty_like(heads, memory_format=torch.contiguous_format)
        turned(heads[:2], cos, sin, out[:2])
        out[2] = heads[2]
        ctx.save_for_backward(cos, sin)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        _, B, H, T, D = dout.shape
        dqkv = dout.new_empty(B, T, 3, H, D)
        heads = dqkv.permute(2, 0, 3, 1, 4)
        turned(dout[:2], cos, -sin, heads[:2])  # a rotation's transpose is the rotation back
        heads[2] = dout[2]
        return dqkv.view(B, T, 3 * H * D), None, None, None


def turned(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write `model.rotate` of x (…, T, D) into `out`."""
    (left, right), (to_left, to_right), (first, second) = (each.chunk(2, dim=-1) for each in (x, out, sin))
    torch.mul(x, cos, out=out)
    to_left.addcmul_(right, first, value=-1)
    to_right.addcmul_(left, second)
