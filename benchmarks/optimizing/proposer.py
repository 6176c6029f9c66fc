"""The bundled model as a proposer: does APE find back what separates a usual phrasing from the best of fifty?"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
from behaviours.figures import Rows, mean, value
from harness import row

from promptlab import Answer, Example, Prompt, run
from promptlab.backends.tiny import Tiny
from promptlab.optimizers import ape
from promptlab.program import Program
from promptlab.strategies import zero_shot
from promptlab.tiny.data.instructions import OPERATIONS, Operation, item

EXAMPLES, TESTED = 1_500, 500
WORTHWHILE = 0.05  # between the best and the median phrasing: below it there is nothing to recover


def lists(name: str, operation: Operation, n: int) -> list[Example]:
    """n different lists with what the operation makes of them."""
    rng = Random(f"optimizers/{name}")
    drawn: dict[str, str] = {}
    while len(drawn) < n:
        words = item(rng, operation)
        drawn.setdefault(" ".join(words), operation.do(words))
    return [Example(text, target) for text, target in drawn.items()]


@lru_cache(1)
def tiny() -> Tiny:
    return Tiny()


def solve(question: str, prompt: Prompt) -> Program[Answer]:
    return zero_shot(question, prompt, max_tokens=32)


def right(prompt: Prompt, examples: list[Example], answered: Callable[..., Program[Answer]] = solve) -> list[bool]:
    answers = run([answered(e.input, prompt) for e in examples], tiny())
    return [value(a) == e.target for a, e in zip(answers, examples, strict=True)]


def recovered(name: str, quick: bool) -> tuple[float, float, float]:
    """On lists nothing was chosen by: the accuracy of the median phrasing, of what APE makes of it, and of the best."""
    operation = OPERATIONS[name]
    examples = lists(name, operation, EXAMPLES + TESTED)
    given, held = examples[:EXAMPLES], examples[EXAMPLES : EXAMPLES + (60 if quick else TESTED)]
    phrasings = operation.phrasings
    fifty = (
        [Prompt(phrasings[i * len(phrasings) // 50]) for i in range(50)]
        if len(phrasings) > 50
        else [Prompt(said) for said in phrasings]
    )
    ranked = sorted(fifty, key=lambda prompt: np.mean(right(prompt, given[: 30 if quick else 300])))
    median, best = ranked[len(ranked) // 2], ranked[-1]
    found = run(
        ape(
            median,
            given,
            solve=solve,
            calls=600 if quick else 10_000,
            proposals=20 if quick else 80,
            rounds=2,
            temperature=1.0,
        ),
        tiny(),
    )
    return tuple(float(np.mean(right(prompt, held))) for prompt in (median, found, best))  # type: ignore[return-value]


def measure(quick: bool) -> Rows:
    """The share of (best - median) that is recovered, over the operations where there is something to recover."""
    names = list(OPERATIONS)[:: 6 if quick else 1]
    each = {name: recovered(name, quick) for name in names}
    open_to = {name: (m, f, b) for name, (m, f, b) in each.items() if b - m >= WORTHWHILE}
    told = "; ".join(f"{name} {m:.2f} → {f:.2f} of {b:.2f}" for name, (m, f, b) in each.items())
    if not open_to:
        return [row("APE with the bundled model as proposer: recovered", None, "of best - median", note=told)]
    total = sum(f - m for m, f, _ in open_to.values()) / sum(b - m for m, _, b in open_to.values())
    rows = [
        row(
            "APE with the bundled model as proposer: recovered of best - median of 50 phrasings",
            total,
            "share",
            n=len(open_to),
            target=0.70,
            note=told,
        )
    ]
    rows.append(
        mean(
            "the same, the mean of the operations' shares", [(f - m) / (b - m) for m, f, b in open_to.values()], "share"
        )
    )
    return rows
