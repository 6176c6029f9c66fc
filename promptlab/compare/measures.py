"""From a run's rows to its results: a point for each cell, paired differences, and what follows from them.

rows.jsonl ─ cells ─┬─ points ────────────────┐
                    ├─ comparisons ─ crossing ─┤
                    ├─ overtaking ─ crossovers ├─ results.json ─ report.html
                    └─ every cell ─── choice ──┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from promptlab.compare import statistics
from promptlab.compare.calibration import ece
from promptlab.compare.cells import Cell, Items, Json, read_cells, read_json, read_lines
from promptlab.compare.comparisons import (
    BASELINE,
    FAMILIES,
    FAMILY_QUESTION,
    FINE_TUNING,
    MAJORITY_ARM,
    PROMPTING,
    Best,
    Difference,
    Option,
    Sure,
    aligned,
    compare_at,
    cross_fitted,
    sure_on,
    with_holm,
)
from promptlab.compare.crossover import Crossover
from promptlab.compare.elsewhere import Forgotten, Outside, forgotten, outside
from promptlab.compare.hypotheses import not_worse
from promptlab.compare.overtaking import crossovers
from promptlab.compare.sensitivity import without_failures
from promptlab.compare.statistics import Interval
from promptlab.errors import DataError


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
    recall: Mapping[str, float]
    brier: float | None
    ece: float | None
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """The first budget where fine-tuning is ahead of prompting, and the last below it where prompting is ahead.

    "Ahead" is a paired interval that leaves out zero; None where there is no such budget.
    """

    fine_tuning_from: int | None
    prompting_until: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest option within the margin of the best, over every arm and number of labels.

    Within the margin: the lower end of (option - best) lies above -margin. Cheapest: see `cost`.
    """

    best: tuple[Option, ...]
    best_accuracy: Interval
    cheapest: Option
    accuracy: Interval
    to_best: Interval
    equivalent: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The results without what failed, and what was left out for that: whole cells, and items."""

    results: Results
    cells: tuple[str, ...]
    items: int


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured. `arms` are in the run's order, points by number of labels and then in that order.

    `above` are the options whose accuracy is above the share of the test's commonest class (above 0 where there are no
    classes): by an interval of their own, at a level corrected for how many options there are (Bonferroni). `answered`
    are the results as they would be without what failed; None where nothing did, or nothing else is there.
    """

    run: Json
    arms: tuple[Arm, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    n_items: int
    n_clusters: int
    chance: float | None
    majority: float | None
    margin: float
    confidence: float
    draws: int
    detectable: float
    points: tuple[Point, ...]
    above: tuple[Option, ...]
    best: tuple[Best, ...]
    differences: tuple[Difference, ...]
    crossing: Crossing
    crossovers: tuple[Crossover, ...]
    choice: Choice
    outside: tuple[Outside, ...] = ()
    forgotten: tuple[Forgotten, ...] = ()
    answered: Answered | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """The families that were run at all; always giving the most frequent answer is no baseline of its own."""
        found = {point.family for point in self.points if point.arm != MAJORITY_ARM} or {BASELINE}
        return tuple(family for family in FAMILIES if family in found)

    @property
    def capped(self) -> tuple[Point, ...]:
        """The cells whose prompts had to leave demonstrations out."""
        return tuple(point for point in self.points if point.left_out > 0)

    @property
    def run_once(self) -> tuple[Point, ...]:
        """The cells that were run with one seed only, as without labels nothing is drawn in them."""
        return tuple(p for p in self.points if p.accuracy.n_seeds == 1 and not drawn(p, self.arms))

    @property
    def drawn(self) -> bool:
        """Whether any answer depends on the seed."""
        return any(drawn(point, self.arms) for point in self.points)

    @property
    def by_cost(self) -> tuple[Option, ...]:
        """Every option, the cheapest first."""
        return by_cost(self.points)

    def point(self, option: Option) -> Point:
        return next(p for p in self.points if (p.arm, p.labels) == (option.arm, option.labels))

    def best_at(self, budget: int) -> dict[str, Best]:
        """The best of each family, and of "all", where `budget` labels are to be had."""
        return {b.family: b for b in self.best if b.budget == budget}

    def between(self, a: str, b: str, budget: int) -> Difference:
        """The best of family a minus the best of family b at a budget."""
        for d in self.differences:
            if (d.question, d.budget) == (FAMILY_QUESTION, budget) and {d.a_family, d.b_family} == {a, b}:
                return d if d.a_family == a else d.reversed
        raise KeyError((a, b, budget))


def measure(
    run_dir: Path,
    draws: int = 2_000,
    margin: float = 0.02,
    confidence: float = 0.95,
    rows: tuple[Items, Sequence[Cell]] | None = None,
) -> Results:
    """Every number of the report, from the run's rows.jsonl, cells.jsonl and run.json.

    `rows` are those of the run where they have been read already, by `read_cells`.
    """
    run = read_json(run_dir / "run.json")
    arms = tuple(_arm(told) for told in run["arms"])
    order, family = [arm.name for arm in arms], {arm.name: arm.family for arm in arms}
    items, read = rows or read_cells(run_dir, run.get("labels") or ())
    cells = list(read)
    if strange := sorted({cell.arm for cell in cells} - set(order)):
        raise DataError(f"rows.jsonl has the arms {strange}, but run.json lists {order}. Add them to its arms.")
    cells.sort(key=lambda cell: (cell.labels, order.index(cell.arm)))
    costs = _costs(run_dir)
    results = measured(run, arms, items, cells, costs, draws, margin, confidence)
    rest = without_failures(items, cells)
    if rest is not None and {family[cell.arm] for cell in rest.cells} & {*FAMILIES}:
        again = measured(run, arms, rest.items, rest.cells, costs, draws, margin, confidence)
        answered = Answered(again, rest.cells_left_out, rest.items_left_out)
        results = replace(results, answered=answered)
    return replace(
        results,
        outside=outside(run_dir, items.classes, draws, confidence),
        forgotten=forgotten(run_dir, draws, confidence),
    )


def measured(
    run: Json,
    arms: tuple[Arm, ...],
    items: Items,
    cells: Sequence[Cell],
    costs: Mapping[Option, Sequence[Json]],
    draws: int,
    margin: float,
    confidence: float,
) -> Results:
    """What cells say, in the order of the points."""
    family = {arm.name: arm.family for arm in arms}
    budgets = tuple(sorted({cell.labels for cell in cells}))
    sure = sure_on(items, draws, confidence)

    def sure_of(some: Sequence[Cell]) -> Sure:
        return replace(sure, drawn=any(drawn(cell, arms) for cell in some))

    points = tuple(_point(cell, family[cell.arm], sure_of([cell]), costs) for cell in cells)
    choosable = [cell for cell in cells if family[cell.arm] in FAMILIES]
    rivals = [cell for cell in choosable if cell.arm != MAJORITY_ARM]
    strict = replace(sure, confidence=1 - (1 - confidence) / max(len(rivals), 1))
    above = [cell for cell in rivals if strict.accuracy(cell.correct).low > (items.majority or 0.0)]
    there = {budget: [cell for cell in cells if cell.labels in (0, budget)] for budget in budgets}
    compared = [compare_at(budget, some, family, sure_of(some)) for budget, some in there.items()]
    differences = with_holm([difference for _, found in compared for difference in found])
    return Results(
        run=run,
        arms=arms,
        budgets=budgets,
        seeds=tuple(sorted({seed for cell in cells for seed in cell.seeds})),
        n_items=len(items.ids),
        n_clusters=items.n_clusters,
        chance=1 / len(items.classes) if items.classes else None,
        majority=items.majority,
        margin=margin,
        confidence=confidence,
        draws=draws,
        detectable=statistics.smallest_detectable_difference(items.n_clusters),
        points=points,
        above=tuple(Option(cell.arm, cell.labels) for cell in above),
        best=tuple(best for found, _ in compared for best in found),
        differences=differences,
        crossing=_crossing(differences),
        crossovers=crossovers(choosable, family, sure),
        choice=_choice(choosable, [p for p in points if p.family in FAMILIES], sure_of(choosable), margin),
    )


def _arm(told: Json) -> Arm:
    """An arm as run.json tells of it."""
    draws = told.get("draws_without_labels", False)
    return Arm(told["name"], told["family"], told["needs_labels"], draws, told.get("description", ""))


def drawn(one: Cell | Point, arms: Sequence[Arm]) -> bool:
    """Whether the answers of a cell depend on its seed: through the examples, or through the arm itself."""
    return one.labels > 0 or any(arm.draws_without_labels for arm in arms if arm.name == one.arm)


def _costs(run_dir: Path) -> dict[Option, list[Json]]:
    costs: dict[Option, list[Json]] = {}
    for line in read_lines(run_dir / "cells.jsonl"):
        costs.setdefault(Option(line["arm"], line["labels"]), []).append(line)
    return costs


def _point(cell: Cell, family: str, sure: Sure, costs: Mapping[Option, Sequence[Json]]) -> Point:
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
        **_calibration(cell),
        absent=tuple(dict.fromkeys(label for line in cost for label in line.get("absent", ()))),
    )


