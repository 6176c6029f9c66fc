"""Which of two logs' answers are better, where none is simply right: a judge reads them pair by pair, both ways round.

What it says becomes a metric of both logs, `preferred`: 1 for the answer that it prefers in both orders, 0 for the
other, 0.5 each where it prefers none or contradicts itself. Its mean is the win rate, ties counting half, and all that
is told of a metric is told of it: clusters, repeats, intervals, tests. A judge's taste is not truth, so it is held
against people's, where there are labels of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.compare.agreement import agreement
from promptlab.compare.data.tables import column_named, read_table
from promptlab.compare.logs.matching import clusters_of, paired_repeats, table_of
from promptlab.compare.logs.shape import Log, Sample
from promptlab.compare.statistics import Interval
from promptlab.errors import DataError, SetupError
from promptlab.optimizers.judge import Bias, Contest, bias_of, judge, settled
from promptlab.runners import run
from promptlab.types import Backend

METRIC = "preferred"
CHOICES = ("A", "B", "tie")  # as people and the judge are compared
NAMED = 3


@dataclass(frozen=True, slots=True)
class Judging:
    """What the judge did beside its verdicts: `same` pairs needed none, `unread` replies were no verdict.

    `kappa` is its agreement with people on the items that they judged; None where it is not defined, or nobody did.
    """

    judge: str
    criterion: str
    bias: Bias
    same: int
    unread: int
    kappa: Interval | None = None
    people: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """The answers of both sides to one item, in one repeat."""

    item: str
    repeat: int
    a: Sample
    b: Sample


def judged(
    a: Log, b: Log, criterion: str, backend: Backend, name: str, people: Mapping[str, str] | None = None
) -> tuple[Log, Log, Judging]:
    """Both logs with the metric `preferred`, their repeats being those that were paired, and what the judge did.

    `people` says A, B or tie of some items. Raises SetupError without a criterion, DataError where no item is shared,
    an item's input stands in neither log, or `people` know none of the items.
    """
    if not criterion.strip():
        raise SetupError("A judge has to know what is wanted: give --criterion.")
    pairs = _pairs(a, b)
    won = [settled(_plain(pair.a.answer), _plain(pair.b.answer)) for pair in pairs]
    asked = [i for i, known in enumerate(won) if known is None]
    contests = [_contest(pairs[i]) for i in asked]
    verdicts = run(judge(contests, criterion), backend)
    for i, verdict in zip(asked, verdicts, strict=True):
        won[i] = verdict.won
    found = {(pair.item, pair.repeat): sign or 0 for pair, sign in zip(pairs, won, strict=True)}
    bias = bias_of((verdict.straight, verdict.swapped) for verdict in verdicts)
    unread = sum(verdict.unread for verdict in verdicts)
    kappa, n = _agreement(pairs, found, people) if people is not None else (None, 0)
    told = Judging(name, criterion, bias, len(pairs) - len(asked), unread, kappa, n)
    ra, rb, _ = paired_repeats(a, b)
    return _scored(a, ra, found, 1), _scored(b, rb, found, -1), told


def _pairs(a: Log, b: Log) -> list[Pair]:
    of_a, of_b = table_of(a), table_of(b)
    repeats_a, repeats_b, _ = paired_repeats(a, b)
    pairs = [
        Pair(item, repeat, of_a[item][x], of_b[item][y])
        for item in of_a
        if item in of_b
        for repeat, (x, y) in enumerate(zip(repeats_a, repeats_b, strict=True))
        if x in of_a[item] and y in of_b[item]
    ]
    if not pairs:
        raise DataError(f"No item is in both {a.path} and {b.path}: name a field that holds the same id with --id.")
    return pairs


def _plain(answer: str | None) -> str | None:
    """An answer as it is compared; an empty one is none."""
    return (answer or "").strip() or None


def _contest(pair: Pair) -> Contest:
    text = pair.a.text if pair.a.text is not None else pair.b.text
    if text is None:
        raise DataError(f"Neither log holds the input of item {pair.item!r}, so nobody can judge the answers to it.")
    return Contest(text, pair.a.answer or "", pair.b.answer or "")


def _scored(log: Log, repeats: Sequence[int], won: Mapping[tuple[str, int], int], side: int) -> Log:
    """A log with one metric, and repeats numbered as they were paired; what was not paired has no score."""
    samples = []
    for item, of_item in table_of(log).items():
        for repeat, own in enumerate(repeats):
            if own in of_item:
                sign = won.get((item, repeat))
                score = None if sign is None else (1 + side * sign) / 2
                samples.append(replace(of_item[own], repeat=repeat, scores={METRIC: score}))
    return replace(log, samples=tuple(samples), reported={})


def _agreement(
    pairs: Sequence[Pair], won: Mapping[tuple[str, int], int], people: Mapping[str, str]
) -> tuple[Interval | None, int]:
    """Cohen's κ of the judge and people, on the first repeat, since people judged a pair of answers once."""
    both = [pair for pair in pairs if pair.repeat == 0 and pair.item in people]
    if not both:
        some = ", ".join(map(repr, list(people)[:NAMED]))
        raise DataError(f"None of the {len(people):,} items that people judged ({some} …) is in both logs.")
    of_judge = [{1: "A", -1: "B", 0: "tie"}[won[pair.item, 0]] for pair in both]
    codes = [np.array([CHOICES.index(said) for said in each]) for each in (of_judge, [people[p.item] for p in both])]
    clusters, _ = clusters_of([pair.a for pair in both], [pair.b for pair in both])
    return agreement(codes[0], codes[1], len(CHOICES), clusters), len(both)


def read_people(path: Path) -> dict[str, str]:
    """What people prefer: a table with the columns item and preferred, which is A, B or tie.

    Raises DataError for another word, and for an item that stands there twice with different words.
    """
    table = read_table(path)
    item, preferred = (column_named(table, name, name) for name in ("item", "preferred"))
    found: dict[str, str] = {}
    known: dict[str, Any] = {choice.casefold(): choice for choice in CHOICES}
    for at, row in enumerate(table.rows):
        name, said = (row[item] or "").strip(), (row[preferred] or "").strip()
        if not name or not said:
            continue
        if said.casefold() not in known:
            raise DataError(f"{path.name}, {table.where(at)}: preferred is A, B or tie, got {said!r}.")
        if found.setdefault(name, known[said.casefold()]) != known[said.casefold()]:
            raise DataError(f"{path.name}, {table.where(at)}: item {name!r} stands there twice, with different words.")
    return found
