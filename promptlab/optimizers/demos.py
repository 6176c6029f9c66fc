"""Which demonstrations, how many and in which order: a search that changes nothing else, and asks nobody to propose."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.errors import SetupError
from promptlab.optimizers.bootstrap import label_turns
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.search import Search
from promptlab.optimizers.table import Outcome
from promptlab.splits import text_key
from promptlab.strategies.shots import label_entropy, vote_k
from promptlab.strategies.shots.entropy import permuted
from promptlab.types import Example


@optimizer
async def demos(
    search: Search,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    draws: int = 4,
    keep: int = 3,
    orders: int = 8,
    probes: int = 12,
) -> Candidate:
    """Sets of each of `ks` labelled demonstrations are raced: `draws` with the labels taking turns, and vote-k's (Su et
    al. 2022, arXiv 2209.01975); then the orders of the `keep` best.

    Of `orders` permutations of each the two of highest entropy join the race (GlobalE of Lu et al. 2022, arXiv
    2104.08786: the entropy of what is answered to `probes` inputs of the feed, whose labels are not looked at), and
    where answers are free, so that all of them differ, the first two. More than fit the model's context are dropped as
    failures. Whether contextual calibration helps (Zhao et al. 2021) is told by a second run, with `solve` as
    `promptlab.strategies.likelihood.calibrated`.
    """
    if not ks or min(ks) < 1:
        raise SetupError(f"ks are numbers of demonstrations, 1 or more each; got {list(ks)!r}.")
    if len(search.seed.slots) > 1:
        raise SetupError(
            "demos shows labelled examples, and of a program's several prompts none has any: take bootstrap."
        )
    examples = [item.example for item in search.feed]
    sizes = sorted({min(k, len(examples) - 1) for k in ks})
    central = list(vote_k(examples, max(sizes))(""))
    pool = [search.seed]
    pool += search.add(search.seed.showing(central[:k][::-1], "vote-k") for k in sizes if k <= len(central))
    for i in range(draws):
        drawn = [label_turns(search, search.feed, "draw", k, i)[:k] for k in sizes]
        pool += search.add(search.seed.showing(shots[::-1], "balanced") for shots in drawn)
    best = await search.race(pool[: search.room(of=2)], keep=min(keep, len(pool)), of=2)
    for each in best[:]:
        best += await ordered(search, each, orders, probes)
    best = [search.seed, *best]
    [winner] = await search.race(best[: search.room()])
    return winner


async def ordered(search: Search, best: Candidate, orders: int, probes: int, keep: int = 2) -> list[Candidate]:
    """The `keep` orders of a candidate's demonstrations under which the answers to the probes differ most."""
    shots: tuple[Example, ...] = best.slot().shots
    tried = permuted(shots, orders, search.rng_key("order", best.key))[:orders]
    made = search.add(best.showing(order, "order") for order in tried[1:])
    shown = {text_key(shot.input) for shot in shots}
    items = [item for item in search.feed if text_key(item.example.input) not in shown][:probes]
    cost = len(made) * len(items) * search.each * search.table.repeats
    if not best.slot().labels or not items or cost > search.left // 4:
        return made[:keep]
    outcomes = await search.score(made, items)
    entropies = {each.key: answered(each_outcomes) for each, each_outcomes in zip(made, outcomes, strict=True)}
    return sorted(made, key=lambda each: -entropies[each.key])[:keep]


def answered(outcomes: Sequence[Outcome]) -> float:
    return label_entropy(str(outcome.value) for outcome in outcomes)
