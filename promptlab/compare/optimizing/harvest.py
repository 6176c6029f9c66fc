"""From a search to training: the right answers it met, and right ones beside wrong ones.

Every answer was paid for and scored already (Wan et al. 2024, arXiv 2406.15708, find a model's own right answers to be
its best demonstrations); as files they train a model that then needs no prompt. The test's items are in none of them:
a search is never given those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.compare.cellfile import as_line, whole_lines
from promptlab.compare.optimizing.arguments import Arguments, material
from promptlab.compare.runner import files_changed, read_run
from promptlab.errors import DataError, SetupError
from promptlab.optimizers.prompt_file import prompt_from
from promptlab.prompt import Prompt
from promptlab.types import Example
from promptlab.whole import whole

MOST_PAIRS = 4  # of an item


class Said(NamedTuple):
    """What was said to an item under a candidate's prompt, and what it was worth."""

    item: int
    candidate: str
    said: str
    score: float


class Harvest(NamedTuple):
    """A run's examples, the prompt it ended with, and everything that was said, an item after the other."""

    examples: tuple[Example, ...]
    prompt: Prompt
    said: tuple[Said, ...]


def harvest(folder: Path) -> Harvest:
    """What a run in a folder has met so far. Raises SetupError where the files it was made from have changed."""
    given = Arguments.of_run(folder)
    made = material(given)
    if changed := files_changed(read_run(folder), {"files": made.files}):
        raise SetupError(f"{changed} since {folder} was begun, so its answers are of other examples: put it back.")
    lines, _ = whole_lines(folder / "ledger.jsonl")
    said = [
        Said(line["item"], line["candidate"], line["said"], line["score"])
        for line in lines
        if line.get("event") == "scored" and not line["failed"] and line.get("said")
    ]
    if not said:
        raise DataError(f"{folder} holds no answers yet. Finish it with: promptlab optimize --resume {folder}")
    ended = next((line for line in reversed(lines) if line.get("event") == "ended"), None)
    prompts = {line["candidate"]: line["prompts"] for line in lines if line.get("event") == "proposed"}
    prompts |= {line["seed"]: line["prompts"] for line in lines if line.get("event") == "begun"}
    [told] = prompts[ended["best"]].values() if ended else [None]
    prompt = prompt_from(told) if told else made.task.prompt
    return Harvest(made.task.train, prompt, tuple(sorted(said)))


def right_answers(found: Harvest) -> list[dict[str, Any]]:
    """A row for each different right answer to an item: text and label, as `promptlab train sft` reads them.

    Where there are labels, `label` is that alone; `reply` is all that was said, the reasoning of a chain for instance.
    """
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for each in found.said:
        if each.score == 1:
            example, reply = found.examples[each.item], each.said.strip()
            label = str(example.target) if found.prompt.labels else reply
            row = {"text": example.input, "label": label, "reply": reply, "item": example.id}
            rows.setdefault((each.item, reply), row)
    return list(rows.values())


def pairs(found: Harvest) -> list[dict[str, Any]]:
    """Right answers beside wrong ones of the same item: prompt, chosen and rejected, as `promptlab train dpo` reads
    them; at most MOST_PAIRS of an item, each right answer in turn with each wrong one."""
    wins: dict[int, dict[str, None]] = defaultdict(dict)
    losses: dict[int, dict[str, None]] = defaultdict(dict)
    for each in found.said:
        (wins if each.score == 1 else losses)[each.item].setdefault(each.said.strip())
    rows = []
    for item in sorted(wins):
        both = [(w, x) for x in losses[item] for w in wins[item] if w != x]
        asked = found.prompt.framed(found.examples[item].input)
        rows += [{"prompt": asked, "chosen": w, "rejected": x} for w, x in both[:MOST_PAIRS]]
    return rows


def write_sft(found: Harvest, path: Path) -> int:
    """Write the right answers; how many there are."""
    return written(right_answers(found), path, "no right answer")


def write_dpo(found: Harvest, path: Path) -> int:
    """Write the pairs; how many there are."""
    return written(pairs(found), path, "no item with a right and a wrong answer")


def written(rows: Iterable[Mapping[str, Any]], path: Path, none: str) -> int:
    rows = list(rows)
    if not rows:
        raise DataError(f"The run has met {none}, so there is nothing to write into {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as out:
        out.writelines(as_line(row) for row in rows)
    return len(rows)
