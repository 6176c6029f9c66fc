"""What the prompt optimisers can be relied on for: races, what is accepted, prompts for the bundled model.

    python benchmarks/optimizers.py [--quick] [--json FILE] [--only PART]...

Beside it, optimizers_peers.py has DSPy's and GEPA's on the same examples and budget.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from behaviours.figures import Rows
from harness import finish, parser, row, two_at_a_time
from optimizing import accepting, kills, pools, proposer, racing, tasks, workers
from optimizing.worlds import logit, world


def races(quick: bool) -> Rows:
    """36 prompts on 444 items each: their accuracies are normal around .65 with a standard deviation of .06."""
    rows: Rows = []
    for name, items_sd, own_sd in (("36 prompts", 2.2, 0.5), ("36 prompts that hardly correlate", 1.0, 1.0)):
        worlds = []
        for seed in range(3 if quick else 200):
            abilities = np.random.default_rng([seed, 1]).normal(0.65, 0.06, 36).clip(0.3, 0.95)
            worlds.append(world(seed, logit(abilities), 444, items_sd, own_sd))
        rows += racing.rows(name, worlds)
    return rows


def published(name: str, quick: bool) -> Rows:
    """One of EvoPrompt's pools on the bundled model, one race for each seed."""
    if not pools.POOLS.exists():
        return [row(f"EvoPrompt's prompts for {name}", None, "of its calls", note="the pools are not at hand")]
    table = pools.pool(name, *((220, 6) if quick else ()))
    return racing.rows(f"EvoPrompt's {len(table.truth)} prompts for {name}", [table] * (2 if quick else 100))


def acceptance(quick: bool) -> Rows:
    return accepting.nothing_to_find(4 if quick else 200)


def power(quick: bool) -> Rows:
    runs = 4 if quick else 200
    return [*accepting.something_to_find(runs), *accepting.intervals(8 if quick else 600)]


def killed(quick: bool) -> Rows:
    outcomes = kills.kills(2 if quick else 50)
    worst = max(each.beyond for each in outcomes)
    note = f"at most {kills.IN_FLIGHT} in flight"
    same = sum(each.same for each in outcomes)
    return [
        row("kill -9: the same prompt, ledger and test", same / len(outcomes), "of kills", n=len(outcomes), target=1.0),
        row(
            "kill -9: calls beyond one a request, at worst",
            worst,
            "calls",
            n=len(outcomes),
            target=kills.IN_FLIGHT,
            at_most=True,
            note=note,
        ),
    ]


PARTS: dict[str, Callable[[bool], Rows]] = {
    "races": races,
    "sst2": partial(published, "sst2"),
    "trec": partial(published, "trec"),
    "acceptance": acceptance,
    "power": power,
    "proposer": proposer.measure,
}


ALONE: dict[str, Callable[[bool], Rows]] = {"tasks": tasks.measure, "workers": workers.measure, "killed": killed}


def part(quick: bool, name: str) -> Rows:
    return PARTS[name](quick)


def main() -> None:
    made = parser(__doc__)
    made.add_argument(
        "--only", action="append", choices=[*PARTS, *ALONE], help="of the parts, only this (may be given again)"
    )
    given = made.parse_args()
    wanted = given.only or [*PARTS, *ALONE]
    found = list(two_at_a_time(partial(part, given.quick), [name for name in PARTS if name in wanted]))
    found += [measure(given.quick) for name, measure in ALONE.items() if name in wanted]  # times are told: one by one
    rows = [each for rows in found for each in rows]
    finish(rows, given)


if __name__ == "__main__":
    main()
