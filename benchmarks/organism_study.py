"""Five rules that the bundled model was never taught, to seventeen arms: where fine-tuning overtakes prompting.

    python benchmarks/organism_study.py [--quick] [--only RULE] [--runs FOLDER] [--project] [--json FILE]

Each rule is a CSV file that `promptlab compare` is given, with nested budgets of 8 to 512 labels drawn by 5 seeds.
Runs stay in runs/organism; the same command goes on with what was interrupted, and does nothing twice. `--project`
measures one cell of each arm and says how many minutes all of them would take on two cores.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from studying.rules import RULES, write
from studying.running import Study, do, options

from promptlab.compare.study import Arguments

PROMPTING = (
    "few-shot",
    "few-shot-random",
    "few-shot-nearest",
    "few-shot-diverse",
    "few-shot-calibrated",
    "chain-of-thought",
    "self-consistency",
    "demos:calls=500",
    "ape:calls=500",
)
TUNING = ("head", "sft", "lora", "sft+few-shot")
CONTROLS = ("majority", "tfidf", "few-shot-random-labels", "sft-shuffled-labels")
LABELS, SEEDS, N_TEST = [0, 8, 32, 128, 512], 5, 100
POOL = 1_024  # training rows: twice the largest budget, so that seeds differ there too


def studies(given: Namespace) -> Iterator[Study]:
    """The rules' studies; reduced for --quick."""
    labels, seeds, n_test = ([0, 8], 1, 12) if given.quick else (LABELS, SEEDS, N_TEST)
    for name in given.only or RULES:
        folder = given.runs.resolve() / "data" / ("quick" if given.quick else "full") / name
        train, test = write(name, folder, POOL, n_test)
        arms = [*CONTROLS[:2], *PROMPTING, *TUNING, *CONTROLS[2:]]
        files = {"file": str(train), "test": str(test)}
        yield Study(name, RULES[name].about, Arguments(**files, arms=arms, labels=labels, seeds=seeds))


def main() -> None:
    given = options(__doc__, list(RULES), "runs/organism")
    do(studies(given), given, "organism_study", most_minutes=60)


if __name__ == "__main__":
    main()
