"""Six public-health sets with the bundled model, which never saw such English: prompted, fine-tuned, beside TF-IDF.

    python benchmarks/health_study.py [--quick] [--only SET] [--runs FOLDER] [--project] [--json FILE]

The sets are read from ../shared/data/labelled; one that is not there is skipped, which is said. Runs, which hold texts,
stay in runs/health; the same command goes on with what was interrupted. Each set has a record of its own in
results/health_study.json, so that they can be run one at a time. `--project` says how many minutes all would take.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from studying.health import SETS, at_hand
from studying.running import Study, do, options

from promptlab.compare.study import Arguments

ARMS = "majority,tfidf,few-shot,few-shot-nearest,head,sft,lora,sft+few-shot".split(",")
QUICK_ARMS = ["majority", "tfidf", "few-shot", "sft"]
LABELS, SEEDS, N_TEST = [0, 16, 64, 256], 3, 200
MANY_CLASSES = [0, 24, 96, 384]
BY_SET: dict[str, dict[str, Any]] = {
    "symptom2disease": {"labels": MANY_CLASSES},  # 24
    "caves": {"labels": MANY_CLASSES},  # 12
    "pubmedqa": {"labels": LABELS[:3], "arms": ARMS[:6]},  # texts of 660 tokens, ten times those of the others
}


def studies(given: Namespace) -> Iterator[Study]:
    """The studies of the sets that are at hand; reduced for --quick."""
    for name in given.only or SETS:
        if not at_hand(name):
            print(f"{name}: not measured, as the set is not at hand")
            continue
        made = SETS[name].made(given.runs.resolve() / "data" / name)
        sizes = {"labels": LABELS, "arms": ARMS, "seeds": SEEDS, "test_items": N_TEST, **BY_SET.get(name, {})}
        if given.quick:
            sizes |= {"labels": [0, 8], "arms": QUICK_ARMS, "seeds": 1, "test_items": 10}
        yield Study(name, SETS[name].about, Arguments(**{**made, **sizes}))


def main() -> None:
    given = options(__doc__, list(SETS), "runs/health")
    do(studies(given), given, "health_study", most_minutes=120)


if __name__ == "__main__":
    main()
