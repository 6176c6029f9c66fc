"""EvoPrompt's published pools of instructions, answered by the bundled model: tables of real prompts on real items."""

from __future__ import annotations

from random import Random
from typing import Literal

import numpy as np
from harness import DATA

from optimizing.proposer import tiny
from optimizing.worlds import World
from promptlab import Prompt, run
from promptlab.strategies import likeliest_label

POOLS = DATA.parent / "prompt_pools"
ITEMS = 444
FILES = {"sst2": "stsa.binary.train", "trec": "TREC.train"}
NAMES = {
    "sst2": {"0": "negative", "1": "positive"},
    "trec": {
        "DESC": "description",
        "ENTY": "entity",
        "ABBR": "abbreviation",
        "HUM": "human",
        "NUM": "number",
        "LOC": "location",
    },
}


def pool(name: str, items: int = ITEMS, most: int | None = None) -> World:
    """All instructions of a pool, or the first so many, on the same items.

    What is true of a prompt is its accuracy on these and as many others, which nobody who picks one sees.
    """
    lines = (DATA / name / FILES[name]).read_text(encoding="latin-1").split("\n")
    pairs = [line.split(" ", 1) for line in lines if " " in line]
    drawn = Random(f"optimizers/pools/{name}").sample(pairs, 2 * items)
    said = [line.strip() for file in ("prompts", "prompts_auto") for line in open_lines(name, file)][:most]
    labels = NAMES[name]
    right = np.zeros((len(said), len(drawn)), dtype=bool)
    for i, instruction in enumerate(said):
        prompt = Prompt(instruction, Literal[tuple(labels.values())])
        answers = run([likeliest_label(text[:600], prompt) for _, text in drawn], tiny())
        for j, (answer, (label, _)) in enumerate(zip(answers, drawn, strict=True)):
            right[i, j] = getattr(answer, "value", None) == labels[label.split(":")[0]]
    return World(right[:, :items], right.mean(axis=1))


def open_lines(name: str, file: str) -> list[str]:
    lines = (POOLS / name / f"{file}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip()]
