"""The rows of a run, as matrices: one cell for each arm and number of labels, seeds by items."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from promptlab.compare.statistics import Floats, Ints, Matrix, pooled
from promptlab.compare.wording import labels
from promptlab.errors import DataError

Json = dict[str, Any]
Key = tuple[str, int, int]  # arm, labels, seed
# What is kept of a row, besides which item it is; "generated" is -1 where nothing was generated, 2 for a format error.
COLUMNS = ("answer", "correct", "generated", "failed", "shots", "left_out", "input_tokens", "output_tokens", "seconds")
SURE = ("confidence", "brier")  # kept too; not a number where no labels were scored
TOOK = ("calls", "reused_tokens", "cached_tokens", "cost_usd", "latency")  # and these; the last two may be unknown
KEPT = (*COLUMNS, *SURE, *TOOK)
MOST_ANSWERS = 50_000  # of the answers that are no class, kept as texts
LONGEST_ANSWER = 200


class Block(NamedTuple):
    """The rows of one cell and seed while they are read: each row's item, where in the file it starts, what is KEPT."""

    places: array[int]
    offsets: array[int]
    numbers: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """The test items in the order of the rows. Clusters are numbered from 0; targets are class numbers or -1.

    `majority` is the share of the commonest target, `labels` are the targets as written, `groups` and `subgroups` as
    told; `asked` is the message that asks for an item in the first arm that has a prompt, or -1. `others` are the
    answers that are no class: see `answer_text`.
    """

    ids: tuple[str, ...]
    targets: Ints
    clusters: Ints
    n_clusters: int
    classes: tuple[str, ...]
    majority: float
    labels: tuple[str, ...] = ()
    groups: tuple[str | None, ...] = ()
    subgroups: tuple[str | None, ...] = ()
    asked: Ints | None = None
    others: tuple[str, ...] = ()

    def answer_text(self, code: int) -> str | None:
        """What an answer's number stands for: -1 for none, -2 for one that is no class and one too many to be kept."""
        return self.classes[code] if code >= 0 else None if code == -1 else (*self.others, "…")[-3 - code]

    def pooled(self) -> Items:
        """The same with no more clusters than are resampled: see `statistics.pooled`."""
        clusters, n_clusters = pooled(self.clusters, self.n_clusters)
        return self if n_clusters == self.n_clusters else replace(self, clusters=clusters, n_clusters=n_clusters)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """Everything one arm answered at one number of labels. `columns` maps what is KEPT to (seeds, items) matrices.

    `offsets` (seeds, items) is where in rows.jsonl each row starts.
    """

    arm: str
    labels: int
    seeds: tuple[int, ...]
    columns: Mapping[str, Floats]
    offsets: Ints | None = None

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


MEND = "Resume the run to mend it."


def read_lines(path: Path, mend: str = MEND) -> Iterator[Json]:
    """The objects of a JSONL file, one at a time. Raises DataError with the line that is not one, and `mend`."""
    return (found for _, found in placed_lines(path, mend))


def placed_lines(path: Path, mend: str = MEND) -> Iterator[tuple[int, Json]]:
    """The objects of a JSONL file, each with where its line starts, in bytes."""
    decode, offset = json.JSONDecoder().decode, 0
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the directory of a finished `promptlab compare` run.")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = decode(line.decode("utf-8", "surrogatepass"))
            except ValueError as error:
                raise DataError(f"{path}, line {number} is not JSON ({error}). {mend}") from None
            if not isinstance(found, dict):
                raise DataError(f"{path}, line {number} holds no JSON object. {mend}")
            yield offset, found
            offset += len(line)


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


def read_cells(run_dir: Path, classes: Sequence[str] = (), file: str = "rows.jsonl") -> tuple[Items, list[Cell]]:
    """Stream rows.jsonl, or another file of rows, into one Cell for each (arm, labels), keeping numbers only.

    Raises DataError where an item was answered twice in a cell, or is missing from one: nothing is dropped in silence.
    """
    reading = _Reading({name: number for number, name in enumerate(classes)})
    blocks: dict[Key, Block] = {}
    last, block = None, Block(array("q"), array("q"), array("d"))
    for offset, row in placed_lines(run_dir / file):
        key = row["arm"], row["labels"], row["seed"]
        if key != last:
            last, block = key, blocks.setdefault(key, Block(array("q"), array("q"), array("d")))
        block.places.append(reading.place(row))
        block.offsets.append(offset)
        block.numbers.extend(reading.numbers(row))
    if not reading.places:
        raise DataError(f"{run_dir / file} holds no rows: there is nothing to compare.")
    items = reading.items(tuple(classes))
    for key, block in blocks.items():
        _check(key, block, items.ids)
    return items, _cells(blocks, len(items.ids))


