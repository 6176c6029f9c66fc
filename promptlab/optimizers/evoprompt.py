"""Instructions that evolve: a model crosses and mutates them, and the fittest stay."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, get_args

from promptlab.errors import SetupError
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta, pairs
from promptlab.optimizers.search import Search
from promptlab.optimizers.tries import common, drawn, flawless, said

Algorithm = Literal["ga", "de"]


@optimizer
async def evoprompt(
    search: Search, algorithm: Algorithm = "ga", population: int = 8, generations: int = 4, demos: int = 5
) -> Candidate:
    """Guo et al. 2023 (arXiv 2309.08532), sections 3.2 and 3.3: a genetic algorithm, or differential evolution.

    "ga": parents are drawn with probability in proportion to their scores; a child is crossed from two and mutated;
    the `population` best of old and new stay. "de": each member gets a rival, made of what differs between two others,
    of the best, and of itself; the better of the two stays. Differs: the first population is the prompt, variations of
    it and instructions inferred from `demos` examples of the feed, as nobody wrote others; all of a generation are
    scored on the same items, other ones in each generation (theirs: on all of the development set); it ends when the
    best makes no mistake; a program's prompts take turns, one a generation.
    """
    if algorithm not in get_args(Algorithm):
        raise SetupError(f"The algorithm is one of {', '.join(get_args(Algorithm))}, got {algorithm!r}.")
    slots = search.seed.slots
    pool = [search.seed]
    with search.until_spent():
        pool += await begun(search, population - 1, demos, slots)
        pool = await search.race(pool, keep=population, of=generations + 2)
        for generation in range(generations):
            if len(pool) < 2 or flawless(search, pool[0]):
                break
            rng = Random(search.rng_key("generation", generation))
            slot = slots[generation % len(slots)]
            wishes = (crossed if algorithm == "ga" else differing)(search, pool, slot, rng)
            new = await search.propose(wishes)
            everyone = [*pool, *new]
            ranked = await search.race(everyone, keep=len(everyone), of=generations - generation + 1)
            pool = ranked[:population] if algorithm == "ga" else surviving(pool, new, ranked)
    with search.until_spent():
        pool = await search.race([*pool, search.seed])
    return pool[0]


async def begun(search: Search, n: int, demos: int, slots: Sequence[str]) -> list[Candidate]:
    """The first population: by turns inferred from examples and varied from the prompt, in one slot after the other."""
    wishes = []
    for i in range(n):
        slot = slots[i // 2 % len(slots)]
        if i % 2 and search.seed.slot(slot).instruction:
            wishes.append(Wish(meta("vary", instruction=said(search.seed, slot)), search.seed, "varied", slot))
            continue
        items = drawn(search, demos, "induce", i)
        text = meta("induce", n=len(items), pairs=pairs(items))
        wishes.append(Wish(text, search.seed, "induced", slot, changes=False))
    return await search.propose(wishes)


def crossed(search: Search, pool: Sequence[Candidate], slot: str, rng: Random) -> list[Wish]:
    """The genetic algorithm's children, as many as there are parents: two of those are drawn by their scores."""
    items = common(search, pool)
    fitness = [search.table.mean(each, items) + 1e-9 for each in pool]
    wishes = []
    for _ in pool:
        [first] = rng.choices(pool, fitness)
        others = [(each, f) for each, f in zip(pool, fitness, strict=True) if each is not first]
        [second] = rng.choices([each for each, _ in others], [f for _, f in others])
        text = meta("evoprompt_ga", first=said(first, slot), second=said(second, slot))
        wishes.append(Wish(text, first, "crossed", slot, (first, second)))
    return wishes


def differing(search: Search, pool: Sequence[Candidate], slot: str, rng: Random) -> list[Wish]:
    """Differential evolution's rivals, one for each member, which is its first parent."""
    wishes = []
    for own in pool:
        others = [each for each in pool if each is not own]
        first, second = rng.sample(others, 2) if len(others) > 1 else (others[0], own)
        named = {"first": first, "second": second, "best": pool[0], "own": own}
        text = meta("evoprompt_de", **{name: said(each, slot) for name, each in named.items()})
        wishes.append(Wish(text, own, "differed", slot, (own, first, second, pool[0])))
    return wishes


def surviving(pool: Sequence[Candidate], rivals: Sequence[Candidate], ranked: Sequence[Candidate]) -> list[Candidate]:
    """Of each member and its rival the better, the best first; who is not ranked (its requests failed) is worst."""
    rank = {each.key: i for i, each in enumerate(ranked)}
    rival = {each.parents[0]: each for each in rivals}
    duels = [(each, rival.get(each.key, each)) for each in pool]
    won = [min(duel, key=lambda each: rank.get(each.key, len(rank))) for duel in duels]
    return sorted(won, key=lambda each: rank.get(each.key, len(rank)))
