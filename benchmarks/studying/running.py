"""A study of `promptlab compare` as a benchmark: run or gone on with, then recorded in its place among others.

RUNS/NAME holds the run itself, with the texts, and is never in the repo; results/FILE.json a record a study: decision,
crossovers, accuracies, what it took and on what; results/FILE/ the tables of each, as `promptlab report` writes them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from harness import RESULTS, Watched, as_text, parser, row

from promptlab.compare.study import Arguments
from studying.outside import by_part
from studying.projecting import projected

Json = dict[str, Any]
OPENED = ("test_opened", "test_opened_elsewhere", "test_items_opened_elsewhere")
RUN_OF = ("started", "finished", "plan_sha256", "data", "versions", "machine", *OPENED)
CROSSOVER_OF = ("outcome", "n", "low", "high", "p_never", "p_always", "established")
FAMILIES = ("prompting", "fine-tuning")
ALL = "all"  # beside the studies' names
MOST_GB = 2  # that any of them may hold


class Study(NamedTuple):
    """A name, what it is about, and what `promptlab compare` is given."""

    name: str
    about: str
    arguments: Arguments


def options(doc: str | None, names: Sequence[str], runs: str) -> Namespace:
    """--quick and --json as everywhere, --only, --runs and --project."""
    made: ArgumentParser = parser(doc, "every part of it in minutes, on few items and labels; nothing is kept")
    made.add_argument("--only", action="append", choices=names, help="this one; may be repeated; else all")
    made.add_argument("--runs", type=Path, default=Path(runs), metavar="FOLDER", help=f"of the runs, kept; {runs}")
    made.add_argument("--project", action="store_true", help="measure a cell of each arm; print minutes; run nothing")
    return made.parse_args()


def do(studies: Iterator[Study], given: Namespace, file: str, most_minutes: float) -> None:
    """Project or run the studies one after the other; each is recorded as soon as it is done.

    `most_minutes` is what all in the file may take together, on two cores.
    """
    every: list[Json] = []
    total = 0.0
    for study in studies:
        if given.project:
            total += project(study)
            continue
        folder = given.runs / ("quick" if given.quick else "full") / study.name
        if given.quick:
            shutil.rmtree(folder, ignore_errors=True)
        record = recorded(study, folder)
        for each in record["rows"]:
            print(as_text(each))
        print(f"{study.name}: {record['decision']}", flush=True)
        every += record["rows"]
        if not given.quick:
            merge(record, study.name, file, most_minutes)
            tables(folder, RESULTS / file / f"{study.name}.md")
    if given.project:
        print(f"all of it: {total:.0f} min on two cores")
    if given.json:
        given.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


def project(study: Study) -> float:
    """Print what each arm of a study would take; the minutes of all."""
    total = 0.0
    for each in projected(study.arguments):
        total += each.minutes
        print(f"{study.name}: {each}", flush=True)
    print(f"{study.name}: {total:.1f} min on two cores", flush=True)
    return total


def command(given: Arguments, folder: Path) -> list[str]:
    """`promptlab compare`, as it is typed for these arguments."""
    typed = ["compare", given.file]
    for field in fields(Arguments):
        value = getattr(given, field.name)
        if field.name != "file" and value not in (field.default, [], None):
            said = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            typed += [f"--{field.name.replace('_', '-')}", said]
    return [*typed, "--out", str(folder)]


def recorded(study: Study, folder: Path) -> Json:
    """Run a study, or go on with it, and say what came of it. Ends the program where the folder holds another one."""
    there = folder / "run.json"
    if there.exists():
        begun = json.loads(there.read_text(encoding="utf-8"))["arguments"]
        if begun != asdict(study.arguments):
            sys.exit(f"{folder} holds a run with other arguments: remove it, or choose another --runs.")
    typed = ["compare", "--resume", str(folder)] if there.exists() else command(study.arguments, folder)
    if not (folder / "results.json").exists():
        watched(typed, folder)
    else:  # also says so where the weights or the files are others now
        subprocess.run([sys.executable, "-m", "promptlab", *typed, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return record_of(study, folder)


def watched(typed: Sequence[str], folder: Path) -> None:
    """One session of a run; its minutes and its memory are noted beside the run, however it ends."""
    began, compared = time.perf_counter(), Watched([sys.executable, "-m", "promptlab", *typed, "--quiet"])
    try:
        compared.run()
    finally:
        if folder.is_dir():
            session = {"minutes": (time.perf_counter() - began) / 60, "peak_gb": compared.peak_gb}
            with (folder / "sessions.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps(session) + "\n")


def record_of(study: Study, folder: Path) -> Json:
    """A finished run without its texts."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    noted = folder / "sessions.jsonl"
    sessions = [json.loads(line) for line in noted.read_text(encoding="utf-8").splitlines()] if noted.exists() else []
    minutes = sum(session["minutes"] for session in sessions)
    peak = max((session["peak_gb"] for session in sessions), default=0.0)
    rows = [crossover_row(study.name, each) for each in found["crossovers"] if (each["a"], each["b"]) == FAMILIES]
    rows += accuracy_rows(study.name, found)
    for each in by_part(folder, tuple(run["labels"])):
        what = f"{study.name}, outside, {each.part}, {each.arm}, {each.labels} labels"
        span = each.accuracy
        rows.append(row(what, span.value, "accuracy", low=span.low, high=span.high, n=span.n_items))
    rows.append(row(f"{study.name}, whole study", minutes, "min", note=f"{len(sessions)} session(s)"))
    rows.append(row(f"{study.name}, peak memory of all processes", peak, "GB", target=MOST_GB, at_most=True))
    decision = found["decision"]
    crossovers = {f"{c['b']} over {c['a']}": {name: c[name] for name in CROSSOVER_OF} for c in found["crossovers"]}
    return {
        "about": study.about,
        "command": shlex.join(["promptlab", *nameless(command(study.arguments, folder))]),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        **{name: run[name] for name in RUN_OF if name in run},
        "lint": [finding["message"] for finding in run["lint"]],
        "decision": decision["sentence"],
        "crossover": decision["crossover"],
        "not_established": decision["not_established"],
        "crossovers": crossovers,
        "rows": rows,
    }


