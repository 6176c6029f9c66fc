"""Who may read which examples: proposers one part, a race another, and the last comparison a third, fresh one.

The test is not here at all: an optimiser is never given it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptlab.errors import DataError, SetupError
from promptlab.prompt import Prompt
from promptlab.splits import clusters, split
from promptlab.types import Example

SHARES = (0.20, 0.40, 0.40)  # feed, race, confirm


@dataclass(frozen=True)
class Item:
    """An example by its number among those given, which is also the branch it is answered on."""

    number: int
    example: Example


@dataclass(frozen=True)
class Sections:
    """Disjoint parts of the examples: no text or group of one is in another.

    `feed` is what proposers may read and demonstrations come from; `race` gives scores only, again and again;
    `confirm` is touched once, by the last two, and stands in an order of lots, whole groups together: where the calls
    pay for some of it only, those are a sample, though the file was sorted.
    """

    feed: tuple[Item, ...]
    race: tuple[Item, ...]
    confirm: tuple[Item, ...]

    def in_order(self, seed: int, lap: int) -> list[Item]:
        """The race's items as one lap goes through them: everyone in the same order, another one in another lap."""

        return sorted(self.race, key=lambda item: lot(seed, lap, item.number))


def sections(
    examples: Sequence[Example], prompt: Prompt, seed: int, shares: tuple[float, float, float] = SHARES
) -> Sections:
    """The examples in three, classes in proportion, by their texts and not by their order.

    Raises DataError for examples that cannot be told apart into three.
    """
    # Free answers are no classes, of which each side should have some.
    texts = [replace(e, id=str(i), target=e.target if prompt.labels else "") for i, e in enumerate(examples)]
    try:
        rest, confirm = split(texts, test_share=shares[2], seed=seed)
        feed, race = split(rest, test_share=shares[1] / (shares[0] + shares[1]), seed=seed)
    except DataError as error:
        raise DataError(
            f"{len(examples)} examples cannot be divided into what proposers read, what prompts are raced on and what "
            f"the winner is confirmed on: {error}"
        ) from error
    read, raced, last = (tuple(Item(int(e.id), examples[int(e.id)]) for e in side) for side in (feed, race, confirm))
    in_lots = sorted(zip(grouped(last), last, strict=True), key=lambda each: (lot(seed, "confirm", each[0]), each[0]))
    return Sections(read, raced, tuple(item for _, item in in_lots))


def check_shares(shares: Sequence[float]) -> None:
    """Raises SetupError for shares that do not make one."""
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise SetupError(f"shares are those of feed, race and confirm, above 0 and 1 in all; got {shares!r}.")


def lot(*key: object) -> bytes:
    """A place in an order that depends on nothing but these words."""
    return hashlib.sha256("/".join(map(str, key)).encode()).digest()


def grouped(items: Sequence[Item]) -> list[int]:
    """For each item the first number of those that share its group or its text, in any chain."""
    of = clusters([item.example for item in items])
    first: dict[int, int] = {}
    return [first.setdefault(cluster, item.number) for cluster, item in zip(of, items, strict=True)]


def by_group(items: Sequence[Item], values: Sequence[float]) -> list[float]:
    """The mean value of each group of items, in the order they come: what is alike in them counts once."""
    of: dict[int, list[float]] = {}
    for group, value in zip(grouped(items), values, strict=True):
        of.setdefault(group, []).append(value)
    return [math.fsum(each) / len(each) for each in of.values()]


def looks(items: Sequence[Item], every: int) -> list[int]:
    """After how many items one may look, at least `every` more each time and never in the middle of a group."""
    of, ends = grouped(items), [0]
    for i in range(1, len(items)):
        if of[i] != of[i - 1] and i - ends[-1] >= every:
            ends.append(i)
    return [*ends[1:], len(items)]
