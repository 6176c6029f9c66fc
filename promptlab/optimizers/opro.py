"""Instructions that a model writes after reading those tried before, with their scores."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta, pairs
from promptlab.optimizers.search import LEAST, TRIES, Search
from promptlab.optimizers.sections import Item
from promptlab.optimizers.tries import cut, drawn, fitting, said


@optimizer
async def opro(
    search: Search, steps: int = 6, proposals: int = 8, history: int = 20, exemplars: int = 3, finalists: int = 8
) -> Candidate:
    """Yang et al. 2023 (arXiv 2309.03409), section 4: the model as the optimiser, its own past as the gradient.

    In each of the `steps` the proposer reads the `history` best instructions with their scores, ascending, and some
    `exemplars`, and writes `proposals` new ones. Differs: scores are those on one sample of the feed, the same for all
    and as large as half of the calls pay for (theirs: all of the training set), and where they pay for too few, less is
    proposed; the `finalists` best are then raced, for the other half, on items that no score was shown of; a program's
    prompts take turns, one a step; and it ends early when nothing that was tried scores at all, or when one is right on
    all of the sample.
    """
    slots, ranked, half = search.seed.slots, [search.seed], search.left // 2
    items = drawn(search, sample_size(search, steps * proposals), "scored on")
    with search.until_spent():
        await search.score(ranked, items)
        for step in range(steps):
            slot, best = slots[step % len(slots)], ranked[0]
            shown = pairs(drawn(search, exemplars, "exemplars", step))
            text = meta("opro_improve", history=ascending(search, ranked[:history], items, slot), pairs=shown)
            n = scorable(search, proposals, items, half)
            new = await search.propose([Wish(text, best, "improved", slot)] * n)
            await search.score(new, items)
            ranked = by_score(search, [*ranked, *new], items)
            if settled(search, ranked, items):
                break
    with search.until_spent():
        ranked = await search.race([*ranked[:finalists], search.seed])
    return ranked[0]


def sample_size(search: Search, candidates: int) -> int:
    """Items that so many candidates can be asked, and be proposed, for half of the calls that are left."""
    each = (search.left // 2 - candidates) // ((candidates + 1) * search.each * search.table.repeats)
    return max(LEAST, each)


def scorable(search: Search, n: int, items: Sequence[Item], kept: int) -> int:
    """How many of n proposals can be paid for and scored on the items, `kept` calls being left for the race. Raises
    Over where none can."""
    each = 1 + len(items) * search.each * search.table.repeats
    search.need(kept + each, "a proposal that is scored and raced")
    return min(n, (search.left - kept) // each)


def by_score(search: Search, candidates: Sequence[Candidate], items: Sequence[Item]) -> list[Candidate]:
    """The best on the items first; of equals the shorter, then the older."""
    return sorted(candidates, key=lambda each: (-search.table.mean(each, items), each.length))


def settled(search: Search, ranked: Sequence[Candidate], items: Sequence[Item]) -> bool:
    """Whether scores have nothing more to tell: the best is right on all the items, or many are on none."""
    best = search.table.mean(ranked[0], items)
    return best == 1 or (best == 0 and len(ranked) > 2 * TRIES)


def ascending(search: Search, best: Sequence[Candidate], items: Sequence[Item], slot: str) -> str:
    """Instructions with their scores, the best of them last: as many of the best as there is room for."""
    scores: dict[str, float] = {}
    for each in best:  # the best first; of those that say the same in this slot, the best counts
        scores.setdefault(cut(said(each, slot), 1_000), search.table.mean(each, items))
    tried = fitting(f"Instruction: {text}\nScore: {score * 100:.0f}" for text, score in scores.items())
    return "\n\n".join(reversed(tried))
