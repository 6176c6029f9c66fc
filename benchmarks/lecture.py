"""The lecture, measured: its formulas and examples by our code, and the same on the bundled model, with pictures.

    python benchmarks/lecture.py [--quick] [--json FILE] [--pictures DIR] [--model DIR] [--only NAME,NAME]
    python benchmarks/lecture.py --notebook benchmarks/lecture.ipynb      # writes the notebook anew, measures nothing

A chapter is a file in chapters/. Two are measured at a time, each on one thread. A figure that the lecture states holds
if ours rounds to it; what is measured on the model is told, and nothing is asked of it. Intervals are 95 %.
"""

from __future__ import annotations

import argparse
import importlib
import time
from functools import partial
from pathlib import Path

from behaviours.figures import Rows
from harness import finish, parser, two_at_a_time

CHAPTERS = (
    "attention",
    "masked",
    "next_token",
    "head",
    "fine_tuning",
    "preferences",
    "rlhf",
    "self_consistency",
)
LONGEST_FIRST = ("rlhf", "preferences", "fine_tuning", "head", "masked", "self_consistency", "next_token", "attention")


def measured(name: str, path: str | None, quick: bool, pictures: Path | None) -> tuple[str, Rows, float]:
    """The rows of a chapter, and the seconds they took; its picture is saved as a file of its name."""
    import torch

    from promptlab.backends.tiny import Tiny

    torch.set_num_threads(1)
    started = time.monotonic()
    chapter = importlib.import_module(f"chapters.{name}")
    worked, shown = chapter.worked(), chapter.measure(Tiny(path), quick)
    if pictures:
        shown.figure.savefig(pictures / f"{name}.png", dpi=110)
    rows = [{**row, "name": f"{name}: {row['name']}"} for row in (*worked.rows, *shown.rows)]
    return name, rows, time.monotonic() - started


def options() -> argparse.Namespace:
    given = parser(__doc__)
    given.add_argument("--pictures", type=Path, metavar="DIR", help="save the chapters' pictures there")
    given.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint other than the bundled one")
    given.add_argument("--only", default=",".join(CHAPTERS), metavar="NAMES", help="some of: " + ", ".join(CHAPTERS))
    given.add_argument("--notebook", type=Path, metavar="FILE", help="write the chapters as a notebook, and stop")
    return given.parse_args()


def main() -> None:
    given = options()
    if given.notebook:
        from chapters.notebook import as_notebook

        given.notebook.write_text(as_notebook(CHAPTERS), encoding="utf-8")
        return
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
    path = str(given.model) if given.model else None
    chosen = [name for name in LONGEST_FIRST if name in given.only.split(",")]
    of = partial(measured, path=path, quick=given.quick, pictures=given.pictures)
    found: dict[str, Rows] = {}
    for name, rows, seconds in two_at_a_time(of, chosen):
        found[name] = rows
        print(f"{name}: {seconds:.0f} s", flush=True)
    finish([row for name in CHAPTERS for row in found.get(name, [])], given)


if __name__ == "__main__":
    main()