def nameless(typed: Sequence[str]) -> Iterator[str]:
    """A command with the last two parts of each path only: where else files lie is nobody's business."""
    for part in typed:
        yield "/".join(["…", *Path(part).parts[-2:]]) if part.startswith("/") else part


def crossover_row(name: str, found: Json) -> Json:
    """Where the best fine-tuning overtakes the best prompting."""
    said = f"{found['outcome']}, P(never) = {found['p_never']:.2f}, P(always) = {found['p_always']:.2f}"
    ends = {"low": found["low"], "high": found["high"]}
    return {**row(f"{name}, crossover", found["n"], "labels", note=said), **ends}


def accuracy_rows(name: str, found: Json) -> Iterator[Json]:
    """A row for each arm and number of labels, here and outside."""
    for where, points in (("", found["points"]), ("outside, ", found["outside"])):
        for point in points:
            span = point["accuracy"]
            what = f"{name}, {where}{point['arm']}, {point['labels']} labels"
            yield row(what, span["value"], "accuracy", low=span["low"], high=span["high"], n=span["n_items"])


def merge(record: Json, name: str, file: str, most_minutes: float) -> None:
    """Put a study's record in its place in results/FILE.json, others as they are, and the minutes of all at its end."""
    path = RESULTS / f"{file}.json"
    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    there = {**there, name: record}
    there.pop(ALL, None)
    rows = [each for study in there.values() for each in study["rows"] if each["unit"] == "min"]
    minutes = sum(each["value"] for each in rows)
    there[ALL] = {"rows": [row(f"{file}, {len(rows)} studies", minutes, "min", target=most_minutes, at_most=True)]}
    path.write_text(json.dumps(there, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tables(folder: Path, path: Path) -> None:
    """The run's tables as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    typed = [sys.executable, "-m", "promptlab", "report", str(folder), "--markdown", str(path)]
    subprocess.run(typed, check=True, stdout=subprocess.DEVNULL)
