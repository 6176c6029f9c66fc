"""The bundled study: how long the demonstration takes, and whether its rows are the same whatever the jobs.

python benchmarks/study.py [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import finish, options, row

FILE = "promptlab/demo/outbreak_reports.csv"
TIMINGS = {"seconds", "latency"}
SMALLER = "not measured with --quick: it asks 12 items, with 0 and 8 labels"


def run_demo(out: Path, jobs: int, quick: bool) -> float:
    """Seconds that the demonstration takes."""
    size = ["--seeds", "1", "--test-items", "12", "--labels", "0,8"] if quick else ["--labels", "0,8,32,128"]
    line = [
        "compare",
        FILE,
        "--text",
        "report",
        "--label",
        "desk",
        "--test-share",
        "0.4",
        *size,
        "--jobs",
        str(jobs),
        "--out",
        str(out),
        "--quiet",
    ]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "promptlab", *line], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def rows_of(out: Path) -> list[dict[str, object]]:
    """A run's rows without their timings."""
    lines = (out / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines if line]


def main() -> None:
    given = options(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        jobs = (2, 1) if given.quick else (2, 1, 2)
        outs = [Path(folder) / str(i) for i in range(len(jobs))]
        seconds = [run_demo(out, n, given.quick) for out, n in zip(outs, jobs, strict=True)]
        first, *others = map(rows_of, outs)
        same = sum(a == b for other in others for a, b in zip(first, other, strict=True))
        total = len(first) * len(others)
        results = json.loads((outs[0] / "results.json").read_text(encoding="utf-8"))
    rows = [
        row("make demo, after installation, 2 jobs", seconds[0], "s", target=180, at_most=True),
        row("make demo, 1 job", seconds[1], "s"),
        row("rows equal across jobs 2, 1, 2", same / total, "share", n=total, target=1.0),
    ]
    if given.quick:  # a smaller study, whose time says nothing of the whole one's
        rows[0] = row(rows[0]["name"], None, "s", target=180, at_most=True, note=SMALLER)
    for point in results["points"]:
        found = point["accuracy"]
        name = f"demo, {point['arm']}, {point['labels']} labels"
        rows.append(row(name, found["value"], "accuracy", low=found["low"], high=found["high"], n=found["n_items"]))
    if given.quick:
        arms = [arm["name"] for arm in results["arms"]]
        rows += [row(f"demo, {a}, {k} labels", None, "accuracy", note=SMALLER) for k in (32, 128) for a in arms]
    finish(rows, given)


if __name__ == "__main__":
    main()
