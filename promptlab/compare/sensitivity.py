"""A run without what failed in it, to see whether its verdict rests on failures being counted as wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from promptlab.compare.cells import Cell, Items
from promptlab.compare.wording import labels


class Rest(NamedTuple):
    """What was answered: the items that every cell left answered, those cells, and what was left out."""

    items: Items
    cells: list[Cell]
    cells_left_out: tuple[str, ...]
    items_left_out: int


def without_failures(items: Items, cells: Sequence[Cell]) -> Rest | None:
    """Leave out the cells that failed whole with some seed, and then each item that failed in any other.

    So that what is compared is still compared on the same items. None where nothing failed, or nothing is left.
    """
    failed = [cell.columns["failed"] > 0 for cell in cells]
    if not any(each.any() for each in failed):
        return None
    whole = [bool(each.all(axis=1).any()) for each in failed]
    kept = [(cell, each) for cell, each, gone in zip(cells, failed, whole, strict=True) if not gone]
    out = tuple(f"{cell.arm} with {labels(cell.labels)}" for cell, gone in zip(cells, whole, strict=True) if gone)
    if not kept:
        return None
    stays = ~np.any([each.any(axis=0) for _, each in kept], axis=0)
    if not stays.any():
        return None
    found, clusters = np.unique(items.clusters[stays], return_inverse=True)
    left = [label for label, stay in zip(items.labels, stays, strict=True) if stay]
    some = replace(
        items,
        ids=tuple(id for id, stay in zip(items.ids, stays, strict=True) if stay),
        targets=items.targets[stays],
        clusters=clusters.astype(np.int64),
        n_clusters=len(found),
        majority=Counter(left).most_common(1)[0][1] / len(left),
        labels=(),
        groups=(),
        subgroups=(),
        asked=None,
    )
    rest = [
        replace(cell, columns={name: values[:, stays] for name, values in cell.columns.items()}, offsets=None)
        for cell, _ in kept
    ]
    return Rest(some, rest, out, int((~stays).sum()))
