"""What a study would take of this machine's cores, from one cell of each arm at each number of labels.

The seconds are of the processor, not of the wall clock, so that what else runs here does not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from promptlab.backends import model
from promptlab.compare.answering import learn, threads
from promptlab.compare.plan import planned
from promptlab.compare.study import Arguments, elsewhere, study_arms, task_of, with_labels
from promptlab.program import attempt
from promptlab.runners import run

ASKED = 16  # items of a cell that are answered: fewer share a prompt than in a run, so this errs on the high side
JOBS = 2


class Projected(NamedTuple):
    """An arm at a number of labels: seconds of CPU to learn and to answer one item; cells and items of the study."""

    arm: str
    labels: int
    learn_s: float
    item_s: float
    cells: int
    items: int

    @property
    def minutes(self) -> float:
        """Of all its cells, on JOBS cores."""
        return self.cells * (self.learn_s + self.items * self.item_s) / 60 / JOBS

    def __str__(self) -> str:
        each = f"{self.learn_s:7.2f} s to learn, {1000 * self.item_s:7.1f} ms an item"
        return f"{self.arm:24} {self.labels:5} labels: {each}, {self.cells:3} cells, {self.minutes:6.2f} min"


def projected(given: Arguments, budgets: set[int] | None = None) -> Iterator[Projected]:
    """Every arm at every number of labels of a study, measured on its first seed; `budgets`: at these only."""
    task, warnings, files = task_of(given)
    outside, _ = elsewhere(given, warnings, files)
    given, _ = with_labels(given, task)
    base = model(given.model)
    arms, _ = study_arms(replace(given, also_models=[]), base, model)
    seeds = range(given.seed, given.seed + given.seeds)
    plan = planned(task, arms, given.labels or [], seeds, outside)
    cells = plan.cells()
    items = len(plan.task.test) + len(plan.outside)
    asked = plan.task.test[:ASKED]
    for cell in (cell for cell in cells if cell.seed == given.seed and (budgets is None or cell.labels in budgets)):
        with threads(1):
            began = time.process_time()
            learnt = learn(plan, cell)
            between = time.process_time()
            run([attempt(learnt.solver.program(item.input)) for item in asked], learnt.solver.backend)
        done = time.process_time()
        same = sum((other.arm, other.labels) == (cell.arm, cell.labels) for other in cells)
        yield Projected(cell.arm, cell.labels, between - began, (done - between) / len(asked), same, items)
