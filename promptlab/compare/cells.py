"""The rows of a run, as matrices: one cell for each arm and number of labels, seeds by items."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from promptlab.compare.statistics import Floats, Ints, Matrix
from promptlab.errors import DataError

Json = dict[str, Any]
Key = tuple[str, int, int]  # arm, labels, seed
# What is kept of a row, besides which item it is; "generated" is -1 where nothing was generated, 2 for a format error.
COLUMNS = ("answer", "correct", "generated", "failed", "shots", "left_out", "input_tokens", "output_tokens", "seconds")


class Block(NamedTuple):
    """The rows of one cell and seed while they are read: each row's item, and its COLUMNS one row after another."""

    places: array[int]
    numbers: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """The test items in the order of the rows. Clusters are numbered from 0; targets are class numbers or -1."""

    ids: tuple[str, ...]
    targets: Ints
    clusters: Ints
    n_clusters: int
    classes: tuple[str, ...]
    majority: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """Everything one arm answered at one number of labels. `columns` maps COLUMNS to (seeds, items) matrices."""

    arm: str
    labels: int
    seeds: tuple[int, ...]
    columns: Mapping[str, Floats]

    @property
    def correct(self) -> Matrix:
        return self.columns["correct"] > 0

    @property
    def answers(self) -> Ints:
        return self.columns["answer"].astype(np.int64)

    def on(self, seeds: Sequence[int]) -> Matrix:
        """Right or wrong on these seeds; a cell without labels that ran once is the same for every seed."""
        if self.labels == 0 and len(self.seeds) == 1:
            return np.repeat(self.correct, len(seeds), axis=0)
        return self.correct[[self.seeds.index(seed) for seed in seeds]]


def read_lines(path: Path) -> Iterator[Json]:
    """The objects of a JSONL file, one at a time. Raises DataError with the line that is not one."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the directory of a finished `promptlab compare` run.")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number} is not JSON ({error}). Resume the run to mend it.") from None
            if not isinstance(found, dict):
                raise DataError(f"{path}, line {number} holds no JSON object. Resume the run to mend it.")
            yield found


def read_json(path: Path) -> Json:
    """The one object in a JSON file. Raises DataError where it is damaged."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the directory of a finished `promptlab compare` run.")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON any more ({error}): the run has to be made anew.") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object any more: the run has to be made anew.")
    return found


def read_cells(run_dir: Path, classes: Sequence[str] = ()) -> tuple[Items, list[Cell]]:
    """Stream rows.jsonl into one Cell for each (arm, labels), keeping numbers only.

    Raises DataError where an item was answered twice in a cell, or is missing from one: nothing is dropped in silence.
    """
    seen: dict[str, tuple[str, int]] = {}
    places: dict[str, int] = {}
    names = {name: number for number, name in enumerate(classes)}
    blocks: dict[Key, Block] = {}
    for key, rows in groupby(read_lines(run_dir / "rows.jsonl"), lambda row: (row["arm"], row["labels"], row["seed"])):
        block = blocks.setdefault(key, Block(array("q"), array("d")))
        for row in rows:
            seen.setdefault(row["item"], (row["target"], row["cluster"]))
            block.places.append(places.setdefault(row["item"], len(places)))
            block.numbers.extend(_numbers(row, names))
    if not seen:
        raise DataError(f"{run_dir / 'rows.jsonl'} holds no rows: there is nothing to compare.")
    for key, block in blocks.items():
        _check(key, block, list(seen))
    return _items(seen, tuple(classes), names), _cells(blocks, len(seen))


def _check(key: Key, block: Block, ids: list[str]) -> None:
    where = f"Arm {key[0]!r} with {key[1]} labels, seed {key[2]},"
    times = np.bincount(block.places, minlength=len(ids))
    if times.max() > 1:
        raise DataError(
            f"{where} answered item {ids[int(times.argmax())]!r} twice. Every item is answered once a seed."
        )
    if times.min() == 0:
        lacks, first = int((times == 0).sum()), ids[int(times.argmin())]
        raise DataError(f"{where} lacks {lacks} of {len(ids)} items, such as {first!r}. Resume the run.")


def _numbers(row: Json, names: Mapping[str, int]) -> tuple[float, ...]:
    """A row's COLUMNS as numbers. An answer that is no class is -2, no answer -1."""
    made = row.get("generated")
    generated = -1 if made is None else 2 if made["answer"] is None else int(made["correct"])
    answer = -1 if row["answer"] is None else names.get(row["answer"], -2)
    rest = (float(row.get(name) or 0) for name in COLUMNS[4:])
    return (float(answer), float(row["correct"]), float(generated), float(row.get("error") is not None), *rest)


def _items(seen: Mapping[str, tuple[str, int]], classes: tuple[str, ...], names: Mapping[str, int]) -> Items:
    targets = [target for target, _ in seen.values()]
    found, clusters = np.unique([cluster for _, cluster in seen.values()], return_inverse=True)
    most = Counter(targets).most_common(1)[0][1] / len(targets)
    return Items(
        tuple(seen),
        np.array([names.get(target, -1) for target in targets], dtype=np.int64),
        clusters.astype(np.int64),
        len(found),
        classes,
        most if classes else None,
    )


def _cells(blocks: Mapping[Key, Block], n_items: int) -> list[Cell]:
    seeds: dict[tuple[str, int], list[int]] = {}
    for arm, labels, seed in blocks:
        seeds.setdefault((arm, labels), []).append(seed)
    cells = []
    for (arm, labels), ran in seeds.items():
        stacked = np.empty((len(ran), n_items, len(COLUMNS)))
        for row, seed in enumerate(ran):
            block = blocks[arm, labels, seed]
            stacked[row, block.places] = np.reshape(block.numbers, (-1, len(COLUMNS)))
        columns = {name: stacked[:, :, place] for place, name in enumerate(COLUMNS)}
        cells.append(Cell(arm, labels, tuple(ran), columns))
    return cells