def _recall(cell: Cell, sure: Sure) -> dict[str, float]:
    items = sure.items
    of_class = {name: items.targets == number for number, name in enumerate(items.classes)}
    return {name: float(cell.correct[:, of_it].mean()) for name, of_it in of_class.items() if of_it.any()}


def _calibration(cell: Cell) -> dict[str, float | None]:
    """Of the answers whose labels were scored; none where there are none."""
    sure, far = cell.columns["confidence"], cell.columns["brier"]
    scored = ~np.isnan(sure)
    if not scored.any():
        return {"brier": None, "ece": None}
    return {"brier": float(far[scored].mean()), "ece": ece(sure[scored], cell.correct[scored])}


def _mean(cost: Sequence[Json], name: str) -> float:
    """Over the seeds of a cell; runs of an earlier version did not count all of it."""
    return float(np.mean([line.get(name, 0.0) for line in cost])) if cost else 0.0


def _crossing(differences: Sequence[Difference]) -> Crossing:
    ahead = {
        d.budget: d.interval.value
        for d in differences
        if (d.a_family, d.b_family) == (FINE_TUNING, PROMPTING) and d.interval.excludes_zero
    }
    start = min((budget for budget, value in ahead.items() if value > 0), default=None)
    behind = [b for b, value in ahead.items() if value < 0 and (start is None or b < start)]
    return Crossing(start, max(behind, default=None))


