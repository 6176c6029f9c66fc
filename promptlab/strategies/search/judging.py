"""Values read from what a model says: verdicts of one state, votes among several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from promptlab.errors import ModelError
from promptlab.program import Prompted, attempt, sample

T = TypeVar("T")

VERDICTS = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}  # as in the paper's code for Game of 24
CHOICE = re.compile(r"best choice(?: is)?\D{0,20}?(\d+)", re.IGNORECASE)


def verdict(text: str, words: Mapping[str, float] = VERDICTS) -> float | None:
    """The value of the word that the last line with any of them says; None if there is none, or several.

    "unlikely" and "not sure" say none of them. The paper's code wants the last line to be the word and nothing else,
    and lost 11.7 % of its samples so.
    """
    word = re.compile(rf"(?<!not )(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])", re.IGNORECASE)
    for line in reversed(text.splitlines()):
        if found := {each.lower() for each in word.findall(line)}:
            return words[found.pop()] if len(found) == 1 else None
    return None


async def mean_verdict(
    prompt: Prompted, n: int, read: Callable[[str], float | None] = verdict, **options: Any
) -> float | None:
    """The mean of n samples' values. What cannot be read is asked once more, then left out; None if nothing is left.

    The paper adds them up, so that an unread sample counts as 0.
    """
    found = await readings(prompt, n, read, **options)
    return fmean(found) if found else None


async def readings(prompt: Prompted, n: int, read: Callable[[str], T | None], **options: Any) -> list[T]:
    """What can be read of n samples, as many as cannot being drawn once more. Raises the first draw's ModelError."""
    found = [read(reply.text) for reply in await sample(prompt, n, **options)]
    if missing := found.count(None):
        again = await attempt(sample(prompt, missing, **options))
        found += [] if isinstance(again, ModelError) else [read(reply.text) for reply in again]
    return [each for each in found if each is not None]


def choice(text: str, n: int) -> int | None:
    """Which of n, counted from 1, a text says is best, where it says so last; None if it names none of them.

    "The best choice is 10" is 10, and "… is 2. It has 4 …" is 2: the paper's own reading takes the last digit in the
    text, so 0 and 4.
    """
    found = [int(each) for each in CHOICE.findall(text)]
    return found[-1] if found and 1 <= found[-1] <= n else None


async def votes(prompt: Prompted, n_choices: int, n: int, **options: Any) -> list[float | None]:
    """How many of n votes each choice has; votes that cannot be read are asked once more. None for all if none can."""
    counted = Counter(await readings(prompt, n, lambda text: choice(text, n_choices), **options))
    return [float(counted[i]) if counted else None for i in range(1, n_choices + 1)]


def numbered(texts: Sequence[str]) -> str:
    return "\n\n".join(f"Choice {i}:\n{text}" for i, text in enumerate(texts, 1))
