"""Repetition, and recall by key: what makes a model look back at what it has read.

Exact repetitions are what breaks the plateau before in-context learning (Bratulic et al. 2025, arXiv 2501.06256).
"""

from __future__ import annotations

from random import Random

from promptlab.tiny.data.chat import ALL_WORDS, Chat, assistant, distinct, nonsense, user
from promptlab.tiny.data.label_maps import label_names


def repetition(rng: Random, room: int) -> Chat:
    """A string of random words, shown two to four times or copied on request."""
    words = [rng.choice(ALL_WORDS) if rng.random() < 0.5 else nonsense(rng) for _ in range(rng.randint(3, 14))]
    text = " ".join(words)
    if rng.random() < 0.5:
        return [user(text), assistant(text)]
    return [user(" ".join([text] * rng.randint(2, 4)))]


def recall(rng: Random, room: int) -> Chat:
    """Key and value pairs, then questions for the values of some keys."""
    n = rng.randint(3, 12)
    keys = distinct(rng, lambda: nonsense(rng) if rng.random() < 0.5 else rng.choice(ALL_WORDS), n)
    values = label_names(rng, n) if n <= 8 else distinct(rng, lambda: nonsense(rng), n)
    chat = [user(", ".join(f"{k} = {v}" for k, v in zip(keys, values, strict=True)) + f". {keys[0]}")]
    chat.append(assistant(values[0]))
    for _ in range(rng.randint(2, 8)):
        i = rng.randrange(n)
        chat += [user(keys[i]), assistant(values[i])]
    return chat
