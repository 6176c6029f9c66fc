"""Files that a user names: read in whatever encoding they are, and known to be writable before anything is asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from promptlab.compare.data.tables import Table, read_table, read_text
from promptlab.errors import DataError


def table_in(path: Path) -> Table:
    """A table as `promptlab compare` reads it; what is odd about it is told on stderr. Raises DataError."""
    table = read_table(path)
    tell(path, table.warnings)
    return table


def text_in(path: Path) -> str:
    """A text, likewise. Raises DataError."""
    text, warnings = read_text(path)
    tell(path, warnings)
    return text


def tell(path: Path, warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"{path.name}: {warning}", file=sys.stderr)


def check_can_be_written(path: Path, option: str) -> None:
    """Raises DataError for a file that could not be written in the end, when all has been paid for."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "cannot be written, as there is no such folder"
        raise DataError(f"{option} {path} {what}: give the name of a file in a folder that is there.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise DataError(f"{option} {path} cannot be written: it, or its folder, is not yours to write to.")
