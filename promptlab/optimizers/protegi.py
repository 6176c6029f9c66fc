"""Instructions that are edited along a criticism of what went wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from random import Random

from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta
from promptlab.optimizers.search import Search
from promptlab.optimizers.tries import Try, block, cut, drawn, failure, flawless, said, tried
from promptlab.types import Message

CRITICISM = 2_000  # characters of a criticism that are read


@optimizer
async def protegi(
    search: Search,
    rounds: int = 3,
    beam: int = 4,
    minibatch: int = 24,
    groups: int = 4,
    errors: int = 4,
    expansions: int = 8,
) -> Candidate:
    """Pryzant et al. 2023 (arXiv 2305.03495), algorithms 1 and 2: textual gradients, and a beam search along them.

    In each round every prompt of the `beam` is tried on a `minibatch` of the feed. What it got wrong is shown to the
    proposer in up to `groups` groups of at most `errors`; for each group it says what is wrong with the instruction
    (the gradient) and then writes a better one (the step). Paraphrases of the new ones and of the old fill up to
    `expansions` a prompt, and a race keeps `beam` of all. Differs: the race is on common nested items (theirs: bandits
    on items of each prompt's own); no more is written than is raced, where theirs drops at random what is too much; one
    gradient a group; a program's prompts take turns, one a round; and it ends when the best makes no mistake.
    """
    slots, pool = search.seed.slots, [search.seed]
    with search.until_spent():
        for round in range(rounds):
            slot = slots[round % len(slots)]
            items = drawn(search, minibatch, "minibatch", round)
            wrong = [[t for t in each if t.wrong] for each in await tried(search, pool, items)]
            shown = [
                (parent, group(search, of, errors, slot, round, parent.key, g))
                for parent, of in zip(pool, wrong, strict=True)
                for g in range(min(groups, expansions, len(of)))
            ]
            edits = await edited(search, shown, slot)
            copies = await paraphrased(search, pool, edits, expansions, slot)
            pool = await search.race([*pool, *edits, *copies], beam if round < rounds - 1 else 1, of=rounds - round)
            if flawless(search, pool[0]):
                break
    return pool[0]


def group(search: Search, wrong: Sequence[Try], n: int, slot: str, *key: object) -> str:
    """n of the failures, drawn, as they are shown."""
    drawn = Random(search.rng_key("group", *key)).sample(wrong, min(n, len(wrong)))
    return block(failure(each, slot) for each in drawn)


async def edited(search: Search, shown: Sequence[tuple[Candidate, str]], slot: str) -> list[Candidate]:
    """One edit for each prompt and group of failures: first what is wrong is asked, and then for what is better."""
    texts = [meta("protegi_criticise", instruction=said(each, slot), failures=failures) for each, failures in shown]
    wishes = []
    for (parent, _), text, criticism in zip(shown, texts, await search.ask(texts, "criticised"), strict=True):
        if criticism is not None and not criticism.strip():
            search.reject("a criticism is empty")
        elif criticism is not None:
            talk = (Message("user", text), Message("assistant", cut(criticism, CRITICISM)))
            wishes.append(Wish(meta("protegi_correct"), parent, "corrected", slot, before=talk))
    return await search.propose(wishes)


async def paraphrased(
    search: Search, pool: Iterable[Candidate], edits: Sequence[Candidate], expansions: int, slot: str
) -> list[Candidate]:
    """Other words for each prompt's edits and for itself, in turn, so many that it has `expansions` children in all."""
    wishes = []
    for parent in pool:
        own = [each for each in edits if each.parents == (parent.key,)]
        sources = [each for each in (*own, parent) if each.slot(slot).instruction]
        wishes += [
            Wish(meta("vary", instruction=said(source, slot)), source, "paraphrased", slot)
            for source in islice(cycle(sources), max(0, expansions - len(own)))
        ]
    return await search.propose(wishes)
