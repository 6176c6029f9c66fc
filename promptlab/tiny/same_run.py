"""What a run is, noted in its folder: who goes on with it must mean the same one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from promptlab.errors import SetupError
from promptlab.tiny import parallel
from promptlab.tiny.checkpoint import read_json, write_json


def same_run(path: Path, given: dict[str, Any], absent: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write down what a run is, or see that the run begun here is the same; `absent` is what a missing key means.

    A start is told by its weights, "sha256", and not by where they lie, "init"; earlier notes have the latter only.
    """
    if parallel.rank() == 0 and not path.exists():
        write_json(path, given)
    parallel.wait()
    begun = {**absent, **read_json(path)}
    unasked = "init" if "sha256" in begun else "sha256"
    if any(begun.get(key) != given.get(key) for key in (begun.keys() | given.keys()) - {unasked}):
        raise SetupError(f"{path.parent} was begun with {begun}, not with {given}. Choose another folder.")
