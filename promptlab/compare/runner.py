"""Runs a study: every arm, label budget and seed on the same examples, then one look at the test labels."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsIndex

from promptlab.compare.cellfile import answers_in, reopen
from promptlab.compare.data.lint import lint
from promptlab.compare.jobs import fill_all
from promptlab.compare.joining import join_targets
from promptlab.compare.on_ray import fill_on_ray
from promptlab.compare.opened import keep_keys, opened_elsewhere
from promptlab.compare.plan import Plan, planned
from promptlab.compare.processes import at_a_time
from promptlab.compare.provenance import machine, versions
from promptlab.compare.report import write_report
from promptlab.compare.spending import Terms
from promptlab.compare.statistics import smallest_detectable_difference
from promptlab.errors import SetupError
from promptlab.learners.solver import Learner, about
from promptlab.task import Task
from promptlab.types import Example
from promptlab.whole import whole

Progress = Callable[[int, int], None]  # items answered so far, of how many


def compare(
    arms: Mapping[str, Learner],
    task: Task,
    ks: Iterable[SupportsIndex] = (0, 8, 32, 128),
    seeds: Iterable[SupportsIndex] | SupportsIndex = 5,
    *,
    outside: Iterable[Example] = (),
    general: Task | None = None,
    out: Path | str | None = None,
    jobs: int = 1,
    ray: str | None = None,
    resume: bool = False,
    about_run: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Give every arm the same `ks` labelled examples, ask all the same test inputs, and say what can be concluded.

    Budgets are nested and drawn anew for each seed. Learners see those k labels and no other; the test labels are
    joined once, when every answer is written; an answer counts as right where `task.score` is 1, and not in part. The
    folder `out` (runs/ and the task's name if left out) gets report.html, results.json (returned), rows.jsonl
    (a row an item answered), and run.json. Answers are on the disk before more are asked for: with `resume` an
    interrupted run goes on from there, and a finished one gets a new report; what a model was not available for is
    asked again.
    Items from `outside` the data set are asked of the same solvers, and the test of the `general` task of each model
    before and after it is tuned: what both say is told beside the decision, which rests on the task's own test.
    With `terms`, the queries a month above all, costs decide among arms that are as good.
    The rows are the same, but for their timings (`seconds`, `latency`), whatever `jobs` is (0: one a core, as far as
    there is memory), and on a Ray cluster: at the address `ray`, or one of so many jobs started here where that is
    "local". A request that fails, a learner or a program that raises: these are rows with a reason and no answer.
    Raises SetupError where the study cannot be run, where `out` holds another run or cannot be written, where a resumed
    run is not the same study, and for a score that is no number from 0 to 1.
    """
    if jobs < 0:
        raise SetupError(f"jobs is 1 or more, or 0 for one a core, as far as there is memory; got {jobs}.")
    plan = planned(task, arms, ks, seeds, outside, general)
    folder = Path("runs") / file_name(task.name) if out is None else Path(out)
    with locked(folder):
        start_or_resume(plan, folder, resume, about_run or {})
        cells = plan.cells()
        if resume:
            for cell in cells:
                reopen(folder / "cells" / cell.file_name)
        total = sum(map(plan.n_asked, cells))
        answered = sum(answers_in(folder / "cells" / cell.file_name) for cell in cells)

        def on_answers(n: int) -> None:
            nonlocal answered
            answered += n
            if on_progress is not None:
                on_progress(answered, total)

        on_answers(0)
        if ray is None:
            fill_all(plan, cells, folder / "cells", jobs or at_a_time(arms.values()), on_answers)
        else:
            fill_on_ray(plan, cells, folder / "cells", ray, jobs or at_a_time(arms.values()), on_answers)
        open_test(plan, folder)
        if terms is not None:
            write_json(folder / "run.json", {**read_run(folder), "terms": asdict(terms)})
        write_report(folder)
        finish(folder / "run.json")
        results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results


def file_name(name: str) -> str:
    """A task's name as a folder's: what is neither a letter, a digit nor one of ._- is a -."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:100] or "run"


def start_or_resume(plan: Plan, folder: Path, resume: bool, about_run: Mapping[str, Any]) -> None:
    """Write run.json for a new run, or see that the one there is this study."""
    there = folder / "run.json"
    (folder / "cells").mkdir(exist_ok=True)
    if there.exists():
        if not resume:
            raise SetupError(
                f"{folder} holds a run already. Continue it with --resume {folder} (resume=True in Python), or choose "
                "another --out."
            )
        run = read_run(folder)
        if run.get("plan_sha256") != plan.digest():
            if changed := files_changed(run, about_run):
                raise SetupError(f"{changed} since {folder} was begun: put back what was, or choose another --out.")
            raise SetupError(
                f"{folder} holds another study (other data, arms, budgets, seeds or weights): choose another --out."
            )
        return
    task = plan.task
    run = {
        "task": task.name,
        "labels": list(task.labels),
        "instruction": task.prompt.instruction,
        "n_train": len(task.train),
        "n_test": len(task.test),
        "arms": [about(learner, name) for name, learner in plan.arms.items()],
        "model": ", ".join(
            dict.fromkeys(type(arm.base).__name__ for arm in plan.arms.values() if hasattr(arm, "base"))
        ),
        "label_budgets": list(plan.ks),
        "seeds": list(plan.seeds),
        "smallest_detectable_difference": smallest_detectable_difference(len(set(plan.test_clusters))),
        "data": plan.told(),
        "plan_sha256": plan.digest(),
        "versions": versions(),
        "machine": machine(),
        "started": now(),
        **about_run,
    }
    if "lint" not in run:
        run["lint"] = [asdict(finding) for finding in lint(task.train, task.test)]
    write_json(there, run)


def open_test(plan: Plan, folder: Path) -> None:
    """Join the test labels, and keep a record of when: the first time, and each time that answers have changed since.

    Runs beside this one that opened some of the same items are named: what was changed after them was chosen on these.
    """
    there, rows = folder / "run.json", folder / "rows.jsonl"
    run, before = read_run(folder), sha256_of(rows)
    opened = run.get("test_opened", [])
    if not opened:
        run |= opened_elsewhere(folder, plan.task.test)
    keep_keys(folder, plan.task.test)
    write_json(there, {**run, "test_opened": [*opened, now()]})
    join_targets(plan, folder)
    if before is not None and before == sha256_of(rows):
        write_json(there, {**run, "test_opened": opened})


def sha256_of(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def files_changed(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which files of the data have another hash than when a run was begun."""
    before, after = begun.get("files") or {}, now.get("files") or {}
    changed = [name for name in before if after.get(name, before[name]) != before[name]]
    return f"{' and '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed" if changed else ""


def read_run(folder: Path) -> dict[str, Any]:
    """The run.json of a folder. Raises SetupError where there is none or it is not one."""
    path = folder / "run.json"
    if not path.exists():
        raise SetupError(f"{folder} holds no run to resume (no run.json).")
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SetupError(f"{path} is not JSON any more, so the run cannot be resumed: choose another --out.") from error
    return run


def finish(path: Path) -> None:
    """Note when the run was first done, the report included: the last thing that a run writes."""
    run = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**run, "finished": run.get("finished", now())})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    with whole(path) as out:
        out.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process a run: a second one would write the same answers twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise SetupError(f"{folder} cannot be written ({error.strerror}): choose another --out.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(f"{folder} is being written by another run.") from error
        yield
