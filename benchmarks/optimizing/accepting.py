"""What is accepted when there is nothing to accept, what is found when there is, whether reported intervals hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from behaviours.figures import Rows
from harness import row

from optimizing import limit
from optimizing.worlds import World, logit, world
from promptlab import run
from promptlab.compare.statistics import paired_difference, resample, wilson
from promptlab.optimizers import pool
from promptlab.prompt import Prompt

ALPHA = 0.05
PROMPTS = 31  # the one to improve, and 30 candidates
ITEMS = 400  # labelled examples of a run
TESTED = 200  # test items, which no optimiser is given
CALLS = 1_500


def equal(seed: int) -> World:
    """Prompts that are all right on 65 of 100 items: whatever looks better is luck."""
    return world(seed, logit(np.full(PROMPTS, 0.65)), ITEMS + TESTED)


def shuffled_labels(seed: int) -> World:
    """Prompts of different worth whose labels were dealt out anew: each is right where chance (one in two) has it."""
    rng = np.random.default_rng([seed, 7])
    return World(rng.random((PROMPTS, ITEMS + TESTED)) < 0.5, np.full(PROMPTS, 0.5))


def by_group(seed: int) -> World:
    """Equal prompts, each of which is right on whole groups of ten items or on none of them, group behind group."""
    rng = np.random.default_rng([seed, 11])
    right = (rng.random((PROMPTS, (ITEMS + TESTED) // 10)) < 0.5).repeat(10, axis=1)
    return World(right, np.full(PROMPTS, 0.5), group_size=10)


def planted(seed: int, items_sd: float, own_sd: float) -> World:
    """One prompt among 30 equal ones that is right on 10 more of 100 items."""
    accuracy = np.full(PROMPTS, 0.65)
    accuracy[1 + seed % (PROMPTS - 1)] = 0.75
    return world(seed, logit(accuracy), ITEMS + TESTED, items_sd, own_sd)


def mixed(seed: int) -> World:
    """Prompts some of which are better than the one to improve."""
    rng = np.random.default_rng([seed, 1])
    return world(seed, logit(np.clip(rng.normal(0.65, 0.06, PROMPTS), 0.3, 0.95)), ITEMS + TESTED)


def ours(made: World, seed: int, test: str = "exact") -> tuple[int, bool]:
    """The prompt that the optimiser `pool` ends with, and whether it replaced the first."""
    seen = replace(made, right=made.right[:, :ITEMS])
    texts = [prompt.instruction for prompt in made.prompts]
    program = pool(Prompt(texts[0]), seen.items, instructions=texts[1:], calls=CALLS, seed=seed, test=test, alpha=ALPHA)
    found = run(program, seen.model())
    return int(found.instruction.split()[1]), found.found.accepted


def apes(made: World, seed: int) -> bool:
    """APE keeps the highest mean of 20 examples, drawn for each prompt by itself."""
    rng = np.random.default_rng(seed)
    means = [row[rng.choice(ITEMS, 20, replace=False)].mean() for row in made.right]
    return bool(np.argmax(means) != 0)


def gepas(made: World, seed: int) -> bool:
    """GEPA lets a child in that wins more of 3 examples than its parent, and returns the best mean of the pool on a
    validation set, here of 100."""
    rng = np.random.default_rng(seed)
    val, train = np.split(rng.permutation(ITEMS), [100])
    kept = [0]
    for i in range(1, PROMPTS):
        three = rng.choice(train, 3, replace=False)
        parent = kept[int(rng.integers(len(kept)))]
        if made.right[i, three].sum() > made.right[parent, three].sum():
            kept.append(i)
    return max(kept, key=lambda i: (made.right[i, val].mean(), -i)) != 0


def textgrads(made: World, seed: int) -> bool:
    """TextGrad takes each of 12 rewrites whose mean on 100 validation items is not lower than that before it."""
    val = np.random.default_rng(seed).choice(ITEMS, 100, replace=False)
    now = 0
    for i in range(1, 13):
        if made.right[i, val].mean() >= made.right[now, val].mean():
            now = i
    return now != 0


def shares(name: str, kept: Sequence[bool], target: float | None, at_most: bool, note: str = "") -> dict[str, Any]:
    p = float(np.mean(kept))
    low, high = wilson(p, len(kept))
    return row(name, p, "of runs", low=low, high=high, n=len(kept), target=target, at_most=at_most, note=note)


def nothing_to_find(runs: int) -> Rows:
    """How often something is accepted although no prompt is better. Ours is asked to stay within alpha + 2 s.e."""
    bound = ALPHA + 2 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    rows = []
    for name, make in (
        ("all prompts equal", equal),
        ("labels shuffled", shuffled_labels),
        ("all equal, groups of ten alike", by_group),
    ):
        worlds = [make(seed) for seed in range(runs)]
        for test in ("exact", "betting"):
            kept = [ours(made, seed, test)[1] for seed, made in enumerate(worlds)]
            rows.append(shares(f"{name}: accepted by ours ({test})", kept, round(bound, 4), at_most=True))
        rules: dict[str, Callable[[World, int], bool]] = {"APE's": apes, "GEPA's": gepas, "TextGrad's": textgrads}
        for rule, accepts in rules.items():
            kept = [accepts(made, seed) for seed, made in enumerate(worlds)]
            rows.append(shares(f"{name}: accepted by {rule} rule", kept, None, at_most=True))
    return rows


def something_to_find(runs: int) -> Rows:
    """How often a prompt that is right on 10 points more is what the run ends with.

    That depends on how alike the prompts are in what they get right: among real ones of one model they correlate by
    about .7 (see `worlds.world`), and then few items tell; the less, the more items it would take.
    """
    rows = []
    for correlation, items_sd, own_sd in ((".73", 6.0, 0.0), (".51", 3.0, 0.5), (".39", 2.2, 0.5)):
        worlds = [planted(seed, items_sd, own_sd) for seed in range(runs)]
        found = [ours(made, seed)[0] == 1 + seed % (PROMPTS - 1) for seed, made in enumerate(worlds)]
        note = f"of 30, .65 to .75, {CALLS:,} calls, {ITEMS} examples; prompts correlate by {correlation}"
        name = f"a planted prompt, 10 points better, correlation {correlation}: found"
        rows.append(shares(name, found, 0.80, at_most=False, note=note))
        most = limit.found(max(runs, 50), items_sd, own_sd, CALLS, PROMPTS - 1, ITEMS, ALPHA)
        told = "beside it: by one who is told the gain and how easy each item is"
        rows.append(shares(f"{told}, correlation {correlation}", most.tolist(), None, at_most=False))
    return rows


def intervals(runs: int) -> Rows:
    """How often the reported 95 % interval of final - seed on the test holds the true difference, and the naive one."""
    held, naive, optimism = [], [], []
    for seed in range(runs):
        made = mixed(seed)
        best, _ = ours(made, seed)
        truth = made.truth[best] - made.truth[0]
        if best == 0:
            continue  # one prompt: no difference to report
        a, b = made.right[[best], ITEMS:], made.right[[0], ITEMS:]
        reported = paired_difference(a, b, np.arange(TESTED), resample(TESTED))
        held.append(bool(reported.low <= truth <= reported.high))
        seen = np.random.default_rng(seed).choice(ITEMS, CALLS // PROMPTS, replace=False)
        means = made.right[:, seen].mean(axis=1)
        top = int(np.argmax(means))
        low, high = wilson(float(means[top]), len(seen))
        naive.append(bool(low <= made.truth[top] <= high))
        optimism.append(100 * float(means[top] - made.truth[top]))
    note = f"n = {len(held)} of {runs} runs in which a prompt was accepted"
    return [
        shares("the test's interval of final - seed holds the truth", held, 0.93, at_most=False, note=note),
        shares("beside it: a 95 % interval around the best mean it was chosen by", naive, None, at_most=False),
        row("beside it: how much too high that best mean is", float(np.mean(optimism)), "points", n=len(optimism)),
    ]
