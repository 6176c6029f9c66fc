"""Our own C, which a compiler of this machine makes into a library for its processor, once."""

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
from ctypes import Structure, c_int64, c_void_p
from functools import cache
from pathlib import Path

HEADER = Path(__file__).with_name("vectors.h")

log = logging.getLogger(__name__)


class Matrix(Structure):
    """Columns in panels of as many as a library's `panel()` says, (outputs / panel, inputs, panel)."""

    _fields_ = [("panels", c_void_p), ("inputs", c_int64), ("outputs", c_int64)]


def library(source: Path) -> ctypes.CDLL | None:
    """None where there is no compiler, or PROMPTLAB_COMPILE=0 says that there should be none."""
    return None if os.environ.get("PROMPTLAB_COMPILE") == "0" else compiled(source, os.environ.get("CC") or "cc")


@cache
def compiled(source: Path, compiler_command: str) -> ctypes.CDLL | None:
    """By this compiler, and kept in the user's cache for the next time."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    flags = ["-O3", native, "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
    try:
        compiler = shlex.split(compiler_command) or ["cc"]
        if shutil.which(compiler[0]) is None:
            return None
        means = run([*compiler, native, "-dM", "-E", "-x", "c", os.devnull])  # the compiler, and what it compiles for
        parts = [source, *sorted({HEADER, *source.parent.glob("*.h")})]
        made_of = [*(part.read_bytes() for part in parts), " ".join(flags).encode(), means]
        made = folder() / f"{source.stem}-{hashlib.sha256(b'|'.join(made_of)).hexdigest()[:24]}.so"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=made.parent) as there:
                run([*compiler, *flags, str(source), "-o", f"{there}/made.so", "-lm"])
                Path(there, "made.so").replace(made)
        return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError, ValueError, RuntimeError) as error:  # CC's quotes, no home folder
        told = (getattr(error, "stderr", None) or b"").decode(errors="replace")[-500:]
        log.warning("%s is not compiled, PyTorch is used: %s %s", source.name, error, told)
        return None


def run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60).stdout


def folder() -> Path:
    """The user's own, as what is in it is executed."""
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promptlab"
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found
