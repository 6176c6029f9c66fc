"""One arm at one number of labels, as a report shows it: how right, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptlab.compare.calibration import brier_interval, ece_interval
from promptlab.compare.cells import Cell, Json, read_lines
from promptlab.compare.comparisons import Option, Sure
from promptlab.compare.statistics import Interval


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of answering. `family` is "prompting", "fine-tuning" or "baseline", or one of those that are not chosen.

    `draws_without_labels`: whether its answers depend on the seed where there are no labels to draw either.
    """

    name: str
    family: str
    needs_labels: bool
    draws_without_labels: bool
    description: str


@dataclass(frozen=True, slots=True)
class Point:
    """One arm at one number of labels: how right, how sure, at what cost. Means are over seeds and items.

    `recall` is each class's, `brier` and `ece` are of the labels' probabilities where they were scored, and `absent`
    are the labels that the examples of some seed lack.
    """

    arm: str
    family: str
    labels: int
    accuracy: Interval
    macro_f1: Interval | None
    generated: Interval | None
    format_errors: float | None
    no_answer: float
    failed: float
    by_seed: Mapping[str, float]
    shots: float
    left_out: float
    learn_seconds: float
    learn_calls: float
    learn_tokens: float
    trained_parameters: int | None
    input_tokens: float
    output_tokens: float
    ms_per_answer: float
    notes: tuple[str, ...]
    recall: Mapping[str, Interval]
    brier: Interval | None
    ece: Interval | None
    absent: tuple[str, ...]


def arm_of(told: Json) -> Arm:
    """An arm as run.json tells of it."""
    draws = told.get("draws_without_labels", False)
    return Arm(told["name"], told["family"], told["needs_labels"], draws, told.get("description", ""))


def drawn(one: Cell | Point, arms: Sequence[Arm]) -> bool:
    """Whether the answers of a cell depend on its seed: through the examples, or through the arm itself."""
    return one.labels > 0 or any(arm.draws_without_labels for arm in arms if arm.name == one.arm)


def cost_lines(run_dir: Path) -> dict[Option, list[Json]]:
    costs: dict[Option, list[Json]] = {}
    for line in read_lines(run_dir / "cells.jsonl"):
        costs.setdefault(Option(line["arm"], line["labels"]), []).append(line)
    return costs


def point_of(cell: Cell, family: str, sure: Sure, costs: Mapping[Option, Sequence[Json]]) -> Point:
    column, made = cell.columns, cell.columns["generated"]
    cost = costs.get(Option(cell.arm, cell.labels), ())
    generates = bool((made >= 0).any())
    return Point(
        arm=cell.arm,
        family=family,
        labels=cell.labels,
        accuracy=sure.accuracy(cell.correct),
        macro_f1=sure.macro_f1(cell),
        generated=sure.accuracy(made == 1) if generates else None,
        format_errors=float((made == 2).sum() / (made >= 0).sum()) if generates else None,
        no_answer=float((column["answer"] == -1).mean()),
        failed=float(column["failed"].mean()),
        by_seed={str(seed): float(row.mean()) for seed, row in zip(cell.seeds, cell.correct, strict=True)},
        shots=float(column["shots"].mean()),
        left_out=float(column["left_out"].mean()),
        learn_seconds=_mean(cost, "learn_seconds"),
        learn_calls=_mean(cost, "learn_calls"),
        learn_tokens=_mean(cost, "learn_tokens"),
        trained_parameters=next((line["trained_parameters"] for line in cost if line["trained_parameters"]), None),
        input_tokens=float(column["input_tokens"].mean()),
        output_tokens=float(column["output_tokens"].mean()),
        ms_per_answer=float(column["seconds"].mean() * 1000),
        notes=tuple(dict.fromkeys(note for line in cost for note in line["notes"])),
        recall=_recall(cell, sure),
        **_calibration(cell, sure),
        absent=tuple(dict.fromkeys(label for line in cost for label in line.get("absent", ()))),
    )


def _recall(cell: Cell, sure: Sure) -> dict[str, Interval]:
    items = sure.items
    of_class = {name: items.targets == number for number, name in enumerate(items.classes)}
    return {name: sure.mean(cell.correct, of_it) for name, of_it in of_class.items() if of_it.any()}


def _calibration(cell: Cell, sure: Sure) -> dict[str, Interval | None]:
    """Of the answers whose labels were scored; none where there are none."""
    confidence = cell.columns["confidence"]
    if np.isnan(confidence).all():
        return {"brier": None, "ece": None}
    items, again = sure.items, sure.resamples
    found = {
        "brier": brier_interval(cell.columns["brier"], items.clusters, again, sure.confidence),
        "ece": ece_interval(confidence, cell.correct, items.clusters, again, sure.confidence),
    }
    return {name: sure.told(interval) for name, interval in found.items()}


def _mean(cost: Sequence[Json], name: str) -> float:
    """Over the seeds of a cell; runs of an earlier version did not count all of it."""
    return float(np.mean([line.get(name, 0.0) for line in cost])) if cost else 0.0
