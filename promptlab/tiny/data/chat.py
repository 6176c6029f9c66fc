"""What all families of documents are made of: turns of a chat, and words that mean nothing.

A family is `(rng, room) -> chat`. `room` is how many tokens are left for the document, roughly; families that can be
of any length fill some or all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from promptlab.tiny.data.world import WORDS
from promptlab.types import Message

Chat = list[Message]
Family = Callable[[Random, int], Chat]
T = TypeVar("T")

CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
ALL_WORDS = tuple(word for classes in WORDS.values() for words in classes.values() for word in words)
STEP_BY_STEP = "Let's think step by step."


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def nonsense(rng: Random, syllables: int | None = None) -> str:
    """A word that means nothing, of one to three syllables."""
    syllables = syllables or rng.choice((1, 1, 2, 2, 3))
    word = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
    return word + rng.choice(CONSONANTS) if rng.random() < 0.5 else word


def distinct(rng: Random, make: Callable[[], str], n: int) -> list[str]:
    """n different strings from make(), in the order met."""
    seen: dict[str, None] = {}
    while len(seen) < n:
        seen[make()] = None
    return list(seen)


def by_rank(rng: Random, several: Sequence[T]) -> T:
    """One of several, the k-th with a chance of 1/k (Zipf's law)."""
    return rng.choices(several, [1 / k for k in range(1, len(several) + 1)])[0]


def answers(rng: Random, ask: Callable[[], tuple[str, str]], most: int = 3) -> Chat:
    """One or a few questions of a kind, each with its answer: some prompts have worked examples, some have none."""
    turns: Chat = []
    for _ in range(rng.choice((1, 1, *range(2, most + 1)))):
        question, answer = ask()
        turns += [user(question), assistant(answer)]
    return turns
