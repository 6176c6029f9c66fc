"""What the bundled model shows, on items it was never taught: in-context learning, chains, votes, search, tools, …

    python benchmarks/organism.py [--quick] [--json FILE] [--model DIR] [--only NAME,NAME]

A behaviour is a file in behaviours/. Two are measured at a time, each on one thread. Intervals are 95 %. The committed
table is of the bundled model and of all behaviours: it is written by a run without --quick, --model and --only.
"""

from __future__ import annotations

import argparse
import importlib
import time
from functools import partial
from pathlib import Path

from behaviours.figures import Rows
from harness import finish, parser, two_at_a_time

# the longest first, so that the two processes end together
BEHAVIOURS = ("rewards", "chains", "search", "crossover", "phrasings", "preferences", "tools", "label_maps")


def measured(name: str, path: str | None, n: int) -> tuple[str, Rows, float]:
    """The rows of one behaviour, and the seconds they took."""
    import torch

    from promptlab.backends.tiny import Tiny

    torch.set_num_threads(1)
    started = time.monotonic()
    rows: Rows = importlib.import_module(f"behaviours.{name}").measure(Tiny(path), n)
    return name, rows, time.monotonic() - started


def options() -> argparse.Namespace:
    given = parser(__doc__)
    given.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint other than the bundled one")
    given.add_argument(
        "--only", default=",".join(BEHAVIOURS), metavar="NAMES", help="some of: " + ", ".join(BEHAVIOURS)
    )
    return given.parse_args()


def main() -> None:
    given = options()
    n = 40 if given.quick else 300
    chosen = [name for name in BEHAVIOURS if name in given.only.split(",")]
    path = str(given.model) if given.model else None
    found: dict[str, Rows] = {}
    for name, rows, seconds in two_at_a_time(partial(measured, path=path, n=n), chosen):
        found[name] = rows
        print(f"{name}: {seconds:.0f} s", flush=True)
    given.quick = given.quick or given.model is not None or len(chosen) < len(BEHAVIOURS)  # nothing to be committed
    finish([row for name in reversed(chosen) for row in found[name]], given)


if __name__ == "__main__":
    main()
