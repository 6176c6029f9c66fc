"""Which demonstrations to show: a selector is `question -> demonstrations`, the most telling ones last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from promptlab.extraction import ANSWER_IS
from promptlab.prompt import Prompt
from promptlab.types import Example


class Chosen(NamedTuple):
    """Demonstrations in the order to show them, and how many wished-for ones did not fit the context."""

    shots: tuple[Example, ...]
    left_out: int


Selector = Callable[[str], Sequence[Example]]  # the demonstrations wished for, best first


def at_random(pool: Sequence[Example], seed: int) -> Selector:
    """All of the pool in one random order, the same for every question."""
    order = tuple(Random(f"shots/{seed}").sample(list(pool), len(pool)))
    return lambda question: order


def balanced(pool: Sequence[Example], seed: int) -> Selector:
    """All of the pool in random order, the labels taking turns, so that any number of them is balanced."""
    by_label: dict[str, list[Example]] = {}
    for example in at_random(pool, seed)(""):
        by_label.setdefault(str(example.target), []).append(example)
    turns = [(turn, i, e) for i, (_, es) in enumerate(sorted(by_label.items())) for turn, e in enumerate(es)]
    rng = Random(f"turns/{seed}")
    order: list[Example] = []
    for turn in range(max((t for t, _, _ in turns), default=-1) + 1):
        of_turn = [e for t, _, e in turns if t == turn]
        order += rng.sample(of_turn, len(of_turn))
    chosen = tuple(order)
    return lambda question: chosen


MOST_NEAREST = 32


def nearest(pool: Sequence[Example], most: int = MOST_NEAREST) -> Selector:
    """The `most` examples nearest to the question by TF-IDF cosine (Liu et al. 2021, arXiv 2101.06804, with TF-IDF in
    place of sentence embeddings); equal distances stay in the pool's order, as all do in a pool without a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(c.isalnum() or c == "_" for example in pool for c in example.input):
        first = tuple(pool[:most])
        return lambda question: first
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    matrix = vectorizer.fit_transform(e.input for e in pool)

    def select(question: str) -> Sequence[Example]:
        similarity = (matrix @ vectorizer.transform([question]).T).toarray().ravel()
        return [pool[i] for i in (-similarity).argsort(kind="stable")[:most]]

    return select


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
