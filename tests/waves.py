"""Prompts for the local engine."""

from random import Random

from promptlab import Message, Request

WORDS = "cough fever water clinic today 12 patient reports nausea and the of".split()


def words(seed: int, n: int) -> str:
    rng = Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n))


def request(prompt: str, **options: object) -> Request:
    return Request((Message("user", prompt),), **options)  # type: ignore[arg-type]
