"""A test from outside by its parts, where its groups say which part they are of: "discussion:12345678"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from promptlab.compare.cells import read_cells
from promptlab.compare.joining import OUTSIDE
from promptlab.compare.statistics import Interval, accuracy, resample


class OfPart(NamedTuple):
    """An arm at a number of labels on one part."""

    part: str
    arm: str
    labels: int
    accuracy: Interval


def by_part(folder: Path, classes: tuple[str, ...]) -> Iterator[OfPart]:
    """Every option's accuracy on each part; nothing where no such test was given, or it is of one part."""
    if not (folder / OUTSIDE).exists():
        return
    items, cells = read_cells(folder, classes, OUTSIDE)
    names = np.array([group.partition(":")[0] if group and ":" in group else "" for group in items.groups])
    for name in dict.fromkeys(names.tolist()) if len(set(names)) > 1 else ():
        of_it = names == name
        known, clusters = np.unique(items.clusters[of_it], return_inverse=True)
        many = resample(len(known))
        for cell in cells:
            found = accuracy(cell.correct[:, of_it], clusters.astype(np.int64), many)
            yield OfPart(name, cell.arm, cell.labels, found)
