"""A block of the model by code of our own (`block.c`), forward and backward, where there is a compiler, in float32.

It is what trains: PyTorch's operations take a third longer and more (benchmarks/training_speed.py). The numbers are the
same to rounding, and neither the number of threads nor the other rows of a batch change a bit of them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promptlab.tiny import compiling
from promptlab.tiny.compiling import Matrix
from promptlab.tiny.threads import in_parts

SOURCE = Path(__file__).with_name("block.c")
OF = ("norm_1", "q", "k", "v", "out", "norm_2", "gate", "up", "down")  # weights
KEPT = ("scale_1", "qkv", "power", "seen", "between", "scale_2", "gate_up")
MADE = ("activated", "d_gate_up", "normed_2", "d_normed_2", "d_between", "d_seen", "d_qkv", "normed_1", "d_normed_1")
GRADIENTS = ("norm_1", "qkv", "out", "norm_2", "gate", "up", "down")
MATRICES = ("qkv", "out", "gate_up", "down")


class Weights(Structure):
    _fields_ = [*((name, c_void_p) for name in OF), ("ff", c_int64)]


class Packed(Structure):
    _fields_ = [(name, Matrix) for name in MATRICES]


class Step(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "length", "n_heads", "d_head", "d_ff", "causal", "turn_row")),
        ("eps", c_float), ("cos", c_void_p), ("sin", c_void_p), ("of", Weights), ("packed", Packed),
        *((name, c_void_p) for name in ("x", *KEPT, "y", "dy", *MADE, "dx")),
        *((f"dw_{name}", c_void_p) for name in GRADIENTS),
    ]  # fmt: skip


def library() -> ctypes.CDLL | None:
    """None where it was not compiled."""
    made = compiling.library(SOURCE)
    return None if made is None else declared(made)


def compiled() -> ctypes.CDLL:
    made = library()
    assert made is not None
    return made


@cache
def declared(made: ctypes.CDLL) -> ctypes.CDLL:
    """With the types that its functions take and return."""
    step = some = c_void_p
    made.pack.argtypes, made.space_for.argtypes = [step, c_int64], [step]
    made.forward.argtypes = made.backward.argtypes = made.gradients.argtypes = [step, c_int64, c_int64, some]
    made.pack.restype = made.forward.restype = made.backward.restype = made.gradients.restype = None
    made.space_for.restype = made.panel.restype = c_int64
    return made


def fits(x: Tensor, d_head: int) -> bool:
    """Whether there is code for inputs x (B, T, C) and heads of this size, and a compiler."""
    of_a_kind = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return of_a_kind and not d_head % 16 and x.numel() > 0 and library() is not None


class Passing(threading.local):
    """Room for what is needed while one block is computed, each thread's own: fresh memory costs time."""

    def __init__(self) -> None:
        self.held = torch.empty(0)
        self.panels: dict[bool, tuple[tuple[int, int], list[Tensor]]] = {}

    def room(self, n: int) -> Tensor:
        if len(self.held) < n:
            self.held = torch.empty(n)
        return self.held[:n]

    def pack(self, step: Step, C: int, back: bool) -> None:
        """The weights as products take them: transposed to go forward, as they are on the way back."""
        F, shape = step.d_ff, (C, step.of.ff)
        shapes = {"qkv": (C, 3 * C), "out": (C, C), "gate_up": (C, 2 * F), "down": (F, C)}
        shapes = {name: each[::-1] if back else each for name, each in shapes.items()}
        if back not in self.panels or self.panels[back][0] != shape:  # else what they leave out is 0 already
            width = compiled().panel()
            sizes = (inputs * (-(-outputs // width) * width) for inputs, outputs in shapes.values())
            self.panels[back] = shape, [torch.zeros(size) for size in sizes]
        for (name, each), panels in zip(shapes.items(), self.panels[back][1], strict=True):
            setattr(step.packed, name, Matrix(panels.data_ptr(), *each))
        run("pack", step, back)


passing = Passing()


class CompiledBlock(torch.autograd.Function):
    """What a block makes of x (B, T, C), the same shape: see `block`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, causal: bool, eps: float, *weights: Tensor) -> Tensor:
        (B, T, C), D, ff = x.shape, cos.shape[-1], weights[OF.index("gate")].shape[0]
        N, H, F = B * T, C // D, -(-ff // 16) * 16
        x, weights = x.contiguous(), tuple(weight.contiguous() for weight in weights)
        step = Step(B, T, H, D, F, causal, T * D if len(cos) > 1 else 0, eps, of=Weights(ff=ff))
        sizes = {"scale_1": 1, "qkv": 3 * C, "power": H, "seen": C, "between": C, "scale_2": 1, "gate_up": 2 * F}
        kept = {name: x.new_empty(N * size) for name, size in sizes.items()}
        y = torch.empty_like(x)
        tell(step, x=x, cos=cos, sin=sin, y=y, **kept)
        tell(step.of, **dict(zip(OF, weights, strict=True)))
        passing.pack(step, C, back=False)
        in_parts(lambda first, last: run("forward", step, first, last), B)
        ctx.save_for_backward(x, cos, sin, *kept.values(), *weights)
        ctx.step = step
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        step, (x, cos, sin, *others) = ctx.step, ctx.saved_tensors
        kept, weights = others[: len(KEPT)], others[len(KEPT) :]
        (B, T, C), F, ff = x.shape, step.d_ff, step.of.ff
        dx, dy = torch.empty_like(x), dy.contiguous()
        sizes = [B * T * {"activated": F, "d_gate_up": 2 * F, "d_qkv": 3 * C}.get(name, C) for name in MADE]
        made = dict(zip(MADE, torch.split(passing.room(sum(sizes)), sizes), strict=True))
        tell(step, x=x, cos=cos, sin=sin, dy=dy, dx=dx, **dict(zip(KEPT, kept, strict=True)), **made)
        tell(step.of, **dict(zip(OF, weights, strict=True)))
        passing.pack(step, C, back=True)
        in_parts(lambda first, last: run("backward", step, first, last), B)
        asked = dict(zip(OF, ctx.needs_input_grad[-len(OF) :], strict=True))
        asked["qkv"] = asked["q"] or asked["k"] or asked["v"]
        shapes = {"qkv": (3 * C, C), "out": (C, C), "gate": (ff, C), "up": (ff, C), "down": (C, ff)}
        dw = {name: x.new_empty(shapes.get(name, C)) if asked[name] else None for name in GRADIENTS}
        tell(step, **{f"dw_{name}": each for name, each in dw.items()})
        parts = torch.get_num_threads()

        def some(first: int, last: int) -> None:
            for part in range(first, last):
                run("gradients", step, part, parts)

        in_parts(some, parts)
        dqkv = dw.pop("qkv")
        dw |= dict(zip("qkv", (None, None, None) if dqkv is None else dqkv.split(C), strict=True))
        return dx, None, None, None, None, *(dw[name] if asked[name] else None for name in OF)


def tell(where: Structure, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        setattr(where, name, None if tensor is None else tensor.data_ptr())


def run(name: str, step: Step, *of: int) -> None:
    """A function of the library; what does a part of the work has space of its own to do it in."""
    made = compiled()
    if name == "pack":
        made.pack(byref(step), *of)
    else:
        space = torch.empty(made.space_for(byref(step)))
        getattr(made, name)(byref(step), *of, space.data_ptr())


def block(x: Tensor, rope: tuple[Tensor, Tensor], causal: bool, eps: float, weights: Mapping[str, Tensor]) -> Tensor:
    """What a block makes of x (B, T, C), which can be trained through once (no second derivatives).

    `rope` is cos and sin, (B or 1, 1, T, D), `eps` that of the norms, and the weights are named as in `OF`.
    """
    return CompiledBlock.apply(x, *rope, causal, eps, *(weights[name] for name in OF))  # type: ignore[no-any-return,no-untyped-call]
