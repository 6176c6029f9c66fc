"""Runs a study: every arm, label budget and seed on the same examples, then one look at the test labels."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from promptlab.compare.answering import whole_lines
from promptlab.compare.jobs import fill_all
from promptlab.compare.lint import lint
from promptlab.compare.plan import Plan, planned
from promptlab.compare.provenance import versions
from promptlab.compare.report import write_report
from promptlab.compare.results import summarise
from promptlab.compare.statistics import smallest_detectable_difference
from promptlab.errors import SetupError
from promptlab.learners.solver import Learner, about
from promptlab.task import Task

Progress = Callable[[int, int], None]  # items answered so far, of how many


def compare(
    arms: Mapping[str, Learner],
    task: Task,
    ks: Iterable[int] = (0, 8, 32, 128),
    seeds: Iterable[int] | int = 5,
    *,
    out: Path | str,
    jobs: int = 1,
    resume: bool = False,
    about_run: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Give every arm the same `ks` labelled examples, ask all the same test inputs, and say what can be concluded.

    Budgets are nested and drawn anew for each seed; the test labels are joined once, when every answer is written.
    The folder `out` gets report.html, results.json (returned), rows.jsonl (a row an item answered), and run.json. Every
    chunk of answers is on the disk before the next is asked for: with `resume` an interrupted run goes on from there.
    The rows are the same, but for their seconds, whatever `jobs` is. Raises SetupError where the study cannot be run,
    where `out` holds another run, and where a resumed run is not the same study.
    """
    plan = planned(task, arms, ks, seeds)
    folder = Path(out)
    with locked(folder):
        start_or_resume(plan, folder, resume, about_run or {})
        cells = plan.cells()
        total = len(cells) * len(task.test)
        answered = sum("item" in line for c in cells for line in whole_lines(folder / "cells" / c.file_name))

        def on_answers(n: int) -> None:
            nonlocal answered
            answered += n
            if on_progress is not None:
                on_progress(answered, total)

        on_answers(0)
        fill_all(plan, cells, folder / "cells", jobs, on_answers)
        join_targets(plan, folder)
        finish(folder, "run.json", {"finished": now()})
        results = summarise(folder)
        write_report(folder)
    return results


def start_or_resume(plan: Plan, folder: Path, resume: bool, about_run: Mapping[str, Any]) -> None:
    """Write run.json for a new run, or see that the one there is this study."""
    there = folder / "run.json"
    if there.exists():
        if not resume:
            raise SetupError(
                f"{folder} holds a run already. Continue it with --resume {folder}, or choose another --out."
            )
        if json.loads(there.read_text(encoding="utf-8"))["plan_sha256"] != plan.digest():
            raise SetupError(
                f"{folder} holds another study (other data, arms, budgets, seeds or weights): choose another --out."
            )
        return
    task, n = plan.task, len(plan.task.test)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    run = {
        "task": task.name,
        "labels": list(task.labels),
        "instruction": task.prompt.instruction,
        "n_train": len(task.train),
        "n_test": n,
        "arms": [about(learner, name) for name, learner in plan.arms.items()],
        "label_budgets": list(plan.ks),
        "seeds": list(plan.seeds),
        "smallest_detectable_difference": smallest_detectable_difference(n),
        "lint": [{"kind": f.kind, "count": f.count, "message": f.message} for f in lint(task.train, task.test)],
        "plan_sha256": plan.digest(),
        "versions": versions(),
        "started": now(),
        **about_run,
    }
    write_json(there, run)


def join_targets(plan: Plan, folder: Path) -> None:
    """The one time the test labels are read: every cell's answers, with target and verdict, into rows.jsonl."""
    test, of_item = plan.task.test, plan.test_clusters()
    messages: dict[str, int] = {}
    with (
        (folder / "rows.jsonl").open("w", encoding="utf-8") as rows,
        (folder / "messages.jsonl").open("w", encoding="utf-8") as table,
        (folder / "cells.jsonl").open("w", encoding="utf-8") as costs,
    ):
        for cell in plan.cells():
            lines = whole_lines(folder / "cells" / cell.file_name)
            for message in (line["message"] for line in lines if "message" in line):
                if message["id"] not in messages:
                    messages[message["id"]] = len(messages)
                    table.write(as_line({"role": message["role"], "content": message["content"]}))
            answers = {line["item"]["item"]: line["item"] for line in lines if "item" in line}
            for example, cluster in zip(test, of_item, strict=True):
                row = answers[example.id]
                said = row["generated"]
                if said is not None:
                    said = {**said, "correct": plan.task.score(said["answer"], example.target) == 1}
                head = {"arm": cell.arm, "labels": cell.labels, "seed": cell.seed}
                gold = {"group": example.group, "cluster": cluster, "target": example.target}
                verdict = {"correct": plan.task.score(row["answer"], example.target) == 1, "generated": said}
                prompt = [messages[key] for key in row["prompt"]]
                rows.write(as_line({**head, **row, **gold, **verdict, "prompt": prompt}))
            done = next(line["done"] for line in lines if "done" in line)
            costs.write(as_line({**cell._asdict(), **done}))


def as_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def finish(folder: Path, name: str, more: Mapping[str, Any]) -> None:
    """Add to a JSON file of the run."""
    path = folder / name
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **more})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a run: a second one would write the same answers twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(f"{folder} is being written by another run.") from error
        yield
