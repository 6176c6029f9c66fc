"""The one time the test labels are read: every cell's answers, with target and verdict, in one file."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.compare.answering import plain
from promptlab.compare.calibration import brier, probabilities
from promptlab.compare.cellfile import as_line, whole, whole_lines
from promptlab.compare.plan import Cell, Plan
from promptlab.task import Task
from promptlab.types import Example


def join_targets(plan: Plan, folder: Path) -> None:
    """Write messages.jsonl, cells.jsonl and rows.jsonl: each whole or not at all, the rows last.

    Messages are numbered as the rows first use them, whatever order the answers came in.
    """
    messages: dict[str, int] = {}
    with (
        whole(folder / "rows.jsonl") as rows,
        whole(folder / "messages.jsonl") as table,
        whole(folder / "cells.jsonl") as costs,
    ):
        for cell in plan.cells():
            lines, _ = whole_lines(folder / "cells" / cell.file_name)
            said = {line["message"]["id"]: line["message"] for line in lines if "message" in line}
            answers = {line["item"]["item"]: line["item"] for line in lines if "item" in line}
            for example, cluster in zip(plan.task.test, plan.test_clusters, strict=True):
                answer = answers[example.id]
                for key in answer["prompt"]:
                    if key not in messages:
                        messages[key] = len(messages)
                        table.write(as_line({"role": said[key]["role"], "content": said[key]["content"]}))
                prompt = [messages[key] for key in answer["prompt"]]
                rows.write(as_line({**judged(plan.task, cell, example, cluster, answer), "prompt": prompt}))
            done = next(line["done"] for line in lines if "done" in line)
            costs.write(as_line({**cell._asdict(), **done}))


def judged(task: Task, cell: Cell, example: Example, cluster: int, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer's row, with the target and whether it is right: a score of 1 is, anything less is not."""
    answer = dict(answer)
    sure = sureness(task, example, answer.pop("scores", None))
    said = answer["generated"]
    if said is not None:
        said = {**said, "correct": task.score(said["answer"], example.target) == 1}
    correct = task.score(answer["answer"], example.target) == 1
    gold = {"group": example.group, "cluster": cluster, "target": plain(example.target), "correct": correct}
    return {**cell._asdict(), **answer, **gold, **sure, "generated": said}


def sureness(task: Task, example: Example, scores: dict[str, float] | None) -> dict[str, float]:
    """The probability of the likeliest label, and the squared distance of all labels' to the truth, where scored."""
    target = str(example.target)
    if scores is None or len(scores) < 2 or target not in scores or not any(map(isfinite, scores.values())):
        return {}
    p = probabilities([list(scores.values())])
    return {"confidence": round(float(p.max()), 5), "brier": round(brier(p, np.array([[*scores].index(target)])), 5)}
