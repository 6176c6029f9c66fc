"""What two logs show, item against item: no number without its interval, no winner where that covers zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from promptlab.compare import statistics
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.logs.judging import Judging
from promptlab.compare.logs.matching import Matched, match
from promptlab.compare.logs.shape import Log
from promptlab.compare.statistics import Floats, Interval
from promptlab.compare.wording import counted, number, shown
from promptlab.errors import DataError

MOST_CLASSES = 50
LONGEST_NAME = 40
POWER = 0.8


class OfClass(NamedTuple):
    """The items of one target: how many, and the mean score of each side."""

    target: str
    n: int
    a: float
    b: float


class Discordant(NamedTuple):
    """An item on which the sides differ: the means over its repeats, and what was answered at first."""

    item: str
    target: str | None
    answer_a: str | None
    answer_b: str | None
    a: float
    b: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A and B on the items that both answered. `wins` are A's; what p is of, `test` says."""

    a: Log
    b: Log
    name_a: str
    name_b: str
    metric_a: str
    metric_b: str
    matched: Matched
    score_a: Interval
    score_b: Interval
    difference: Interval
    wins: int
    losses: int
    ties: int
    p: float
    detectable: float
    if_missing_are_wrong: Interval | None
    classes: tuple[OfClass, ...]
    notes: tuple[str, ...]
    judging: Judging | None = None

    @property
    def test(self) -> str:
        """McNemar's where each item is right or wrong once; else the same of how far apart items, or groups, are."""
        if not self.matched.binary:
            return "sign-flip permutation test"
        once = len(self.matched.a) == 1 and self.matched.n_clusters == len(self.matched.ids)
        return "exact McNemar test" if once else "exact permutation test"

    @property
    def discordant(self) -> tuple[Discordant, ...]:
        """Where A scored higher first, then where B did, each in the order of the log."""
        a, b = self.matched.a.mean(axis=0), self.matched.b.mean(axis=0)
        pairs = zip(self.matched.samples_a, self.matched.samples_b, a, b, strict=True)
        found = [Discordant(s.item, s.target, s.answer, t.answer, float(x), float(y)) for s, t, x, y in pairs if x != y]
        return tuple(sorted(found, key=lambda one: one.a < one.b))

    @property
    def verdict(self) -> str:
        """One sentence."""
        said, n = self.difference, f"n = {len(self.matched.ids):,} shared items"
        if self.matched.n_clusters < len(self.matched.ids):
            n += f" in {counted(self.matched.n_clusters, 'group')}"
        clear = said.excludes_zero
        but = "" if clear == (self.p < 0.05) else f", which alone would {'not call it' if clear else 'call it'} at 0.05"
        tested = f"p {p_value(self.p)}, {self.test}{but}; {n}"
        if said.method == statistics.SAME:
            return f"{self.name_a} and {self.name_b} score the same on every item ({n})."
        if not clear:
            return (
                f"{self.name_a} and {self.name_b} are not told apart: {shown(said, sign=True)} ({tested}). A "
                f"difference below {number(self.detectable)} has less than an 80 % chance of being seen here."
            )
        ahead, behind = (self.name_a, self.name_b) if said.value > 0 else (self.name_b, self.name_a)
        gap = shown(said if said.value > 0 else turned(said), sign=True)
        return f"{ahead} scores higher than {behind}, by {gap} ({tested})."


def turned(interval: Interval) -> Interval:
    return replace(interval, value=-interval.value, low=-interval.high, high=-interval.low)


def p_value(p: float) -> str:
    """As it stands behind "p": "= 0.034", "= 2.1e-05", "< 1e-15"."""
    return f"= {p:.3f}" if p >= 0.001 else f"= {p:.1e}" if p >= 1e-15 else "< 1e-15"


