"""How long a report of a million rows takes to build, in how much memory, and how large its page is.

Two runs are made up, of the same number of rows: a wide one (10 arms, 4 numbers of labels, 5 seeds, 5,000 items) and a
long one (2 arms, 1 seed, 500,000 items); --quick makes both 20 times smaller. The report is built by
`promptlab report`, in a process of its own, as a user would.

    python benchmarks/big_report.py [--quick] [--json FILE] [--keep FOLDER]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import finish, parser, row

CLASSES = ("advice", "finding", "background", "other")
WORDS = (
    "randomised", "trial", "adults", "statin", "placebo", "stroke", "risk", "lower", "weeks", "dose", "cohort",
    "should", "consider", "common", "evidence", "mixed", "screening", "falls", "delirium", "vitamin",
)  # fmt: skip
SHOTS = 8


class Shape(NamedTuple):
    """arms x budgets x seeds x items = rows."""

    arms: int
    budgets: tuple[int, ...]
    seeds: int
    items: int

    @property
    def rows(self) -> int:
        return self.arms * len(self.budgets) * self.seeds * self.items


SHAPES = {"wide": Shape(10, (8, 32, 128, 512), 5, 5_000), "long": Shape(2, (32,), 1, 500_000)}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--keep", type=Path, metavar="FOLDER", help="make the runs there and leave them")
    given = made.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, shape in SHAPES.items():
            small = shape._replace(items=shape.items // 20) if given.quick else shape
            folder = (given.keep or Path(temporary)) / name
            write_run(folder, small)
            rows += measured(name, folder, small)
    finish(rows, given)


def measured(name: str, folder: Path, shape: Shape) -> Iterator[dict[str, Any]]:
    """The report built by the command, and what that took."""
    started = time.perf_counter()
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "promptlab", "report", str(folder)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"promptlab report {folder} ended with {status}.")
    n, of = shape.rows, f"of {shape.rows:,} rows, {name}"
    megabytes = (folder / "report.html").stat().st_size / 1e6
    yield row(f"report {of}: built in", seconds, "s", n=n, target=60, at_most=True)
    yield row(f"report {of}: most memory", usage.ru_maxrss / 1e6, "GB", n=n, target=1, at_most=True)
    yield row(f"report {of}: size of the page", megabytes, "MB", n=n, note="no target asked for")


def write_run(folder: Path, shape: Shape) -> None:
    """A run as `promptlab compare` leaves it: rows with prompts of 8 demonstrations, messages, costs, run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(8)
    targets = rng.choice(len(CLASSES), shape.items, p=(0.3, 0.4, 0.2, 0.1))
    ease = rng.normal(size=shape.items)
    picks = rng.integers(len(WORDS), size=(shape.items, 14))
    with (folder / "messages.jsonl").open("w") as out:
        said(out, "system", f"Label the sentence with one of: {', '.join(CLASSES)}.")
        for i in range(shape.items):
            said(out, "user", f"Sentence {i}: {' '.join(WORDS[j] for j in picks[i])}.")
        for name in CLASSES:
            said(out, "assistant", name)
    arms = [{"name": f"arm-{a}", "family": ("prompting", "fine-tuning", "baseline")[a % 3]} for a in range(shape.arms)]
    with (folder / "rows.jsonl").open("w") as out, (folder / "cells.jsonl").open("w") as costs:
        for arm in arms:
            for labels in shape.budgets:
                for seed in range(shape.seeds):
                    out.writelines(lines(arm["name"], labels, seed, targets, ease, shape.items, rng))
                    cell = {"arm": arm["name"], "labels": labels, "seed": seed, "learn_seconds": 1.0}
                    costs.write(json.dumps({**cell, "answer_seconds": 1.0, "trained_parameters": None, "notes": []}))
                    costs.write("\n")
    run = {
        "task": "made up",
        "labels": list(CLASSES),
        "n_train": 4_000,
        "arms": [{**arm, "needs_labels": True, "draws_without_labels": False, "description": ""} for arm in arms],
        "lint": [],
    }
    (folder / "run.json").write_text(json.dumps(run))


def said(out: Any, role: str, content: str) -> None:
    out.write(json.dumps({"role": role, "content": content}) + "\n")


def lines(
    arm: str, labels: int, seed: int, targets: np.ndarray, ease: np.ndarray, n: int, rng: np.random.Generator
) -> Iterator[str]:
    """A cell's rows. Each is right as often as its arm and the item's ease have it."""
    better = np.log2(labels) * (0.2 if int(arm[4:]) % 3 == 1 else 0.05) + 0.1 * (int(arm[4:]) % 4) - 0.5
    right = rng.random(n) < 1 / (1 + np.exp(-better - ease))
    wrong = (targets + rng.integers(1, len(CLASSES), size=n)) % len(CLASSES)
    answers = np.where(right, targets, wrong)
    demos = rng.integers(n, size=SHOTS)
    prompt = ", ".join(f"{1 + i}, {n + 1 + targets[i]}" for i in demos)
    for i in range(n):
        answer = CLASSES[answers[i]]
        yield (
            f'{{"arm": "{arm}", "labels": {labels}, "seed": {seed}, "item": "test:{i}", '
            f'"answer": "{answer}", "why": null, "generated": {{"text": "{answer}.", "answer": "{answer}", '
            f'"correct": {"true" if right[i] else "false"}}}, "shots": {SHOTS}, "left_out": 0, "input_tokens": 312, '
            f'"output_tokens": 2, "seconds": 0.0123, "error": null, "group": "doc-{i // 2}", "cluster": {i // 2}, '
            f'"target": "{CLASSES[targets[i]]}", "correct": {"true" if right[i] else "false"}, '
            f'"prompt": [0, {prompt}, {1 + i}]}}\n'
        )


if __name__ == "__main__":
    main()
