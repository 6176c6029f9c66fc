"""Instructions that a model infers from examples, and variations of the best of them."""

from __future__ import annotations

from random import Random

from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta, pairs
from promptlab.optimizers.search import Search
from promptlab.optimizers.tries import said


@optimizer
async def ape(search: Search, proposals: int = 60, demos: int = 5, rounds: int = 3, keep: int = 5) -> Candidate:
    """Zhou et al. 2022 (arXiv 2211.01910), algorithm 1: forward generation, and with `rounds` > 1 its iterative form.

    `proposals` instructions, or as many as the calls suffice to race, are inferred, each from `demos` examples of its
    own draw; the best are kept by a race. Each further round (section 3.3) asks for variations of the `keep` best, in
    all one for every `rounds` of the first. Differs: candidates are raced on common items (theirs are scored on
    different random subsamples), and the winner has to beat the prompt it began with. Of several prompts each is worked
    on in turn.
    """
    slots, wishes = search.seed.slots, []
    for i in range(min(proposals, search.room(of=rounds))):
        drawn = Random(search.rng_key("induce", i)).sample(search.feed, min(demos, len(search.feed)))
        text = meta("induce", n=len(drawn), pairs=pairs(drawn))
        wishes.append(Wish(text, search.seed, "induced", slots[i % len(slots)], changes=False))
    pool = [search.seed]
    with search.until_spent():
        pool += await search.propose(wishes)
        for round in range(rounds - 1):
            pool = await search.race(pool, keep=keep, of=rounds - round)
            each = -(-len(wishes) // (rounds * len(pool)))
            turns = [(b, slots[(round + at + i) % len(slots)]) for at, b in enumerate(pool) for i in range(each)]
            varied = [
                Wish(meta("vary", instruction=said(b, slot)), b, "varied", slot)
                for b, slot in turns
                if b.slot(slot).instruction  # of none there are no variations
            ]
            pool += await search.propose(varied)
        pool = await search.race([*pool, search.seed])
    return pool[0]
