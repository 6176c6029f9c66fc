"""In which precision a run's products are computed: bfloat16 where the processor multiplies it itself, else float32.

A processor that does not emulates it: on one with AVX2 only, a step in bf16 takes six times as long as one in float32.
"""

from __future__ import annotations

from pathlib import Path

import torch

from promptlab.tiny import parallel
from promptlab.tiny.checkpoint import read_json

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")  # of x86; on other processors bf16 has to be asked for


def native_bf16() -> bool:
    """Whether this processor has instructions for bf16: read off, not timed, so that it is the same each time."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in INSTRUCTIONS)


def precision(noted: Path, asked: bool | None) -> bool:
    """Whether a run is in bf16: as asked, else as the run noted in that file is, else as suits the processor.

    Of several processes it is bf16 only if it is so for each.
    """
    if asked is None and noted.exists():
        asked = read_json(noted).get("bf16")
    bf16 = native_bf16() if asked is None else asked
    return parallel.summed(float(bf16)) == parallel.processes()