def compare_logs(a: Log, b: Log, metric: str = "", draws: int = 2_000, confidence: float = 0.95) -> Comparison:
    """Compare two logs by item id.

    `metric` is one that both have, or "IN_A,IN_B"; left out, the first of A's that B has too, or the first of each.
    Clusters of items (groups) and repeats are resampled as in a study. Raises DataError where nothing can be paired.
    """
    metric_a, metric_b = metrics(a, b, metric)
    matched = match(a, b, metric_a, metric_b)
    sure = _Sure(matched, draws, confidence)
    difference = sure.difference(matched.a, matched.b)
    wins, losses, ties = sure.votes(matched.a, matched.b)
    name_a, name_b = _names(a, b)
    return Comparison(
        a=a,
        b=b,
        name_a=name_a,
        name_b=name_b,
        metric_a=metric_a,
        metric_b=metric_b,
        matched=matched,
        score_a=sure.mean(matched.a),
        score_b=sure.mean(matched.b),
        difference=difference,
        wins=wins,
        losses=losses,
        ties=ties,
        p=sure.p(),
        detectable=detectable(matched),
        if_missing_are_wrong=_if_missing(a, b, metric_a, metric_b, matched, draws, confidence),
        classes=tuple(_classes(matched)),
        notes=(*_notes(a, b, metric_a, metric_b, matched), *matched.notes),
    )


def metrics(a: Log, b: Log, wanted: str = "") -> tuple[str, str]:
    """Which metric of each log is compared."""
    first, comma, second = (part.strip() for part in wanted.partition(","))
    if not wanted:
        if not a.metrics or not b.metrics:
            raise DataError(f"{(b if a.metrics else a).path} has no score in any sample.")
        both = [name for name in a.metrics if name in b.metrics]
        return (both[0], both[0]) if both else (a.metrics[0], b.metrics[0])
    for log, name in ((a, first), (b, second if comma else first)):
        if name not in log.metrics:
            raise DataError(
                f"{log.path} has no scores {name!r}; it has {', '.join(log.metrics)}. "
                "Where the logs name theirs differently, give both: --metric IN_A,IN_B."
            )
    return first, second if comma else first


class _Sure:
    """The intervals of scores on any scale: those of statistics.py, whose scores lie between 0 and 1."""

    def __init__(self, matched: Matched, draws: int, confidence: float):
        self.matched, self.confidence = matched, confidence
        self.clusters, n_clusters = statistics.pooled(matched.clusters, matched.n_clusters)
        self.resamples = statistics.resample(n_clusters, draws)

    def mean(self, scores: Floats) -> Interval:
        found = statistics.accuracy(self._unit(scores), self.clusters, self.resamples, self.confidence)
        return self._stretched(found, self.matched.lowest)

    def difference(self, a: Floats, b: Floats) -> Interval:
        unit = self._unit
        found = statistics.paired_difference(unit(a), unit(b), self.clusters, self.resamples, self.confidence)
        return self._stretched(found, 0.0)

    def votes(self, a: Floats, b: Floats) -> tuple[int, int, int]:
        m = self.matched
        return statistics.votes(self._unit(a), self._unit(b), m.clusters, m.n_clusters)

    def p(self) -> float:
        m = self.matched
        if m.binary:
            return sign_flips(statistics.more_right(self._unit(m.a), self._unit(m.b), m.clusters, m.n_clusters))
        gaps = (m.a - m.b).mean(axis=0)
        return sign_flips(statistics.by_cluster(gaps, self.clusters, self.resamples.clusters.shape[1]))

    def _unit(self, scores: Floats) -> Any:  # for functions of right and wrong, whose sums hold for any score
        return (scores - self.matched.lowest) / self._width

    @property
    def _width(self) -> float:
        return self.matched.highest - self.matched.lowest or 1.0

    def _stretched(self, i: Interval, start: float) -> Interval:
        value, low, high = (start + self._width * x for x in (i.value, i.low, i.high))
        return replace(i, value=value, low=low, high=high, n_clusters=self.matched.n_clusters)


