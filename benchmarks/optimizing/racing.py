"""How many calls it takes to pick a good prompt out of many, beside the ways of APE and ProTeGi, on the same tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from harness import row

from optimizing.worlds import World
from promptlab import run
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.search import Search

Pick = Callable[[World, int, int], int]  # (world, calls, seed) -> which prompt
BUDGET = 2_048  # calls of ProTeGi's selection in one round, as shipped: 32 examples x 8 prompts x 8 times
SHARES = (0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.75, 1.0)


def halving(world: World, calls: int, seed: int) -> int:
    """Ours: the race of every optimiser here, by itself."""

    async def raced() -> Candidate:
        search = Search("race", world.prompts[0], world.items, calls=10 * calls, seed=seed, shares=(0.05, 0.9, 0.05))
        search.calls, search.reserved = calls, 0
        candidates = [search.seed, *(search.seed.with_prompt(prompt, "given") for prompt in world.prompts[1:])]
        [best] = await search.race(candidates)
        assert search.spent <= calls
        return best

    return int(run(raced(), world.model()).slot().instruction.split()[1])


def ucb(world: World, calls: int, seed: int, c: float = 1.0) -> int:
    """ProTeGi's default bandit (Pryzant et al. 2023, algorithm 3): 8 prompts at a time, 32 fresh examples each."""
    rng = np.random.default_rng(seed)
    K, n = world.right.shape
    pulls, won = np.zeros(K), np.zeros(K)
    for t in range(1, calls // (8 * 32) + 1):
        bound = np.where(pulls == 0, np.inf, won / np.maximum(pulls, 1) + c * np.sqrt(np.log(t) / np.maximum(pulls, 1)))
        for i in np.lexsort((rng.random(K), -bound))[:8]:
            examples = rng.choice(n, 32, replace=False)
            pulls[i] += 32
            won[i] += world.right[i, examples].sum()
    return int(np.argmax(np.where(pulls == 0, -1, won / np.maximum(pulls, 1))))


def uniform(world: World, calls: int, seed: int) -> int:
    """APE's scoring: the same number of examples for every prompt, drawn for each by itself."""
    rng = np.random.default_rng(seed)
    K, n = world.right.shape
    each = min(n, calls // K)
    return int(np.argmax([world.right[i, rng.choice(n, each, replace=False)].mean() for i in range(K)]))


def regret(pick: Pick, worlds: Sequence[World], calls: int) -> np.ndarray:
    """How much better the best prompt truly is than the one picked, in points, in each world."""
    picked = [pick(world, calls, seed) for seed, world in enumerate(worlds)]
    return 100 * np.array([w.truth.max() - w.truth[i] for w, i in zip(worlds, picked, strict=True)])


def rows(name: str, worlds: Sequence[World]) -> list[dict[str, object]]:
    """The share of their calls with which ours comes to a regret that is no larger, and the regrets at all of them."""
    found = []
    ours = {share: regret(halving, worlds, int(share * BUDGET)) for share in SHARES}
    for rival, pick, target in (
        ("ProTeGi's UCB", ucb, 0.50),
        ("APE's uniform scoring", uniform, 0.35),
    ):
        theirs = regret(pick, worlds, BUDGET)
        enough = [share for share in SHARES if ours[share].mean() <= theirs.mean()]
        note = (
            f"regret {theirs.mean():.2f} points with {BUDGET:,} calls; ours {ours[enough[0]].mean():.2f}"
            if enough
            else ""
        )
        share = enough[0] if enough else None
        found.append(
            row(
                f"{name}: calls to {rival}'s regret",
                share,
                "of its calls",
                n=len(worlds),
                target=target,
                at_most=True,
                note=note,
            )
        )
        found[-1]["low"], found[-1]["high"] = bootstrapped(partial(smallest, ours), theirs)
    full = ours[1.0]
    found.append(row(f"{name}: regret of ours with {BUDGET:,} calls", float(full.mean()), "points", n=len(worlds)))
    return found


def smallest(ours: dict[float, np.ndarray], theirs: np.ndarray, draw: np.ndarray) -> float:
    enough = [share for share in SHARES if ours[share][draw].mean() <= theirs[draw].mean()]
    return enough[0] if enough else 1.0


def bootstrapped(of: Callable[[np.ndarray, np.ndarray], float], theirs: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of that share over worlds."""
    rng = np.random.default_rng(0)
    draws = [of(theirs, rng.integers(len(theirs), size=len(theirs))) for _ in range(500)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
