"""What training takes, noted by the training loops while somebody counts: every run, those that failed among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Effort:
    """How many trainings were begun, and the tokens they read: repeats, padding and prompts count, as they take time.

    `attended` are pairs of a token and one that it may look back on, half of them in a causal model. `read_tokens` and
    `read_attended` are those of tokens that a training only reads or writes: of a reference, of PPO's replies.
    `differentiated` is of how many weights a gradient is made, the most in one training; 0 where that is not told.
    """

    trainings: int = 0
    tokens: int = 0
    attended: int = 0
    read_tokens: int = 0
    read_attended: int = 0
    differentiated: int = 0


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


def training_begins(differentiated: int = 0) -> None:
    if (effort := COUNTING.get()) is not None:
        effort.trainings += 1
        effort.differentiated = max(effort.differentiated, differentiated)


def trained_on(rows: int, length: int) -> None:
    """A batch of so many rows of so many tokens, forward and backward."""
    if (effort := COUNTING.get()) is not None:
        effort.tokens += rows * length
        effort.attended += rows * length * length


def read_only(rows: int, length: int) -> None:
    """So many rows of so many tokens, forward and not backward."""
    if (effort := COUNTING.get()) is not None:
        effort.read_tokens += rows * length
        effort.read_attended += rows * length * length
