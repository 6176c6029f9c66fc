"""What training takes, noted by the training loops while somebody counts: every run, those that failed among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Effort:
    """How many trainings were begun, and the tokens they read: repeats, padding and prompts count, as they take time.

    `attended` are pairs of a token and one that it may look back on, half of them in a causal model.
    """

    trainings: int = 0
    tokens: int = 0
    attended: int = 0


COUNTING: ContextVar[Effort | None] = ContextVar("promptlab_effort", default=None)


@contextmanager
def counted() -> Iterator[Effort]:
    """Counts what is trained in this context."""
    effort = Effort()
    token = COUNTING.set(effort)
    try:
        yield effort
    finally:
        COUNTING.reset(token)


def training_begins() -> None:
    if (effort := COUNTING.get()) is not None:
        effort.trainings += 1


def trained_on(rows: int, length: int) -> None:
    """A batch of so many rows of so many tokens, forward and backward."""
    if (effort := COUNTING.get()) is not None:
        effort.tokens += rows * length
        effort.attended += rows * length * length