class _Reading:
    """What is known of the items while rows are read, and the numbers that answers go by."""

    def __init__(self, classes: Mapping[str, int]):
        self.classes = classes
        self.places: dict[str, int] = {}
        self.labels: list[str] = []
        self.clusters = array("q")
        self.groups: list[str | None] = []
        self.subgroups: list[str | None] = []
        self.asked = array("q")
        self.others: dict[str, int] = {}

    def place(self, row: Json) -> int:
        """The number of a row's item."""
        place = self.places.get(row["item"])
        if place is None:
            place = self.places[row["item"]] = len(self.places)
            self.labels.append(row["target"])
            self.clusters.append(row["cluster"])
            self.groups.append(row.get("group"))
            self.subgroups.append(row.get("subgroup"))
            self.asked.append(-1)
        if self.asked[place] < 0 and (prompt := row.get("prompt")):
            self.asked[place] = prompt[-1]
        return place

    def numbers(self, row: Json) -> tuple[float, ...]:
        """What is KEPT of a row."""
        made, get = row.get("generated"), row.get
        generated = -1 if made is None else 2 if made["answer"] is None else int(made["correct"])
        return (
            float(self._answer(row["answer"])),
            float(row["correct"]),
            float(generated),
            float(get("error") is not None),
            float(get("shots") or 0),
            float(get("left_out") or 0),
            float(get("input_tokens") or 0),
            float(get("output_tokens") or 0),
            float(get("seconds") or 0),
            *(float(get(name, "nan")) for name in SURE),
            float(get("calls", 1)),
            float(get("reused_tokens", 0)),
            float(get("cached_tokens", 0)),
            float(get("cost_usd", "nan")),
            float(get("latency", "nan")),
        )

    def _answer(self, answer: Any) -> int:
        """An answer's class, -1 for none, less than that for one that is no class."""
        if answer is None:
            return -1
        found = self.classes.get(answer)
        if found is not None:
            return found
        text = str(answer)[:LONGEST_ANSWER]
        if len(self.others) < MOST_ANSWERS:
            return -3 - self.others.setdefault(text, len(self.others))
        return -3 - self.others.get(text, -1)

    def items(self, classes: tuple[str, ...]) -> Items:
        found, clusters = np.unique(np.array(self.clusters), return_inverse=True)
        most = Counter(self.labels).most_common(1)[0][1] / len(self.labels)
        return Items(
            ids=tuple(self.places),
            targets=np.array([self.classes.get(target, -1) for target in self.labels], dtype=np.int64),
            clusters=clusters.astype(np.int64),
            n_clusters=len(found),
            classes=classes,
            majority=most,
            labels=tuple(self.labels),
            groups=tuple(self.groups),
            subgroups=tuple(self.subgroups) if any(self.subgroups) else (),
            asked=np.array(self.asked),
            others=tuple(self.others),
        )


def _check(key: Key, block: Block, ids: Sequence[str]) -> None:
    where = f"Arm {key[0]!r} with {labels(key[1])}, seed {key[2]},"
    times = np.bincount(block.places, minlength=len(ids))
    if times.max() > 1:
        raise DataError(
            f"{where} answered item {ids[int(times.argmax())]!r} twice. Every item is answered once a seed."
        )
    if times.min() == 0:
        lacks, first = int((times == 0).sum()), ids[int(times.argmin())]
        raise DataError(f"{where} lacks {lacks} of {len(ids)} items, such as {first!r}. Resume the run.")


def _cells(blocks: dict[Key, Block], n_items: int) -> list[Cell]:
    seeds: dict[tuple[str, int], list[int]] = {}
    for arm, budget, seed in blocks:
        seeds.setdefault((arm, budget), []).append(seed)
    cells = []
    for (arm, budget), ran in seeds.items():
        stacked = np.empty((len(ran), n_items, len(KEPT)))
        offsets = np.empty((len(ran), n_items), dtype=np.int64)
        for row, seed in enumerate(ran):
            block = blocks.pop((arm, budget, seed))  # what is stacked is not kept twice
            stacked[row, block.places] = np.reshape(block.numbers, (-1, len(KEPT)))
            offsets[row, block.places] = block.offsets
        columns = {name: stacked[:, :, place] for place, name in enumerate(KEPT)}
        cells.append(Cell(arm, budget, tuple(ran), columns, offsets))
    return cells
