"""How much an instruction's wording matters: fifty ways to ask for the same."""

from __future__ import annotations

from random import Random

import numpy as np

from behaviours.figures import Rows, difference, share, value
from promptlab import run
from promptlab.backends.tiny import Tiny
from promptlab.strategies import zero_shot
from promptlab.tiny.data.instructions import OPERATIONS, item

OPERATION = "second"


def measure(tiny: Tiny, n: int) -> Rows:
    """The best and the worst are found on half of the lists and compared on the other: the largest of fifty noisy
    figures would be too large."""
    operation = OPERATIONS[OPERATION]
    phrasings = operation.phrasings
    fifty = [phrasings[i * len(phrasings) // 50] for i in range(50)]
    lists = [item(Random(f"organism/lists/{i}"), operation) for i in range(n)]
    programs = [zero_shot(f"{said}\n{' '.join(words)}", max_tokens=32) for said in fifty for words in lists]
    answers = run(programs, tiny)
    wanted = [operation.do(words) for words in lists] * len(fifty)
    right = np.array([value(a) == w for a, w in zip(answers, wanted, strict=True)]).reshape(len(fifty), n)
    seen, kept = right[:, : n // 2], right[:, n // 2 :]
    best, worst = int(seen.mean(1).argmax()), int(seen.mean(1).argmin())
    note = f"“{fifty[best]}” against “{fifty[worst]}”, chosen on the other half of the lists"
    return [
        share("instructions: all of 50 phrasings together", right.flatten().tolist()),
        difference("instructions: best - worst of 50 phrasings", kept[best].tolist(), kept[worst].tolist(), 0.10, note),
    ]
