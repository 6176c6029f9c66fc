"""What a policy gives: a selector is `question -> demonstrations`, the most telling ones first. They are shown last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from promptlab.extraction import ANSWER_IS
from promptlab.prompt import Prompt
from promptlab.splits import text_key
from promptlab.types import Example


class Chosen(NamedTuple):
    """Demonstrations in the order to show them, and how many wished-for ones did not fit the context."""

    shots: tuple[Example, ...]
    left_out: int


Selector = Callable[[str], Sequence[Example]]  # the demonstrations wished for, best first


def fixed(order: Sequence[Example]) -> Selector:
    """These demonstrations, the same for every question, but none that is the question itself: that would be its answer
    told beforehand."""
    shots = tuple(order)
    keys = [text_key(shot.input) for shot in shots]
    known = set(keys)

    def select(question: str) -> Sequence[Example]:
        asked = text_key(question)
        return [shot for shot, key in zip(shots, keys, strict=True) if key != asked] if asked in known else shots

    return select


def at_random(pool: Sequence[Example], seed: int) -> Selector:
    """All of the pool in one random order, the same for every question."""
    return fixed(shuffled(pool, seed))


def balanced(pool: Sequence[Example], seed: int) -> Selector:
    """All of the pool in random order, the labels taking turns, so that any number of them is balanced."""
    by_label: dict[str, list[Example]] = {}
    for example in shuffled(pool, seed):
        by_label.setdefault(str(example.target), []).append(example)
    turns = [(turn, i, e) for i, (_, es) in enumerate(sorted(by_label.items())) for turn, e in enumerate(es)]
    rng = Random(f"turns/{seed}")
    order: list[Example] = []
    for turn in range(max((t for t, _, _ in turns), default=-1) + 1):
        of_turn = [e for t, _, e in turns if t == turn]
        order += rng.sample(of_turn, len(of_turn))
    return fixed(order)


def shuffled(pool: Sequence[Example], seed: int) -> list[Example]:
    return Random(f"shots/{seed}").sample(list(pool), len(pool))


def concluded(shots: Iterable[Example], prompt: Prompt) -> list[Example]:
    """The demonstrations with "The answer is X." for a target X, where it does not say so itself."""

    def conclusion(shot: Example) -> str:
        *_, reply, _ = prompt.with_shots([shot]).render("")
        return reply.content if ANSWER_IS.search(reply.content) else f"The answer is {reply.content}."

    return [replace(shot, target=conclusion(shot)) for shot in shots]


def fitting(wished: Iterable[Example], fits: Callable[[Sequence[Example]], bool]) -> Chosen:
    """The longest run of the wished-for demonstrations, best first, that fits; shown in reverse, the best one last."""
    wished = list(wished)
    low, high = 0, len(wished)
    while low < high:  # the number that fits, by bisection
        middle = (low + high + 1) // 2
        if fits(wished[:middle]):
            low = middle
        else:
            high = middle - 1
    return Chosen(tuple(reversed(wished[:low])), len(wished) - low)
