"""In which order to show demonstrations: the one under which the model does not say the same to everything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import permutations
from random import Random
from typing import Literal

from promptlab.errors import SetupError
from promptlab.program import Program, gather
from promptlab.prompt import Prompt
from promptlab.splits import text_key
from promptlab.strategies.likelihood import likeliest_label, normalised
from promptlab.types import Answer, Example

Over = Literal["global", "local"]


async def by_entropy(
    shots: Sequence[Example],
    prompt: Prompt,
    probes: Iterable[str],
    *,
    orders: int = 24,
    over: Over = "global",
    seed: int = 0,
    solve: Callable[[str, Prompt], Program[Answer]] = likeliest_label,
) -> tuple[Example, ...]:
    """The demonstrations in the order of highest entropy (Lu et al. 2022, arXiv 2104.08786, section 3), as shown.

    `orders` permutations, all where there are no more, are asked the `probes`, which need no labels. "global" (GlobalE)
    is the entropy of how often each answer is given; "local" (LocalE) the mean over the probes of the entropy of the
    labels' probabilities, for which `solve` has to score them. Differs: the model does not make up the probes, they are
    inputs of the task; a demonstration among them is not asked. Equal entropies: the order that was tried first, the
    given one before all.

    Cost: orders x probes answers, once, in 1 wave.
    """
    if over not in ("global", "local"):
        raise SetupError(f"over is 'global' or 'local', got {over!r}.")
    shown = {text_key(shot.input) for shot in shots}
    asked = [text for text in probes if text_key(text) not in shown]
    if not asked:
        raise SetupError("by_entropy needs inputs to try the orders on, other than the demonstrations'; got none.")
    tried = permuted(shots, orders, f"entropy/{seed}")
    answers = await gather(solve(text, prompt.with_shots(order)) for order in tried for text in asked)
    entropies = []
    for start in range(0, len(answers), len(asked)):
        those = answers[start : start + len(asked)]
        entropies.append(label_entropy(a.value for a in those) if over == "global" else _mean_entropy(those))
    return tried[entropies.index(max(entropies))]


def permuted(shots: Sequence[Example], n: int, key: str) -> list[tuple[Example, ...]]:
    """n different orders, the given one first, or all of them; drawn with `key`."""
    given = tuple(shots)
    if math.factorial(min(len(given), 12)) <= n:
        return list(permutations(given))
    rng, places = Random(key), range(len(given))
    drawn = {tuple(places): None}
    while len(drawn) < n:
        drawn[tuple(rng.sample(places, len(given)))] = None
    return [tuple(given[i] for i in order) for order in drawn]


def label_entropy(answers: Iterable[Hashable]) -> float:
    """The entropy in nats of how often each answer is given; no answer is one, too."""
    counts = Counter(answers)
    return entropy([count / counts.total() for count in counts.values()])


def entropy(shares: Iterable[float]) -> float:
    """In nats, of shares that are 1 in all; rounded, so that the order of the sum decides nothing."""
    return round(-math.fsum(p * math.log(p) for p in shares if p > 0), 12)


def _mean_entropy(answers: Sequence[Answer]) -> float:
    if any(answer.scores is None for answer in answers):
        raise SetupError("over='local' needs the labels' probabilities: let solve be likeliest_label, or say 'global'.")
    return math.fsum(entropy(normalised(list((answer.scores or {}).values()))) for answer in answers) / len(answers)
