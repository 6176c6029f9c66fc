"""`arithmetic.c` as Python calls it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from pathlib import Path

import numpy as np

from promptlab.tiny import compiling

SOURCE = Path(__file__).with_name("arithmetic.c")
LANES, SLICE = 16, 96  # as there


class Weight(Structure):
    """Panels of as many columns as the library's `panel()` says, of numbers of so many bits, as `narrow.h` has them."""

    _fields_ = [
        ("panels", c_void_p), ("inputs", c_int64), ("outputs", c_int64), ("bits", c_int64), ("scales", c_void_p)
    ]  # fmt: skip


class Layer(Structure):
    _fields_ = [("qkv", Weight), ("out", Weight), ("gate_up", Weight), ("down", Weight)]


class Model(Structure):
    _fields_ = [
        ("n_layers", c_int64), ("n_heads", c_int64), ("d_head", c_int64), ("d_ff", c_int64), ("eps", c_float),
        ("embedding", c_void_p), ("turns", c_void_p), ("layers", POINTER(Layer)), ("unembedding", Weight),
    ]  # fmt: skip


class Memory(Structure):
    _fields_ = [("blocks", c_void_p), ("n", c_int64)]


HOW = np.dtype([("temperature", np.float64), ("top_p", np.float64), ("allowed", np.uintp)])


def library() -> ctypes.CDLL | None:
    """With the types that its functions take and return; None where it was not compiled."""
    made = compiling.library(SOURCE)
    if made is None:
        return None
    model = some = c_void_p
    made.space_for.argtypes = [model, c_int64, c_int64]
    made.forward.argtypes = [model, Memory, c_int64, some, c_int64, some, some]
    made.scores.argtypes = [model, c_int64, some, some]
    made.said.argtypes = [model, c_int64, some, some, some, some]
    made.draws.argtypes = [model, c_int64, *[some] * 7]
    made.go_on.argtypes = [
        model, Memory, c_int64, some, c_int64, *[some] * 3, c_int64, c_int64, c_int64, *[some] * 5
    ]  # fmt: skip
    made.forward.restype = made.scores.restype = made.said.restype = made.draws.restype = None
    for whole in (made.space_for, made.go_on, made.panel, made.width, made.by_tiles):
        whole.restype = c_int64
    return made
