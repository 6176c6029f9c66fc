"""What the replays of answers share: where recordings are, and a model that gives back what was recorded."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import row

from promptlab.testing import Script

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded"  # where it is at hand; never part of the repo
Row = dict[str, Any]


def recording(pattern: str) -> Path | None:
    """The recording, or the half of it, that is at hand."""
    return next(iter(sorted(RECORDED.glob(pattern))), None)


def lines(path: Path) -> list[Any]:
    """A JSON value a line, gzipped."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def giving(samples: Mapping[str, Sequence[str]]) -> Script:
    """A model that answers path i of a question with its i-th recorded sample."""
    return Script(lambda request: samples[request.messages[-1].content][request.branch[1]])


def share(correct: Sequence[bool]) -> float:
    return sum(correct) / len(correct)


def absent(name: str) -> Row:
    return row(name, None, "", note=f"the recording is not at {RECORDED.name}/")


def reproduced(name: str, value: float, unit: str, n: int, published: float | None, digits: int) -> Row:
    """A figure, and whether it is the published one to so many digits; none is published for the half of a set."""
    made = row(name, value, unit, n=n, target=published)
    return made if published is None else {**made, "ok": round(value, digits) == published}
