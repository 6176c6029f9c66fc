"""The bundled model answers, and a bank of instructions and demonstrations is searched for it: does that beat asking it
plainly, and showing it demonstrations at random?"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from behaviours.figures import Rows, difference
from harness import DATA, row

from optimizing.proposer import lists, right, solve, tiny
from promptlab import Example, Prompt, run
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.optimizers import mipro
from promptlab.splits import split
from promptlab.strategies import likeliest_label
from promptlab.tiny.data.chat import distinct, nonsense
from promptlab.tiny.data.instructions import OPERATIONS
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS

REPORTS = Path(__file__).parents[2] / "promptlab" / "demo" / "outbreak_reports.csv"
INDUCTION = DATA.parent / "instruction_induction"
GIVEN, TESTED, RANDOM_SHOTS = 400, 200, 5
ABLE = 0.10  # of the test right, by whichever way of asking: below that a task is out of the model's reach


class Asked(NamedTuple):
    """A task: the prompt to begin with, examples to learn from, and those it is tested on."""

    name: str
    prompt: Prompt
    given: list[Example]
    test: list[Example]


def induction_tasks() -> list[Asked]:
    """Instruction induction (Honovich et al. 2022): the first of people's instructions, pairs of its two files."""
    tasks = []
    for path in sorted((INDUCTION / "execute").glob("*.json")):
        said = json.loads((INDUCTION / "annotations" / path.name).read_text(encoding="utf-8"))["annotations"][0]
        with gzip.open(INDUCTION / "induce" / f"{path.stem}.json.gz", "rt", encoding="utf-8") as file:
            given = pairs(json.load(file), GIVEN)
        test = pairs(json.loads(path.read_text(encoding="utf-8")), TESTED)
        inputs = {example.input for example in test}
        if len(given) >= 25:  # two tasks have 15: too few to tell a better prompt from luck
            tasks.append(
                Asked(f"induction: {path.stem}", Prompt(said), [e for e in given if e.input not in inputs], test)
            )
    return tasks


def pairs(told: dict[str, Any], n: int) -> list[Example]:
    """Inputs and outputs, drawn at random; those of two sentences, a cause and its effect, have no single input."""
    examples = [e for _, e in sorted(told["examples"].items()) if isinstance(e.get("input"), str)]
    return [Example(e["input"], str(e["output"])) for e in Random(0).sample(examples, min(n, len(examples)))]


def own_tasks() -> list[Asked]:
    """Operations on lists, each in its rarest wording; words under labels that were never labels; field reports."""
    tasks = []
    for name, operation in OPERATIONS.items():
        examples = lists(name, operation, GIVEN + TESTED)
        tasks.append(Asked(f"list: {name}", Prompt(operation.phrasings[-1]), examples[:GIVEN], examples[GIVEN:]))
    return [*tasks, *(label_map(n_labels) for n_labels in (2, 3, 4)), field_reports()]


def label_map(n_labels: int, words: int = 8) -> Asked:
    """Pairs of words, of which each label has so many: what they are called can be told from demonstrations alone."""
    rng = Random(f"optimizers/map/{n_labels}")
    labels = rng.sample(HELD_OUT_LABELS, n_labels)
    pool = distinct(rng, lambda: nonsense(rng, 2), words * n_labels)
    examples = [
        Example(f"{a} {b}", label)
        for k, label in enumerate(labels)
        for a, b in permutations(pool[words * k : words * (k + 1)], 2)
    ]
    rng.shuffle(examples)
    cut = round(0.7 * len(examples))
    return Asked(f"map: {n_labels} labels", Prompt("", Literal[tuple(labels)]), examples[:cut], examples[cut:])


def field_reports() -> Asked:
    """The reports of `make demo`."""
    table = read_table(str(REPORTS))
    train, test = split(examples_from(table, "report", "desk").examples, test_size=100)
    labels = tuple(sorted({example.target for example in train}))
    return Asked("field reports", Prompt("", Literal[labels]), list(train), list(test))


def outcomes(task: Asked, quick: bool) -> dict[str, list[bool]]:
    """Right answers to the test: asked plainly, after random demonstrations, and as the search found it best."""
    answered = likeliest_label if task.prompt.labels else solve
    test = task.test[:40] if quick else task.test
    shots = Random("shots").sample(task.given, RANDOM_SHOTS)
    calls = 400 if quick else 2_000
    search = mipro(task.prompt, task.given, solve=answered, calls=calls, proposals=0, labelled=12, seed=1)
    found = run(search, tiny())
    prompts = {"plain": task.prompt, "random": task.prompt.with_shots(shots), "found": found}
    return {name: right(prompt, test, answered) for name, prompt in prompts.items()}


def measure(quick: bool) -> Rows:
    tasks: Sequence[Asked] = [*(induction_tasks() if INDUCTION.exists() else []), *own_tasks()]
    rows: Rows = []
    beaten = able = 0
    for task in tasks[:: 5 if quick else 1]:
        by = outcomes(task, quick)
        share = {name: sum(found) / len(found) for name, found in by.items()}
        chance = 1 / len(task.prompt.labels) if task.prompt.labels else 0.0
        told = ", ".join(f"{name} {p:.2f}" for name, p in share.items())
        best = max(("plain", "random"), key=share.__getitem__)
        found = difference(f"{task.name}: found - the better of plain and random", by["found"], by[best], note=told)
        if max(share.values()) < chance + ABLE:
            rows.append({**found, "note": f"out of reach: {told}"})
            continue
        able += 1
        beaten += found["low"] > 0
        rows.append(found)
    note = f"{beaten} of {able} tasks it can do at all, of {len(rows)}: the paired interval leaves out 0"
    said = "templates and demonstrations searched: beats plain and random demonstrations"
    target = 0.5 if able else None
    return [row(said, beaten / able if able else None, "of tasks", n=able, target=target, note=note), *rows]
