"""The bundled model answers, and a bank of instructions and demonstrations is searched for it: does that beat asking it
plainly, and showing it demonstrations at random?"""

from __future__ import annotations

import gzip
import json
import time
from functools import partial
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from behaviours.figures import Rows, difference
from harness import DATA, row, two_at_a_time

from optimizing.proposer import lists, right, solve, tiny
from promptlab import Example, Prompt, run
from promptlab.compare.data.tables import examples_from, read_table
from promptlab.optimizers import demos, mipro, templates
from promptlab.splits import split
from promptlab.strategies import likeliest_label
from promptlab.tiny.data.chat import distinct, nonsense
from promptlab.tiny.data.instructions import OPERATIONS
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS

REPORTS = Path(__file__).parents[2] / "promptlab" / "demo" / "outbreak_reports.csv"
INDUCTION = DATA.parent / "instruction_induction"
GIVEN, TESTED, RANDOM_SHOTS = 800, 500, 5
NEAR_ONE = 0.95
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


def label_map(n_labels: int, words: int = 8, draw: str = "") -> Asked:
    """Pairs of words, of which each label has so many: what they are called can be told from demonstrations alone."""
    rng = Random(f"optimizers/map/{n_labels}{draw}")
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
    """Right answers to the test: asked plainly, after random demonstrations, and as it was found to be best.

    What is found is what `templates`, `demos` or `mipro` came to, whichever gained most in its last comparison.
    """
    answered = likeliest_label if task.prompt.labels else solve
    test = task.test[:40] if quick else task.test
    shots = Random("shots").sample(task.given, RANDOM_SHOTS)
    terms = {"solve": answered, "calls": 400 if quick else 10_000, "seed": 1}
    searches = [
        run(templates(task.prompt, task.given, **terms), tiny()),
        run(demos(task.prompt, task.given, **terms), tiny()),
        run(mipro(task.prompt, task.given, proposals=0, bank=60, labelled=12, **terms), tiny()),
    ]
    found = max(searches, key=lambda each: each.found.verdict.gain if each.found.accepted else 0.0)
    prompts = {"plain": task.prompt, "random": task.prompt.with_shots(shots), "found": found}
    return {name: right(prompt, test, answered) for name, prompt in prompts.items()}


def every_task() -> list[Asked]:
    return [*(induction_tasks() if INDUCTION.exists() else []), *own_tasks()]


def outcome(quick: bool, name: str) -> tuple[dict[str, Any], bool | None, bool]:
    """A task's row; whether both baselines were beaten (None: it is out of reach); whether they are near 1 already."""
    [task] = [each for each in every_task() if each.name == name]
    by = outcomes(task, quick)
    share = {way: sum(found) / len(found) for way, found in by.items()}
    best = max(("plain", "random"), key=share.__getitem__)
    told = ", ".join(f"{way} {p:.2f}" for way, p in share.items())
    found = difference(f"{name}: found - the better of plain and random", by["found"], by[best], note=told)
    if max(share.values()) < (1 / len(task.prompt.labels) if task.prompt.labels else 0.0) + ABLE:
        return {**found, "note": f"out of reach: {told}"}, None, False
    return found, found["low"] > 0, share[best] >= NEAR_ONE


def measure(quick: bool) -> Rows:
    """Two tasks at a time. Those that are out of the model's reach are told, and not counted."""
    start = time.perf_counter()
    names = [task.name for task in every_task()][:: 6 if quick else 1]
    found = list(two_at_a_time(partial(outcome, quick), names))
    minutes = (time.perf_counter() - start) / 60
    able = [(won, near) for _, won, near in found if won is not None]
    open_to = [won for won, near in able if not near]
    beaten = sum(won for won, _ in able)
    said = "templates and demonstrations searched: beats plain and random demonstrations"
    note = f"{beaten} of {len(able)} tasks it can do at all, of {len(found)}: the paired interval leaves out 0"
    share = row(said, beaten / len(able) if able else None, "of tasks", n=len(able), target=0.5, note=note)
    left = f"the same, of the tasks on which neither is right on {NEAR_ONE:.0%} or more already"
    rest = row(left, sum(open_to) / len(open_to) if open_to else None, "of tasks", n=len(open_to))
    took = row("the same: time", minutes, "minutes", n=len(found), target=10, at_most=True, note="two at a time")
    return [share, rest, took, *(each for each, _, _ in found)]
