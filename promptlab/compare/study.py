"""A study from a file: read, split, say what to expect, run with a progress bar, print the outcome."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from promptlab.backends import model as model_named
from promptlab.compare.lint import Finding, lint
from promptlab.compare.runner import compare
from promptlab.compare.splits import split
from promptlab.compare.statistics import smallest_detectable_difference
from promptlab.compare.tables import examples_from, read_table
from promptlab.errors import SetupError
from promptlab.learners import DEFAULT_ARMS, arms_named
from promptlab.task import Task
from promptlab.types import Example


@dataclass(frozen=True)
class Arguments:
    """All that decides a study's result, as written into run.json and read back by --resume."""

    file: str
    test: str | None = None
    text: str = "text"
    label: str = "label"
    group: str | None = None
    test_share: float = 0.3
    test_items: int = 0
    format: str | None = None
    header: bool = True
    instruction: str = ""
    model: str = "tiny"
    arms: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=lambda: [0, 8, 32, 128])
    seeds: int = 3
    local_only: bool = False
    seed: int = 0

    @classmethod
    def of_run(cls, folder: Path) -> Arguments:
        """The arguments of the run in a folder."""
        path = folder / "run.json"
        if not path.exists():
            raise SetupError(f"{folder} holds no run to resume (no run.json).")
        return cls(**json.loads(path.read_text(encoding="utf-8"))["arguments"])


def read_examples(
    path: Path | str,
    text: str,
    label: str,
    group: str | None,
    format: str | None,
    header: bool,
    *,
    for_test: bool = False,
) -> tuple[tuple[Example, ...], list[str], dict[str, str]]:
    """The examples of a file, warnings about it, and its name and hash."""
    table = read_table(path, format, header=header)
    read = examples_from(table, text, label, group, for_test=for_test)
    return tuple(read.examples), [*table.warnings, *read.warnings], {"file": str(path), "sha256": table.sha256}


def task_of(given: Arguments) -> tuple[Task, list[str], list[dict[str, str]]]:
    """The task a file holds, with warnings and the hashes of the files."""
    columns = (given.text, given.label, given.group, given.format, given.header)
    train, warnings, source = read_examples(given.file, *columns)
    sources = [source]
    if given.test is not None:
        test, more, source = read_examples(given.test, *columns, for_test=True)
        warnings, sources = warnings + more, [*sources, source]
    else:
        train, test = map(tuple, split(train, test_share=given.test_share, seed=given.seed))
    if 0 < given.test_items < len(test):
        warnings.append(f"{given.test_items} of {len(test)} test items are asked, drawn by class and whole groups")
        test = tuple(split(test, test_size=given.test_items, seed=given.seed).test)
    task = Task.classification(Path(given.file).stem, train, test, given.instruction)
    return task, warnings, sources


def run_study(
    given: Arguments, folder: Path, *, jobs: int = 0, resume: bool = False, quiet: bool = False, command: str = ""
) -> dict[str, Any]:
    """Do the study of `given` into `folder`, or go on with it, telling the person at the terminal what happens."""
    from rich.console import Console

    console = Console(quiet=quiet, stderr=True, highlight=False)
    task, warnings, sources = task_of(given)
    base = model_named(given.model)
    if given.local_only and not getattr(base, "local", False):
        raise SetupError(f"--local-only: {given.model} is not known to stay on this machine.")
    learners = arms_named(given.arms or DEFAULT_ARMS, base)
    tell_beforehand(console, task, warnings, lint(task.train, task.test))
    about_run = {
        "arguments": asdict(given),
        "command": command,
        "model": f"{given.model} ({getattr(base, 'description', type(base).__name__)})",
        "sources": sources,
        "warnings": warnings,
    }
    with progress_bar(quiet) as on_progress:
        try:
            results = compare(
                learners,
                task,
                given.labels,
                given.seeds,
                out=folder,
                jobs=jobs or os.cpu_count() or 1,
                resume=resume,
                about_run=about_run,
                on_progress=on_progress,
            )
        except KeyboardInterrupt:
            console.print(f"Stopped. What was answered is kept: promptlab compare --resume {folder}")
            raise SystemExit(1) from None
    tell_afterwards(results, folder, quiet)
    return results


def tell_beforehand(console: Any, task: Task, warnings: Sequence[str], findings: Sequence[Finding]) -> None:
    """What is at hand, what is odd about it, and the smallest difference this test can show."""
    n = len(task.test)
    console.print(
        f"{task.name}: {len(task.train)} labelled examples to learn from, {n} to test on, {len(task.labels)} labels"
    )
    for line in warnings:
        console.print(f"[yellow]note[/] {line}")
    for finding in findings:
        console.print(f"[yellow]{finding.kind}[/] {finding.message}")
    least = smallest_detectable_difference(n)
    console.print(f"Differences under {100 * least:.1f} points cannot be told apart with {n} test items (80 % power).")


class progress_bar:  # noqa: N801  (used as a function)
    """A bar with rate and remaining time on stderr; nothing when quiet or not at a terminal."""

    def __init__(self, quiet: bool):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            TextColumn("answering"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self.job = self.bar.add_task("answering", total=None)

    def __enter__(self) -> Any:
        self.bar.start()
        return lambda done, total: self.bar.update(self.job, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def tell_afterwards(results: dict[str, Any], folder: Path, quiet: bool) -> None:
    """The table, the sentence, and where the report is."""
    from rich.console import Console
    from rich.table import Table

    budgets = sorted({point["labels"] for point in results["points"]})
    table = Table("arm", *(f"{k} labels" for k in budgets), title=None)
    for arm in dict.fromkeys(point["arm"] for point in results["points"]):
        of_arm = {p["labels"]: p["accuracy"] for p in results["points"] if p["arm"] == arm}
        shown = [of_arm.get(k) for k in budgets]
        table.add_row(arm, *(f"{a['value']:.2f} [{a['low']:.2f}, {a['high']:.2f}]" if a else "–" for a in shown))
    console = Console(highlight=False, quiet=quiet, markup=False)
    console.print(table)
    print(results["decision"]["sentence"])
    print(f"{folder / 'report.html'}")
