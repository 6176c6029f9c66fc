"""What a person at the terminal is told before, during and after a study. Results go to stdout, all else to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.compare.cellfile import NOT_NOW
from promptlab.compare.data.lint import Finding
from promptlab.compare.failures import Failure
from promptlab.compare.wording import counted, labels
from promptlab.splits import clusters
from promptlab.task import Task

MOST_FAILURES = 5  # that are told one by one


def tell_beforehand(
    task: Task, smallest_difference: float, warnings: Sequence[str], findings: Sequence[Finding], quiet: bool
) -> None:
    """What is at hand, what is odd about it, and the smallest difference this test can show."""
    from rich.console import Console
    from rich.text import Text

    console = Console(quiet=quiet, stderr=True, highlight=False)
    n, m = len(task.test), len(set(clusters(task.test)))
    lines = [
        Text(
            f"{task.name}: {counted(len(task.train), 'labelled example')} to learn from, {n:,} to test on, "
            f"{labels(len(task.labels))}"
        ),
        *(Text.assemble(("note ", "yellow"), line) for line in warnings),
        *(Text.assemble((f"{finding.kind}: ", "yellow"), finding.message) for finding in findings),
        Text(
            f"Differences under {100 * smallest_difference:.1f} points cannot be told apart with "
            f"{counted(n, 'test item')}{' in ' + counted(m, 'group') if m < n else ''} (80 % power)."
        ),
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and remaining time on stderr; nothing when quiet or not at a terminal.

    Both are of this run as a whole: answers come in bursts, and what an earlier run answered took no time of this one.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[pace]}"))
    hidden = quiet or not sys.stderr.isatty()
    with Progress(TextColumn("answering"), *columns, console=Console(stderr=True), disable=hidden) as bar:
        job = bar.add_task("answering", total=None, pace="")
        pace: Pace | None = None

        def on_progress(done: int, total: int) -> None:
            nonlocal pace
            pace = pace or Pace(done, total, time.monotonic())
            bar.update(job, completed=done, total=total, pace=pace.at(done, time.monotonic()))

        yield on_progress


class Pace(NamedTuple):
    """How fast a run goes that began with `done` of `total` items answered, at `started` seconds."""

    done: int
    total: int
    started: float

    def at(self, done: int, now: float) -> str:
        """The rate so far and the time that is left at that rate; nothing while there is no rate yet."""
        rate = (done - self.done) / max(now - self.started, 1e-9)
        if not rate:
            return ""
        left = timedelta(seconds=round((self.total - done) / rate))
        return f"{rate:,.1f}/s · {left} left"


def tell_afterwards(results: dict[str, Any], folder: Path, failed: Sequence[Failure], quiet: bool) -> None:
    """The table, what failed, the sentence, and where the report is."""
    from rich.console import Console
    from rich.table import Table

    if not quiet:
        budgets = sorted({point["labels"] for point in results["points"]})
        table = Table("arm", *map(labels, budgets))
        for arm in dict.fromkeys(point["arm"] for point in results["points"]):
            of_arm = {p["labels"]: p["accuracy"] for p in results["points"] if p["arm"] == arm}
            shown = [of_arm.get(k) for k in budgets]
            table.add_row(arm, *(f"{a['value']:.2f} [{a['low']:.2f}, {a['high']:.2f}]" if a else "–" for a in shown))
        width = None if sys.stdout.isatty() else 40 + 24 * len(budgets)
        Console(highlight=False, markup=False, width=width).print(table)
    for failure in failed[:MOST_FAILURES]:
        print(failure, file=sys.stderr)
    if len(failed) > MOST_FAILURES:
        print(f"… and {len(failed) - MOST_FAILURES} more cells with failed answers; see the report.", file=sys.stderr)
    if any(failure.too_long for failure in failed):
        print(
            "What is too long for the model fails again: shorten it, or take a --model that holds more.",
            file=sys.stderr,
        )
    if any(failure.reason.startswith(NOT_NOW) for failure in failed):
        print(f"What was unavailable is asked again by: promptlab compare --resume {folder}", file=sys.stderr)
    elif any(failure.whole and not failure.too_long for failure in failed):
        print(f"To try a failed cell again, remove its file in {folder / 'cells'} and resume the run.", file=sys.stderr)
    print(results["decision"]["sentence"])
    print(folder / "report.html")
