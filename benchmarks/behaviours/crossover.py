"""Where fine-tuning overtakes prompting: a rule that was never taught, by number of labels."""

from __future__ import annotations

from random import Random

import numpy as np
from harness import row

from behaviours.figures import Rows
from promptlab import finetuned, in_context, run
from promptlab.backends.tiny import Tiny
from promptlab.compare.statistics import accuracy, paired_difference, resample
from promptlab.learners.solver import Learner
from promptlab.task import Task
from promptlab.tiny.data.chat import distinct, nonsense
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS, HELD_OUT_RULES
from promptlab.types import Example

SEEDS, SIZES = 5, (32, 128, 512)


def task(n_train: int, n_test: int) -> Task:
    """Lists of words, sorted by whether the second is a certain one, under labels never met in training."""
    rng = Random("organism/crossover")
    yes, no = HELD_OUT_LABELS[:2]
    [rule] = HELD_OUT_RULES
    pool = distinct(rng, lambda: nonsense(rng, 1), 10)
    found: dict[str, str] = {}
    while len(found) < n_train + n_test:
        words = [rng.choice(pool) for _ in range(rng.choice((2, 3, 4)))]
        if rng.random() < 0.6:
            words[rng.randrange(len(words))] = pool[0]
        if rule(words, pool[0]) == (len(found) % 2 == 0):  # half of them fulfil it
            found.setdefault(" ".join(words), yes if rule(words, pool[0]) else no)
    examples = [Example(text, label) for text, label in rng.sample(list(found.items()), len(found))]
    return Task.classification("second", examples[n_test:], examples[:n_test])


def right(learner: Learner, given: Task, k: int, seed: int) -> list[bool]:
    examples = Random(f"organism/crossover/{k}/{seed}").sample(given.train, k)
    solver = learner(given, examples, seed)
    answers = run([solver.program(e.input) for e in given.test], solver.backend)
    return [a.value == e.target for a, e in zip(answers, given.test, strict=True)]


def measure(tiny: Tiny, n: int) -> Rows:
    given = task(max(SIZES), n)
    many = resample(len(given.test))
    clusters = np.arange(len(given.test))
    prompted = np.array([right(in_context(tiny), given, 16, seed) for seed in range(SEEDS)])
    shown = accuracy(prompted, clusters, many)
    note = f"{SEEDS} seeds"
    rows = [
        row("a rule never taught, 16 shots", shown.value, "accuracy", low=shown.low, high=shown.high, n=n, note=note)
    ]
    for k in SIZES:
        trained = np.array([right(finetuned(tiny, "sft"), given, k, seed) for seed in range(SEEDS)])
        lead = paired_difference(trained, prompted, clusters, many)
        words = f"{trained.mean():.3f} fine-tuned, {note}"
        rows.append(
            row(
                f"the same, fine-tuned on {k} labels - 16 shots",
                lead.value,
                "difference",
                low=lead.low,
                high=lead.high,
                n=n,
                note=words,
            )
        )
    ahead = [k for k, found in zip(SIZES, rows[1:], strict=True) if found["low"] > 0]
    where = row(
        "fine-tuning is ahead of 16 shots from … labels on",
        float(ahead[0]) if ahead else None,
        "labels",
        n=n,
        target=1000,
        at_most=True,
    )
    return [*rows, {**where, "ok": bool(ahead)}]