def cost(point: Point) -> tuple[int, bool, int, float]:
    """What options are ranked by: labels, whether a language model is needed, trained parameters, tokens an answer.

    Without the second, a prompt that learns nothing would count as cheaper than a word count that learns in 10 ms.
    Seconds are shown but not ranked by: they change with the machine and its load, and the choice may not.
    """
    tokens = point.input_tokens + point.output_tokens
    return point.labels, point.family in (PROMPTING, FINE_TUNING), point.trained_parameters or 0, tokens


def by_cost(points: Sequence[Point]) -> tuple[Option, ...]:
    """The options from the cheapest to the dearest; equal ones stay in the order of the points, that of the run."""
    return tuple(Option(point.arm, point.labels) for point in sorted(points, key=cost))


def _choice(cells: Sequence[Cell], points: Sequence[Point], sure: Sure, margin: float) -> Choice:
    scored = aligned(cells)
    best, correct = cross_fitted(scored, sure.items)
    found = {option: sure.difference(matrix, correct) for option, matrix in scored.items()}
    order = by_cost(points)
    # The best always counts as within the margin of itself, also where the halves chose two that differ.
    within = [o for o in order if not_worse(found[o], margin) or best == (o,)] or [o for o in order if o in best]
    cheapest = within[0]
    accuracy = next(p.accuracy for p in points if (p.arm, p.labels) == (cheapest.arm, cheapest.labels))
    return Choice(best, sure.accuracy(correct), cheapest, accuracy, found[cheapest], tuple(within))
