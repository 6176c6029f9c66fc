"""Does the bundled model learn in context? Label maps it has never seen, by number of demonstrations; and reasoning.

    python benchmarks/in_context.py [--quick] [--json FILE]

A question ties each of 4 (or 2, 8) labels, none ever met as a label in training, to three fresh nonsense words; an item
shows two of them. 0 demonstrations must be at chance. Chains of thought are asked on word problems by number of steps.
Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from harness import finish, options, row

from promptlab import model, run, score
from promptlab.compare.statistics import wilson
from promptlab.strategies import chain_of_thought, self_consistency, zero_shot
from promptlab.tiny.data.reasoning import word_problem
from promptlab.tiny.probe import label_map_question

SHOTS = (0, 1, 2, 4, 8, 16, 24)


def share(name: str, right: Sequence[bool], target: float | None = None, note: str = "") -> dict[str, Any]:
    p = sum(right) / len(right)
    low, high = wilson(p, len(right))
    return row(name, p, "accuracy", low=low, high=high, n=len(right), target=target, note=note)


def label_maps(tiny: object, n: int, n_labels: int, shots: int) -> list[bool]:
    """Whether the likeliest of the labels is the right one, for n questions."""
    questions = [label_map_question(Random(f"bench/{i}"), n_labels, shots) for i in range(n)]
    scored = run([score(chat, labels) for chat, _, labels in questions], tiny)
    return [
        labels[max(range(len(labels)), key=scores.__getitem__)] == answer
        for (_, answer, labels), scores in zip(questions, scored, strict=True)
    ]


def main() -> None:
    given = options(__doc__)
    n = 60 if given.quick else 300
    tiny = model("tiny")
    rows = []
    for n_labels, wanted in ((2, None), (4, 0.8), (8, None)):
        for shots in SHOTS:
            right = label_maps(tiny, n, n_labels, shots)
            target = wanted if shots == 16 else None
            rows.append(share(f"{n_labels}-way label maps, {shots} shots", right, target))
    zero = next(r for r in rows if r["name"] == "4-way label maps, 0 shots")
    zero.update(target=0.25, ok=zero["low"] <= 0.25 <= zero["high"], note="at chance: the interval must hold .25")
    n = 20 if given.quick else 100
    for steps in (2, 3, 4, 5):
        problems = [word_problem(Random(f"steps/{steps}/{i}"), steps) for i in range(n)]
        for name, strategy in (
            ("direct", zero_shot),
            ("chain of thought", chain_of_thought),
            ("self-consistency of 10", lambda q: self_consistency(q, n=10)),
        ):
            answers = run([strategy(question) for question, _, _ in problems], tiny)
            right = [a.value == result for a, (_, _, result) in zip(answers, problems, strict=True)]
            rows.append(share(f"word problems, {steps} steps, {name}", right))
    finish(rows, given)


if __name__ == "__main__":
    main()