def detectable(matched: Matched, power: float = POWER, alpha: float = 0.05) -> float:
    """The difference that these pairs show with `power` (Miller 2024, arXiv 2411.00640, eq. 10).

    From the spread of the differences that was seen, between clusters and between repeats, instead of an assumed
    correlation, as their interval has it; where none was seen between clusters, as if one in all had differed. At most
    all that a score can differ by.
    """
    gaps = matched.a - matched.b
    seeds, items = statistics.variances(gaps, matched.clusters, matched.n_clusters)
    df = statistics.freedom(gaps - gaps.mean(), matched.clusters)
    one = (matched.highest - matched.lowest) * float(np.bincount(matched.clusters).max()) / len(matched.clusters)
    z = statistics.student(df, 1 - alpha / 2) + NormalDist().inv_cdf(power)
    return min(z * math.sqrt(seeds + (items or one**2)), matched.highest - matched.lowest)


def _if_missing(
    a: Log, b: Log, metric_a: str, metric_b: str, matched: Matched, draws: int, confidence: float
) -> Interval | None:
    """The difference where an item that one log lacks counts there as the lowest score; None where both hold all."""
    if not matched.only_a and not matched.only_b:
        return None
    lacking = {metric_a: None, metric_b: None}
    filled = []
    for log, missing, other in ((a, matched.only_b, b), (b, matched.only_a, a)):
        repeats = sorted({sample.repeat for sample in log.samples})
        firsts = {sample.item: sample for sample in reversed(other.samples)}
        there = {(sample.item, sample.repeat) for sample in log.samples}
        more = [
            replace(firsts[item], repeat=repeat, scores=lacking, content="", cluster=None)  # of the other log
            for item in missing
            for repeat in repeats
            if (item, repeat) not in there
        ]
        filled.append(replace(log, samples=(*log.samples, *more)))
    everything = match(filled[0], filled[1], metric_a, metric_b)
    return _Sure(everything, draws, confidence).difference(everything.a, everything.b)


def _classes(matched: Matched) -> Iterator[OfClass]:
    """By target, the commonest first; nothing where targets hardly repeat, as in free answers."""
    targets = [sample.target for sample in matched.samples_a]
    counts = Counter(target for target in targets if target is not None)
    if not 2 <= len(counts) <= MOST_CLASSES or len(counts) > sum(counts.values()) / 2:
        return
    a, b = matched.a.mean(axis=0), matched.b.mean(axis=0)
    for target, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        mask = np.array([one == target for one in targets])
        yield OfClass(target, n, float(a[mask].mean()), float(b[mask].mean()))


def _notes(a: Log, b: Log, metric_a: str, metric_b: str, matched: Matched) -> Iterator[str]:
    if metric_a != metric_b:
        yield f"A is scored by {metric_a}, B by {metric_b}: part of a difference may be the scorers'."
    for name, log, metric, absent in (("A", a, metric_a, matched.absent_a), ("B", b, metric_b, matched.absent_b)):
        if absent:
            why = Counter(
                sample.why or "no reason given" for sample in log.samples if sample.scores.get(metric) is None
            )
            yield (
                f"{absent:,} answers of {name} have no score and count as {number(matched.lowest)} "
                f"(most often: {why.most_common(1)[0][0]})."
            )
        yield from _not_as_reported(name, log, metric)
    for name, items, other in (("A", matched.only_a, "B"), ("B", matched.only_b, "A")):
        if items:
            some = ", ".join(map(repr, items[:3]))
            yield f"{len(items):,} items are only in {name}, or not whole in {other} (such as {some}): left out."


def _not_as_reported(name: str, log: Log, metric: str) -> Iterator[str]:
    scores = [score for sample in log.samples if (score := sample.scores.get(metric)) is not None]
    if metric in log.reported and scores:
        mean = math.fsum(scores) / len(scores)
        if abs(mean - log.reported[metric]) > 1e-9:
            yield f"{log.tool} reports {metric} = {log.reported[metric]:.4f} for {name}; its samples give {mean:.4f}."


def _names(a: Log, b: Log) -> tuple[str, str]:
    """The shortest of what the logs are called that tells them apart."""
    for one, other in ((a.series, b.series), (a.model, b.model), (a.path.stem, b.path.stem)):
        if one and other and one != other and max(len(one), len(other)) <= LONGEST_NAME:
            return one, other
    return "A", "B"
