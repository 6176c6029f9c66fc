"""`arithmetic.c` as a library, which a C compiler of this machine makes for its processor, once."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("arithmetic.c")
LANES, PANEL, SLICE = 16, 64, 96  # as there

log = logging.getLogger(__name__)


class Matrix(Structure):
    _fields_ = [("panels", c_void_p), ("inputs", c_int64), ("outputs", c_int64)]


class Layer(Structure):
    _fields_ = [("qkv", Matrix), ("out", Matrix), ("gate_up", Matrix), ("down", Matrix)]


class Model(Structure):
    _fields_ = [
        ("n_layers", c_int64), ("n_heads", c_int64), ("d_head", c_int64), ("d_ff", c_int64), ("eps", c_float),
        ("embedding", c_void_p), ("turns", c_void_p), ("layers", POINTER(Layer)), ("unembedding", Matrix),
    ]  # fmt: skip


class Memory(Structure):
    _fields_ = [("blocks", c_void_p), ("n", c_int64)]


HOW = np.dtype([("temperature", np.float64), ("top_p", np.float64), ("allowed", np.uintp)])


def library() -> ctypes.CDLL | None:
    """None where there is no compiler, or PROMPTLAB_COMPILE=0 says that there should be none."""
    return None if os.environ.get("PROMPTLAB_COMPILE") == "0" else compiled(os.environ.get("CC") or "cc")


@cache
def compiled(compiler_command: str) -> ctypes.CDLL | None:
    """By this compiler, and kept in the user's cache for the next time."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    flags = ["-O3", native, "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
    try:
        compiler = shlex.split(compiler_command) or ["cc"]
        if shutil.which(compiler[0]) is None:
            return None
        means = run([*compiler, native, "-dM", "-E", "-x", "c", os.devnull])  # the compiler, and what it compiles for
        name = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(flags).encode(), means])).hexdigest()[:24]
        made = folder() / f"arithmetic-{name}.so"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=made.parent) as there:
                run([*compiler, *flags, str(SOURCE), "-o", f"{there}/made.so", "-lm"])
                Path(there, "made.so").replace(made)
        return declared(ctypes.CDLL(str(made)))
    except (OSError, subprocess.SubprocessError, ValueError, RuntimeError) as error:  # CC's quotes, no home folder
        told = getattr(error, "stderr", None) or b""
        log.warning("no compiled engine, PyTorch's is used: %s %s", error, told.decode(errors="replace")[-500:])
        return None


def declared(made: ctypes.CDLL) -> ctypes.CDLL:
    """With the types that its functions take and return."""
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
    made.space_for.restype = made.go_on.restype = c_int64
    return made


def run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60).stdout


def folder() -> Path:
    """The user's own, as what is in it is executed."""
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promptlab"
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found
