"""What the same solvers do elsewhere: on a test from outside the data set, and, once tuned, on a general one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from promptlab.compare.cells import Cell, read_cells
from promptlab.compare.comparisons import Option, sure_on
from promptlab.compare.joining import AFTER, BEFORE, OUTSIDE
from promptlab.compare.statistics import Interval
from promptlab.compare.wording import labels, number, shown


@dataclass(frozen=True, slots=True)
class Outside:
    """An option's accuracy on the test from outside; its items are others, so no difference is paired."""

    arm: str
    labels: int
    accuracy: Interval


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What fine-tuning did to the general set: its accuracy before and after, and the paired difference."""

    arm: str
    labels: int
    before: Interval
    after: Interval
    change: Interval


def outside(run_dir: Path, classes: tuple[str, ...], draws: int, confidence: float) -> tuple[Outside, ...]:
    """Every option's accuracy outside, in the order of the rows; none where no such test was given."""
    if not (run_dir / OUTSIDE).exists():
        return ()
    items, cells = read_cells(run_dir, classes, OUTSIDE)
    sure = sure_on(items, draws, confidence)
    return tuple(Outside(cell.arm, cell.labels, sure.accuracy(cell.correct)) for cell in cells)


def forgotten(run_dir: Path, draws: int, confidence: float) -> tuple[Forgotten, ...]:
    """Each tuned option's loss on the general set; none where no such set was given."""
    if not (run_dir / AFTER).exists():
        return ()
    items, before = read_cells(run_dir, (), BEFORE)
    _, after = read_cells(run_dir, (), AFTER)
    sure = sure_on(items, draws, confidence)
    at: Mapping[Option, Cell] = {Option(cell.arm, cell.labels): cell for cell in before}
    return tuple(
        Forgotten(
            cell.arm,
            cell.labels,
            sure.accuracy(at[Option(cell.arm, cell.labels)].correct),
            sure.accuracy(cell.correct),
            sure.difference(cell.correct, at[Option(cell.arm, cell.labels)].correct),
        )
        for cell in after
    )


def told_outside(found: tuple[Outside, ...], here: Mapping[Option, Interval]) -> Iterator[str]:
    """Whether what leads here leads there too, or that nothing is known of it. `here` are all that may be chosen."""
    if not found:
        yield "No test from outside this data set was run, so nothing is known about other sources, places or years."
        return
    there = {option: one.accuracy for one in found if (option := Option(one.arm, one.labels)) in here}
    most = max((option.labels for option in there), default=0)
    there = {option: accuracy for option, accuracy in there.items() if option.labels == most}
    if not there:  # only controls or other models
        return
    first = max(there, key=lambda option: here[option].value)
    lead = max(there, key=lambda option: there[option].value)
    led = "where it leads too" if first == lead else f"where {lead.arm} leads with {shown(there[lead])}"
    yield (
        f"With {labels(most)} {first.arm} leads here with {number(here[first].value)} and has {shown(there[first])} on "
        f"the {there[first].n_items} items from outside, {led}; nothing is known of other sources, places or years."
    )


def told_forgotten(found: tuple[Forgotten, ...], given: bool) -> Iterator[str]:
    """The largest loss, or that it was not measured, though a general set was `given`."""
    if not found:
        why = ": no arm of this run could be asked the general set after it was tuned" if given else ""
        yield f"What fine-tuning made the model forget was not measured{why}."
        return
    worst = min(found, key=lambda one: one.change.value)
    yield (
        f"Of the general set fine-tuning changed the accuracy by {shown(worst.change, sign=True)} at worst, "
        f"{worst.arm} with {labels(worst.labels)} (n = {worst.change.n_items}); other abilities were not measured."
    )
