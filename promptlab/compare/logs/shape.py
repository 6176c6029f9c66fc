"""What a log of any tool says, in one shape: a sample for each answer to an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Keys(NamedTuple):
    """Which fields of an item name it and its group, where a log keeps more of it than an id: "" for the usual ones.

    `series` is the only one asked for, if any: a reader may leave the samples of others out but for their first.
    """

    id: str = ""
    group: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one item.

    `series` is what was run, where a log holds several: an arm with its labels, a filter. `repeat` counts seeds or
    epochs. A score that is None was not given, and `why` may say why not. `cluster` is the number that a study of our
    own gave to the items of one group and to copies of one text, together; it means nothing in another log. `content`
    is a hash by which two items of the same id can be told apart; `place` is where in its file the sample stands.
    """

    item: str
    series: str
    scores: Mapping[str, float | None]
    repeat: int = 0
    target: str | None = None
    answer: str | None = None
    group: str | None = None
    cluster: int | None = None
    text: str | None = None
    why: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    content: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A log that can be read: what it says of itself, and its samples one at a time.

    `reported` holds the means that the tool itself gives, by series and metric: what is read is held against them.
    """

    path: Path
    tool: str
    samples: Iterator[Sample]
    task: str = ""
    model: str = ""
    created: str = ""
    reported: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Log:
    """One series of a log, read. No two of its samples have the same item and repeat."""

    path: Path
    tool: str
    series: str
    samples: tuple[Sample, ...]
    task: str = ""
    model: str = ""
    created: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any sample has a score in, in the order of the log."""
        found = {name: None for sample in self.samples for name, score in sample.scores.items() if score is not None}
        return tuple(found)
