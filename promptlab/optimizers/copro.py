"""Instructions rewritten from their own text and scores alone, and the words that the answer follows on."""

from __future__ import annotations

from dataclasses import replace

from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.opro import ascending, by_score, sample_size, scorable, settled
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, instruction_in, meta, wrong_with
from promptlab.optimizers.search import Search
from promptlab.optimizers.tries import drawn, said

PREFIX = 60  # characters of the words after an input


@optimizer
async def copro(
    search: Search, breadth: int = 8, depth: int = 3, prefixes: int = 4, history: int = 10, finalists: int = 6
) -> Candidate:
    """COPRO of DSPy (Khattab et al. 2023, arXiv 2310.03714): coordinate ascent over a program's instructions.

    First `breadth` rewritings of each prompt's instruction, then, `depth` - 1 times, as many after reading the
    `history` best so far with their scores, ascending; no example is shown to anyone. At last `prefixes` texts to put
    after the input of the best, before its answer. Differs: as `opro` does, of which it is a variant that needs no
    examples to read; and the words after the input are looked for once there is an instruction, not along with it.
    """
    slots, ranked, half = search.seed.slots, [search.seed], search.left // 2
    items = drawn(search, sample_size(search, (breadth * depth + prefixes) * len(slots)), "scored on")
    with search.until_spent():
        await search.score(ranked, items)
        for turn in range(depth):
            for slot in slots:
                best = ranked[0]
                text = meta("copro_propose", instruction=said(best, slot))
                if turn:
                    text = meta("copro_improve", history=ascending(search, ranked[:history], items, slot))
                n = scorable(search, breadth, items, half)
                new = await search.propose([Wish(text, best, "improved", slot)] * n)
                await search.score(new, items)
                ranked = by_score(search, [*ranked, *new], items)
            if settled(search, ranked, items):
                break
        for slot in () if settled(search, ranked, items) else slots:
            new = await prefixed(search, ranked[0], slot, scorable(search, prefixes, items, half))
            await search.score(new, items)
            ranked = by_score(search, [*ranked, *new], items)
    with search.until_spent():
        ranked = await search.race([*ranked[:finalists], search.seed])
    return ranked[0]


async def prefixed(search: Search, best: Candidate, slot: str, n: int) -> list[Candidate]:
    """A candidate with other words between the input and its answer, up to n times."""
    text = meta("copro_prefix", instruction=said(best, slot))
    prompt, found = best.slot(slot), []
    for reply in await search.ask([text] * n, "prefixed"):
        words = instruction_in(reply or "")
        why = wrong_with(words, Wish(text, best, "prefixed", slot), search)
        if why is None and (len(words) > PREFIX or "\n" in words):
            why = f"it is no line of {PREFIX} characters"
        if why is None:
            found.append(best.with_prompt(replace(prompt, frame=(prompt.frame[0], f"\n{words}")), "prefixed", slot))
        elif reply is not None:
            search.reject(why)
    return search.add(found)
