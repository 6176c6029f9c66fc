"""How candidates did on the feed, and what a proposer reads of it: cut by field, so that no text overflows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from promptlab.optimizers.candidate import ONLY, Candidate, as_text

if TYPE_CHECKING:
    from promptlab.optimizers.search import Search
    from promptlab.optimizers.sections import Item
    from promptlab.optimizers.table import Outcome

FIELD = 600  # characters that are shown of an input's field, an answer or a remark
SHOWN = 6_000  # and of all that is shown in one text; the first is shown in any case
ENOUGH = 20  # items of the race without a fault, after which there is nothing to learn from


class Try(NamedTuple):
    """An item of the feed, and how a candidate did on it the first time."""

    item: Item
    outcome: Outcome

    @property
    def wrong(self) -> bool:
        """Whether there is something to learn from: an answer that is not worth all it could be."""
        return self.outcome.score < 1 and not self.outcome.failed


def drawn(search: Search, n: int, *key: object) -> list[Item]:
    """n items of the feed, the same for the same key."""
    return Random(search.rng_key(*key)).sample(search.feed, min(n, len(search.feed)))


async def tried(search: Search, candidates: Sequence[Candidate], items: Sequence[Item]) -> list[list[Try]]:
    """How each candidate does on items of the feed; what was asked before costs nothing."""
    await search.score(candidates, items)
    return [[Try(item, search.table.outcomes(each, item)[0]) for item in items] for each in candidates]


def common(search: Search, candidates: Sequence[Candidate]) -> list[Item]:
    """The items of the race that every one of the candidates was asked: means on others are not to be compared."""
    return [i for i in search.sections.race if all(search.table.outcomes(each, i) for each in candidates)]


def flawless(search: Search, candidate: Candidate) -> bool:
    """Whether a candidate was right on all of the race's items that it has answered, and those are not few."""
    asked = [item for item in search.sections.race if search.table.answered(candidate, item)]
    return len(asked) >= min(ENOUGH, len(search.sections.race)) and search.table.mean(candidate, asked) == 1


def said(candidate: Candidate, slot: str = ONLY) -> str:
    """A candidate's instruction, for a proposer to read."""
    return candidate.slot(slot).instruction or "(none)"


def cut(text: str, most: int = FIELD) -> str:
    """A text of `most` characters: its beginning and its end, where it is longer."""
    if len(text) <= most:
        return text
    end = (most - 5) // 2
    return f"{text[: most - 5 - end]} […] {text[len(text) - end :]}"


def input_of(item: Item) -> str:
    """An input as it is shown, each of its fields cut."""
    given = item.example.input
    return cut(given) if isinstance(given, str) else "\n".join(f"{k}: {cut(str(v))}" for k, v in given.items())


def pair(item: Item) -> str:
    """An example as its input and output."""
    return f"Input: {input_of(item)}\nOutput: {cut(as_text(item.example.target))}"


def failure(each: Try, slot: str = ONLY) -> str:
    """A try, with what would have been right and what was answered instead, and what the score remarked.

    Of a program with several prompts also what the one in `slot` was asked, and what was replied to it.
    """
    outcome = each.outcome
    got = outcome.said if outcome.value is None else as_text(outcome.value)
    lines = [f"Input: {input_of(each.item)}"]
    lines += [
        f"Asked: {cut(step.asked)}\nReplied: {cut(step.said)}" for step in outcome.steps if slot and step.slot == slot
    ]
    lines += [f"Right: {cut(as_text(each.item.example.target))}", f"Got: {cut(got)}"]
    remark = outcome.feedback or outcome.why
    return "\n".join([*lines, f"Remark: {cut(remark)}"] if remark else lines)


def fitting(parts: Iterable[str], most: int = SHOWN) -> list[str]:
    """The first of the parts, so many as hold `most` characters; one in any case, cut."""
    kept: list[str] = []
    for part in parts:
        most -= len(part)
        if most < 0:
            return kept or [cut(part, most + len(part))]
        kept.append(part)
    return kept


def block(parts: Iterable[str]) -> str:
    """As many of the parts as one text has room for, one after the other."""
    return "\n".join(fitting(parts))
