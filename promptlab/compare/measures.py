"""From a run's rows to its results: a point for each cell, paired differences, and what follows from them.

rows.jsonl ─ cells ─┬─ points, subgroups ───────┐
                    ├─ comparisons ── crossing ──┤
                    ├─ overtaking ─── crossovers ├─ results.json ─ report.html
                    ├─ spending ───── paybacks ──┤
                    ├─ chances ──────────────────┤
                    └─ every cell ─── choice ────┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptlab.compare import statistics
from promptlab.compare.cells import Cell, Items, Json, read_cells, read_json
from promptlab.compare.chances import Chance, chances_at
from promptlab.compare.choosing import Choice, by_cost, choice_of
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
    compare_at,
    sure_on,
    with_holm,
)
from promptlab.compare.crossover import Crossover
from promptlab.compare.elsewhere import Forgotten, Outside, forgotten, outside
from promptlab.compare.overtaking import crossovers
from promptlab.compare.payback import Payback, paybacks
from promptlab.compare.points import Arm, Point, arm_of, cost_lines, drawn, point_of
from promptlab.compare.sensitivity import without_failures
from promptlab.compare.spending import SECONDS, USD, Spending, Terms, expenses_of, spending_of
from promptlab.compare.subgroups import Subgroups, subgroups_of
from promptlab.errors import DataError


@dataclass(frozen=True, slots=True)
class Crossing:
    """The first budget where fine-tuning is ahead of prompting, and the last below it where prompting is ahead.

    "Ahead" is a paired interval that leaves out zero; None where there is no such budget.
    """

    fine_tuning_from: int | None
    prompting_until: int | None


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
    majority: float
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
    terms: Terms
    spending: tuple[Spending, ...]
    paybacks: tuple[Payback, ...]
    chances: tuple[Chance, ...]
    subgroups: tuple[Subgroups, ...]
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
    def machine_is_free(self) -> bool:
        """Whether an hour of this machine counts as 0 dollars because nobody said what it costs."""
        here = any(USD in spent.bills and SECONDS in spent.bills for spent in self.spending)
        return here and self.terms.usd_per_hour is None

    @property
    def by_cost(self) -> tuple[Option, ...]:
        """Every option, the cheapest first."""
        return by_cost(self.points)

    def point(self, option: Option) -> Point:
        return next(p for p in self.points if (p.arm, p.labels) == (option.arm, option.labels))

    def spent(self, option: Option) -> Spending:
        return next(s for s in self.spending if (s.arm, s.labels) == (option.arm, option.labels))

    def best_at(self, budget: int) -> dict[str, Best]:
        """The best of each family, and of "all", where `budget` labels are to be had."""
        return {b.family: b for b in self.best if b.budget == budget}

    def nearly_above(self, budget: int) -> Point | None:
        """The highest option where `budget` labels are to be had, if its plain interval is above the commonest class's
        share; `above` asks for more, as the highest of several is picked."""
        there = (p for p in self.points if p.labels in (0, budget) and p.family in FAMILIES and p.arm != MAJORITY_ARM)
        top = max(there, key=lambda point: (point.accuracy.value, -point.failed), default=None)
        return top if top is not None and top.accuracy.low > self.majority else None

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
    terms: Terms | None = None,
) -> Results:
    """Every number of the report, from the run's rows.jsonl, cells.jsonl and run.json.

    `rows` are those of the run where they have been read already, by `read_cells`; `terms` None are those of run.json.
    """
    run = read_json(run_dir / "run.json")
    arms = tuple(arm_of(told) for told in run["arms"])
    order, family = [arm.name for arm in arms], {arm.name: arm.family for arm in arms}
    items, read = rows or read_cells(run_dir, run.get("labels") or ())
    cells = list(read)
    if strange := sorted({cell.arm for cell in cells} - set(order)):
        raise DataError(f"rows.jsonl has the arms {strange}, but run.json lists {order}. Add them to its arms.")
    cells.sort(key=lambda cell: (cell.labels, order.index(cell.arm)))
    costs = cost_lines(run_dir)
    terms = terms or Terms.of(run.get("terms"))
    results = measured(run, arms, items, cells, costs, draws, margin, confidence, terms)
    rest = without_failures(items, cells)
    if rest is not None and {family[cell.arm] for cell in rest.cells} & {*FAMILIES}:
        again = measured(run, arms, rest.items, rest.cells, costs, draws, margin, confidence, terms)
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
    terms: Terms,
) -> Results:
    """What cells say, in the order of the points."""
    family = {arm.name: arm.family for arm in arms}
    budgets = tuple(sorted({cell.labels for cell in cells}))
    sure = sure_on(items, draws, confidence)

    def sure_of(some: Sequence[Cell]) -> Sure:
        return replace(sure, drawn=any(drawn(cell, arms) for cell in some))

    points = tuple(point_of(cell, family[cell.arm], sure_of([cell]), costs) for cell in cells)
    choosable = [cell for cell in cells if family[cell.arm] in FAMILIES]
    rivals = [cell for cell in choosable if cell.arm != MAJORITY_ARM]
    strict = replace(sure, confidence=1 - (1 - confidence) / max(len(rivals), 1))
    above = [cell for cell in rivals if strict.accuracy(cell.correct).low > items.majority]
    there = {budget: [cell for cell in cells if cell.labels in (0, budget)] for budget in budgets}
    compared = [compare_at(budget, some, family, sure_of(some)) for budget, some in there.items()]
    differences = with_holm([difference for found in compared for difference in found.differences])
    ordered = by_cost([p for p in points if p.family in FAMILIES])
    options = {Option(cell.arm, cell.labels): cell for cell in cells}
    named = {(b.family, b.budget): b for found in compared for b in found.best}
    counted = terms.counted(cells)
    expenses = {o: expenses_of(options[o], costs.get(o, ()), counted) for b in named.values() for o in b.options}
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
        best=tuple(named.values()),
        differences=differences,
        crossing=_crossing(differences),
        crossovers=crossovers(choosable, family, sure),
        choice=choice_of(choosable, [p for p in points if p.family in FAMILIES], sure_of(choosable), margin),
        terms=terms,
        spending=tuple(spending_of(cell, costs.get(o, ()), counted) for o, cell in options.items()),
        paybacks=tuple(paybacks(named, expenses, sure)),
        chances=tuple(
            chance
            for budget, found in zip(there, compared, strict=True)
            for chance in chances_at(
                {b.family: b for b in found.best}, found.correct, expenses, ordered, terms.in_all, margin, sure, budget
            )
        ),
        subgroups=tuple(subgroups_of(cell, family[cell.arm], sure_of([cell])) for cell in cells)
        if items.subgroups
        else (),
    )


def _crossing(differences: Sequence[Difference]) -> Crossing:
    ahead = {
        d.budget: d.interval.value
        for d in differences
        if (d.a_family, d.b_family) == (FINE_TUNING, PROMPTING) and d.interval.excludes_zero
    }
    start = min((budget for budget, value in ahead.items() if value > 0), default=None)
    behind = [b for b, value in ahead.items() if value < 0 and (start is None or b < start)]
    return Crossing(start, max(behind, default=None))
