"""Two logs side by side: the items that both hold, by id, and what keeps others out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.compare.logs.shape import Log, Sample
from promptlab.compare.statistics import Floats, Ints
from promptlab.errors import DataError
from promptlab.splits import joined

NAMED = 3  # items that a message names


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The items that two logs share, in the order of the first; `a` and `b` are scores, (repeats, items).

    `only_a` and `only_b` are ids that the other log lacks, in whole or in some repeat. `absent_a` and `absent_b` count
    answers without a score: they stand as the lowest score there is. Scores lie between `lowest` and `highest`.
    """

    a: Floats
    b: Floats
    samples_a: tuple[Sample, ...]
    samples_b: tuple[Sample, ...]
    clusters: Ints
    n_clusters: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    absent_a: int
    absent_b: int
    lowest: float
    highest: float
    notes: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.item for sample in self.samples_a)

    @property
    def binary(self) -> bool:
        return not set(np.unique((self.a, self.b))) - {0.0, 1.0}


Table = dict[str, dict[int, Sample]]  # item -> repeat -> sample


def match(a: Log, b: Log, metric_a: str, metric_b: str) -> Matched:
    """Pair two logs by item id, on the repeats that both have; a log that was run once is held against every repeat.

    Raises DataError where no item is shared, no repeat is, or one id names two different items.
    """
    of_a, of_b = table_of(a), table_of(b)
    repeats_a, repeats_b, notes = paired_repeats(a, b)

    def whole(table: Table, item: str, repeats: Iterable[int]) -> bool:
        return item in table and all(repeat in table[item] for repeat in repeats)

    in_a = {item for item in of_a if whole(of_a, item, repeats_a)}
    in_b = {item for item in of_b if whole(of_b, item, repeats_b)}
    shared = [item for item in of_a if item in in_a and item in in_b]
    if not shared:
        raise DataError(
            f"No item is in both logs: {_named(of_a)} in {a.path}, {_named(of_b)} in {b.path}. "
            "Name a field that holds the same id in both with --id."
        )
    firsts_a = tuple(next(iter(of_a[item].values())) for item in shared)
    firsts_b = tuple(next(iter(of_b[item].values())) for item in shared)
    scores_a, absent_a = _scores(of_a, shared, repeats_a, metric_a)
    scores_b, absent_b = _scores(of_b, shared, repeats_b, metric_b)
    lowest, highest = _scale(scores_a, scores_b)
    clusters, n_clusters = clusters_of(firsts_a, firsts_b)
    return Matched(
        a=np.where(np.isnan(scores_a), lowest, scores_a),
        b=np.where(np.isnan(scores_b), lowest, scores_b),
        samples_a=firsts_a,
        samples_b=firsts_b,
        clusters=clusters,
        n_clusters=n_clusters,
        only_a=tuple(item for item in of_a if item not in in_b),
        only_b=tuple(item for item in of_b if item not in in_a),
        absent_a=absent_a,
        absent_b=absent_b,
        lowest=lowest,
        highest=highest,
        notes=(*notes, *_doubtful(a, b, firsts_a, firsts_b)),
    )


def table_of(log: Log) -> Table:
    table: Table = {}
    for sample in log.samples:
        table.setdefault(sample.item, {})[sample.repeat] = sample
    return table


def paired_repeats(a: Log, b: Log) -> tuple[list[int], list[int], list[str]]:
    """Which repeats of each log are paired, and what there is to say of it."""
    of_a, of_b = ({sample.repeat for sample in log.samples} for log in (a, b))
    if len(of_a) == 1 and len(of_b) == 1:
        return sorted(of_a), sorted(of_b), []
    for once, other, name in ((of_a, of_b, "A"), (of_b, of_a, "B")):
        if len(once) == 1:
            paired = sorted(once) * len(other), sorted(other)
            note = f"{name} was run once, the other {len(other)} times: nothing is known of other runs of {name}."
            return (*paired, [note]) if name == "A" else (paired[1], paired[0], [note])
    both = sorted(of_a & of_b)
    if not both:
        raise DataError(f"The logs have no seed or epoch in common: {sorted(of_a)} in A, {sorted(of_b)} in B.")
    some = [f"Only the {len(both)} seeds or epochs are compared that both have."] if of_a != of_b else []
    return both, both, some


def _scores(table: Table, items: Sequence[str], repeats: Sequence[int], metric: str) -> tuple[Floats, int]:
    """(repeats, items), NaN where there was none, and how many there were of these."""
    rows = [[table[item][repeat].scores.get(metric) for item in items] for repeat in repeats]
    found = np.array([[np.nan if score is None else score for score in row] for row in rows], dtype=np.float64)
    return found, int(np.isnan(found).sum())


def _scale(a: Floats, b: Floats) -> tuple[float, float]:
    """From 0 to 1 where all scores lie there, else from the lowest to the highest."""
    seen = np.concatenate([a[~np.isnan(a)], b[~np.isnan(b)]])
    low, high = float(seen.min(initial=0.0)), float(seen.max(initial=1.0))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (float(seen.min()), float(seen.max()))


def clusters_of(a: Sequence[Sample], b: Sequence[Sample]) -> tuple[Ints, int]:
    """Items of one group are one cluster, and so are those that a study took as one (copies of a text), in any chain;
    an item with neither is its own. What A says of groups goes first."""
    numbers = joined(_keys(one, other) for one, other in zip(a, b, strict=True))
    return np.array(numbers, dtype=np.int64), len(set(numbers))


def _keys(one: Sample, other: Sample) -> Iterator[tuple[str, str | int]]:
    group = one.group if one.group is not None else other.group
    for name, key in (("group", group), ("cluster of A", one.cluster), ("cluster of B", other.cluster)):
        if key is not None:
            yield name, key


def _doubtful(a: Log, b: Log, firsts_a: Sequence[Sample], firsts_b: Sequence[Sample]) -> Iterator[str]:
    """Signs that an id does not name the same item in both; a different document of the same tool is an error."""
    pairs = list(zip(firsts_a, firsts_b, strict=True))
    if other := [x.item for x, y in pairs if x.content and y.content and x.content != y.content]:
        raise DataError(
            f"{len(other):,} of {len(pairs):,} shared ids name different documents in {a.path} and {b.path} "
            f"(doc_hash), such as {_named(other)}: the logs are of different data."
        )
    odd = [x.item for x, y in pairs if x.target is not None and y.target is not None and _plain(x) != _plain(y)]
    if odd:
        yield (
            f"{len(odd):,} of {len(pairs):,} shared items have another target in B, such as {_named(odd)}: "
            "see that the ids name the same items."
        )


def _plain(sample: Sample) -> str:
    return " ".join((sample.target or "").split()).casefold()


def _named(items: Iterable[str] | Mapping[str, object]) -> str:
    some = [repr(item) for item, _ in zip(items, range(NAMED), strict=False)]
    return ", ".join(some)
