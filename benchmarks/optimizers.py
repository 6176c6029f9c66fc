"""What the prompt optimisers can be relied on for: races, what is accepted, prompts for the bundled model.

python benchmarks/optimizers.py [--quick] [--json FILE] [--only PART]...
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from behaviours.figures import Rows
from harness import finish, parser
from optimizing import accepting, racing
from optimizing.worlds import logit, world


def races(quick: bool) -> Rows:
    """36 prompts on 444 items each: their accuracies are normal around .65 with a standard deviation of .06."""
    rows: Rows = []
    for name, items_sd, own_sd in (("36 prompts", 2.2, 0.5), ("36 prompts that hardly correlate", 1.0, 1.0)):
        worlds = []
        for seed in range(20 if quick else 300):
            abilities = np.random.default_rng([seed, 1]).normal(0.65, 0.06, 36).clip(0.3, 0.95)
            worlds.append(world(seed, logit(abilities), 444, items_sd, own_sd))
        rows += racing.rows(name, worlds)
    return rows


def acceptance(quick: bool) -> Rows:
    runs = 12 if quick else 200
    return [
        *accepting.nothing_to_find(runs),
        *accepting.something_to_find(runs),
        *accepting.intervals(20 if quick else 600),
    ]


PARTS: dict[str, Callable[[bool], Rows]] = {"races": races, "acceptance": acceptance}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", action="append", choices=PARTS, help="of the parts, only this (may be given again)")
    given = made.parse_args()
    rows = [each for name, part in PARTS.items() if name in (given.only or PARTS) for each in part(given.quick)]
    finish(rows, given)


if __name__ == "__main__":
    main()
