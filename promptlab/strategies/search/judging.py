"""Values read from what a model says: verdicts of one state, votes among several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from promptlab.errors import ModelError
from promptlab.extraction import CLAUSE, DENIED
from promptlab.program import Prompted, attempt, sample

T = TypeVar("T")

VERDICTS = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}  # as in the paper's code for Game of 24
# "… among the 5 is 2", "… is not 1 but 2", and "…: 2" say 2.
CHOICE = re.compile(
    r"best choice(?: (?:among|from|of|out of)\b[^.:\n]{0,60}?(?:\b(?:is|be)\b|:)|(?! (?:among|from|of|out of)\b))"
    r"(?: is)?(?: not\b\D{0,20}\d+\D{0,20}?\bbut\b)?\D{0,20}?(\d+)",
    re.IGNORECASE,
)


def verdict(text: str, words: Mapping[str, float] = VERDICTS) -> float | None:
    """The value of the word that the last line with any of them says; None if there is none, or several, or its clause
    denies it.

    "unlikely" is none of them, and "we can't be sure" cannot be read. The paper's code wants the last line to be the
    word and nothing else, and lost 11.7 % of its samples so.
    """
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])", re.IGNORECASE)
    for line in reversed(text.replace("*", "").splitlines()):
        if found := list(word.finditer(line)):
            said = {each[1].lower() for each in found}
            return words[said.pop()] if len(said) == 1 and not any(map(denied, found)) else None
    return None


def denied(found: re.Match[str]) -> bool:
    """Whether what a match has found is denied by what its clause says before it."""
    return DENIED.search(found.string, max(0, found.start(1) - CLAUSE), found.start(1)) is not None


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
    """Which of n, counted from 1, a text says is best, where it says so last; None if it names none of them, or only
    says what is not the best.

    "The best choice is 10" is 10, and "… is 2. It has 4 …" is 2: the paper's own reading takes the last digit in the
    text, so 0 and 4.
    """
    found = [int(each[1]) for each in CHOICE.finditer(text.replace("*", "")) if not denied(each)]
    return found[-1] if found and 1 <= found[-1] <= n else None


async def votes(prompt: Prompted, n_choices: int, n: int, **options: Any) -> list[float | None]:
    """How many of n votes each choice has; votes that cannot be read are asked once more. None for all if none can."""
    counted = Counter(await readings(prompt, n, lambda text: choice(text, n_choices), **options))
    return [float(counted[i]) if counted else None for i in range(1, n_choices + 1)]


def numbered(texts: Sequence[str]) -> str:
    return "\n\n".join(f"Choice {i}:\n{text}" for i, text in enumerate(texts, 1))
