"""What failed in a run, for the last lines that a person sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from promptlab.compare.cells import read_lines
from promptlab.compare.plan import Cell
from promptlab.errors import ContextOverflow


class Failure(NamedTuple):
    """A cell in which answers failed: how many, of how many, and why the first one did."""

    cell: Cell
    n_failed: int
    n_items: int
    reason: str

    @property
    def whole(self) -> bool:
        return self.n_failed == self.n_items

    @property
    def too_long(self) -> bool:
        """Whether it would fail again, however often it is asked."""
        return self.reason.startswith(ContextOverflow.__name__)

    def __str__(self) -> str:
        if self.whole:
            return f"{self.cell}: failed, {self.reason}"
        return f"{self.cell}: {self.n_failed:,} of {self.n_items:,} answers failed, the first: {self.reason}"


def failures(folder: Path) -> Iterator[Failure]:
    """Every cell of a finished run with failed answers, in the order of the rows."""
    rows = read_lines(folder / "rows.jsonl")
    for cell, of_cell in groupby(rows, lambda row: Cell(row["arm"], row["labels"], row["seed"])):
        errors = [row["error"] for row in of_cell]
        if why := [error for error in errors if error is not None]:
            yield Failure(cell, len(why), len(errors), why[0])
