"""The one time the test labels are read: every cell's answers, with target and verdict, in one file."""

from __future__ import annotations

from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.compare.calibration import brier, probabilities
from promptlab.compare.carrying import in_rows, plain, revived
from promptlab.compare.cellfile import as_line, whole_lines
from promptlab.compare.plan import Cell, Plan
from promptlab.errors import PromptlabError, SetupError
from promptlab.task import Task, scored
from promptlab.types import Example
from promptlab.whole import whole

OUTSIDE, BEFORE, AFTER = "outside.jsonl", "general-before.jsonl", "general-after.jsonl"
FILES = {"outside": OUTSIDE, "before": BEFORE, "after": AFTER}


def join_targets(plan: Plan, folder: Path) -> None:
    """Write messages.jsonl, cells.jsonl and rows.jsonl: each whole or not at all, the rows last.

    Messages are numbered as the rows first use them, whatever order the answers came in. What else was asked, outside
    the data set and of the general set, has files of its own.
    """
    messages: dict[str, int] = {}
    names = dict.fromkeys(part.name for cell in plan.cells() for part in plan.parts(cell) if part.items)
    with ExitStack() as stack:
        rows = {"test": stack.enter_context(whole(folder / "rows.jsonl"))}
        rows |= {name: stack.enter_context(whole(folder / FILES[name])) for name in names if name in FILES}
        table = stack.enter_context(whole(folder / "messages.jsonl"))
        costs = stack.enter_context(whole(folder / "cells.jsonl"))
        for cell in plan.cells():
            lines, _ = whole_lines(folder / "cells" / cell.file_name)
            said = {line["message"]["id"]: line["message"] for line in lines if "message" in line}
            answers = {line["item"]["item"]: line["item"] for line in lines if "item" in line}
            for part in plan.parts(cell):
                read: set[tuple[int, ...]] = set()
                task = plan.task_of(part)
                for example, cluster in zip(part.items, plan.clusters_of(part), strict=True):
                    answer = answers[example.id]
                    for key in answer["prompt"]:
                        if key not in messages:
                            messages[key] = len(messages)
                            table.write(as_line({"role": said[key]["role"], "content": said[key]["content"]}))
                    prompt = [messages[key] for key in answer["prompt"]]
                    judged_row = judged(task, cell, example, cluster, answer)
                    reused(judged_row, tuple(prompt[:-1]), read)
                    item = example.id.partition(":")[2] if task is plan.general else example.id
                    rows[part.name].write(as_line({**judged_row, "item": item, "prompt": prompt}))
            done = next(line["done"] for line in lines if "done" in line)
            costs.write(as_line({**cell._asdict(), **done}))


def reused(row: dict[str, Any], prefix: tuple[int, ...], read: set[tuple[int, ...]]) -> None:
    """Turns the tokens of a prompt's beginning into those that a kept prefix saves: all, if an item before had it."""
    tokens = row.pop("prefix_tokens", 0)
    if tokens and prefix in read:
        row["reused_tokens"] = tokens
    read.add(prefix)


def judged(task: Task, cell: Cell, example: Example, cluster: int, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer's row, with the target and whether it is right: a score of 1 is, anything less is not."""
    answer = dict(answer)
    sure = sureness(task, example, answer.pop("scores", None))
    said = answer["generated"]
    if said is not None:
        said = {**said, "answer": in_rows(said["answer"]), "correct": is_right(task, said["answer"], example)}
    correct = is_right(task, answer["answer"], example)
    answer["answer"] = in_rows(answer["answer"])
    whom = {} if example.subgroup is None else {"subgroup": example.subgroup}
    gold = {"group": example.group, **whom, "cluster": cluster, "target": plain(example.target), "correct": correct}
    return {**cell._asdict(), **answer, **gold, **sure, "generated": said}


def is_right(task: Task, told: Any, example: Example) -> bool:
    """Whether the score of what was carried is 1. Raises SetupError where there is none, or no number from 0 to 1."""
    try:
        return scored(task.score, revived(told, task.prompt.output), example.target)[0] == 1
    except PromptlabError as wrong:
        mend = "Every answer is kept: mend the score, and go on with resume=True."
        raise SetupError(f"{example.id}: {str(wrong).rstrip('.')}. {mend}") from wrong


def sureness(task: Task, example: Example, scores: dict[str, float] | None) -> dict[str, float]:
    """The probability of the likeliest label, and the squared distance of all labels' to the truth, where scored."""
    target = str(example.target)
    if scores is None or len(scores) < 2 or target not in scores or not any(map(isfinite, scores.values())):
        return {}
    p = probabilities([list(scores.values())])
    return {"confidence": round(float(p.max()), 5), "brier": round(brier(p, np.array([[*scores].index(target)])), 5)}
