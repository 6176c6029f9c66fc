"""The cheapest way of answering that is as good as the best, over every arm and number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptlab.compare.cells import Cell
from promptlab.compare.comparisons import FINE_TUNING, PROMPTING, Option, Sure, aligned, cross_fitted
from promptlab.compare.hypotheses import not_worse
from promptlab.compare.points import Point
from promptlab.compare.statistics import Interval


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


def choice_of(cells: Sequence[Cell], points: Sequence[Point], sure: Sure, margin: float) -> Choice:
    scored = aligned(cells)
    best, correct = cross_fitted(scored, sure.items)
    found = {option: sure.difference(matrix, correct) for option, matrix in scored.items()}
    order = by_cost(points)
    # The best always counts as within the margin of itself, also where the halves chose two that differ.
    within = [o for o in order if not_worse(found[o], margin) or best == (o,)] or [o for o in order if o in best]
    cheapest = within[0]
    accuracy = next(p.accuracy for p in points if (p.arm, p.labels) == (cheapest.arm, cheapest.labels))
    return Choice(best, sure.accuracy(correct), cheapest, accuracy, found[cheapest], tuple(within))
