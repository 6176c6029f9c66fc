"""Instructions that a model writes after reflecting on tries, and a pool of all that is best at something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random

from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.proposing import Wish, meta
from promptlab.optimizers.search import LEAST, Search
from promptlab.optimizers.sections import Item
from promptlab.optimizers.tries import common, drawn, failure, fitting, flawless, said, tried


@optimizer
async def gepa(search: Search, steps: int = 200, minibatch: int = 4, pareto: int = 24, merges: int = 3) -> Candidate:
    """Agrawal et al. 2025 (arXiv 2507.19457), algorithms 1 and 2: reflection, and a Pareto front over single items.

    In each step a parent is drawn from those of the pool that lead on some item, the more items the likelier; the
    proposer reads how it did on a `minibatch` of the feed, with the remarks of the score, and rewrites one of its
    prompts, which take turns. A child that does better on the same minibatch is asked the race's first items, `pareto`
    of them, the same for all, and joins the pool. After that, up to `merges` times, two of the front's lineages are
    joined prompt by prompt. Differs: steps take half of the calls, and the winner is raced for with the other half
    (theirs: the best mean over the items that parents were chosen on); of candidates that lead on the same items the
    newest stays; a merged child passes the same gate as others, no worse being enough.
    """
    slots, pool, merged = search.seed.slots, [search.seed], set[str]()
    half = search.left // 2
    n = max(LEAST, min(pareto, half // (8 * search.each * search.table.repeats)))
    front = search.sections.in_order(search.random_seed, 0)[:n]
    joined = False  # whether the last step found a child: then a merge is tried
    with search.until_spent():
        await search.score(pool, front)
        for step in range(steps):
            if search.left <= half or flawless(search, pool[-1]):
                break
            items = drawn(search, minibatch, "minibatch", step)
            child = await mended(search, pool, items, merged) if joined and len(merged) < merges else None
            child = child or await reflected(search, pool, items, slots[step % len(slots)], step)
            if joined := child is not None:
                await search.score([child], front)
                pool.append(child)
    pool.sort(key=lambda each: -search.table.mean(each, front))
    with search.until_spent():
        pool = await search.race(pool)
    return pool[0]


async def reflected(
    search: Search, pool: Sequence[Candidate], items: Sequence[Item], slot: str, step: int
) -> Candidate | None:
    """A child that does better than its parent on the items; None where there is nothing to learn, or it does not."""
    able, led = zip(*leaders(search, pool), strict=True)
    [parent] = Random(search.rng_key("parent", step)).choices(able, led)
    [tries] = await tried(search, [parent], items)
    if not any(each.wrong for each in tries):
        return None
    told = "\n\n".join(fitting(failure(each, slot) for each in tries))
    text = meta("gepa_reflect", instruction=said(parent, slot), tries=told)
    for child in await search.propose([Wish(text, parent, "reflected", slot)]):
        await search.score([child], items)
        if search.table.mean(child, items) > search.table.mean(parent, items):
            return child
    return None


def leaders(search: Search, pool: Sequence[Candidate]) -> list[tuple[Candidate, int]]:
    """Who is best, alone or with others, on items that all were asked, and on how many; oldest first.

    Whoever leads only where another one does too is left out: the worst on average first, of equals the oldest.
    """
    items = common(search, pool)
    best = {item.number: max(search.table.on(each, item) for each in pool) for item in items}
    led = {each.key: {i.number for i in items if search.table.on(each, i) == best[i.number]} for each in pool}
    alive = list(pool)
    for each in sorted(pool, key=lambda each: search.table.mean(each, items)):
        others = set().union(*(led[other.key] for other in alive if other is not each))
        if len(alive) > 1 and led[each.key] <= others:
            alive.remove(each)
    return [(each, len(led[each.key])) for each in alive]


async def mended(search: Search, pool: Sequence[Candidate], items: Sequence[Item], done: set[str]) -> Candidate | None:
    """A child joined of two leaders' lineages that is no worse than either on the items; `done` are those tried."""
    able = [each for each, _ in leaders(search, pool)]
    for a, b in combinations(able, 2):
        child = joint(search, a, b)
        if child is None or child.key in search.known:
            continue
        search.add([child])
        done.add(child.key)
        await search.score([a, b, child], items)
        if search.table.mean(child, items) >= max(search.table.mean(each, items) for each in (a, b)):
            return child
        return None
    return None


def joint(search: Search, a: Candidate, b: Candidate) -> Candidate | None:
    """Two candidates in one, slot by slot what was changed since their last common ancestor; both changed: a's, if its
    mean on the items of both is no lower, else b's. None for relatives, strangers, and where nothing comes of it."""
    of_a, of_b = ancestors(search, a), ancestors(search, b)
    shared = [key for key in search.known if key in of_a and key in of_b]
    if len(a.slots) < 2 or a.key in of_b or b.key in of_a or not shared:
        return None
    origin, items = search.known[shared[-1]], common(search, [a, b])
    better, other = (a, b) if search.table.mean(a, items) >= search.table.mean(b, items) else (b, a)
    prompts = {s: (other if better.slot(s) == origin.slot(s) else better).slot(s) for s in a.slots}
    child = Candidate(prompts, (a.key, b.key), "merged")
    return None if child.key in (a.key, b.key) else child


def ancestors(search: Search, candidate: Candidate) -> set[str]:
    """The keys of all that a candidate comes from."""
    found: set[str] = set()
    todo = list(candidate.parents)
    while todo:
        key = todo.pop()
        if key in search.known and key not in found:
            found.add(key)
            todo += search.known[key].parents
    return found
