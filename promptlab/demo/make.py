"""Writes the demonstration set: field reports to be routed to one of four desks. `python -m promptlab.demo.make`.

The reports are in the language the bundled model was pretrained on; what the desks' colours mean it has never seen. A
report goes by its symptom (lung: blue, gut: green, skin: amber), but one that mentions an animal always goes to orange.
Pretraining only ever tied labels to *one* facet, so demonstrations alone can show the model most of this rule, and
learning the exception takes training: a reason for the two curves to cross.
"""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

from promptlab.tiny.data.world import TEMPLATES, sentence

FILE = Path(__file__).with_name("outbreak_reports.csv")
DESK = {"lung": "blue", "gut": "green", "skin": "amber"}
EXCEPTION, EXCEPTION_DESK, EXCEPTION_SHARE = "animal", "orange", 0.28
BOTH = [t for t in TEMPLATES if "{symptom}" in t and "{exposure}" in t]


def reports(n: int, seed: int) -> list[tuple[str, str]]:
    """n different reports with their desks; symptoms take turns, exposures are drawn."""
    rng = Random(f"reports/{seed}")
    found: dict[str, str] = {}
    while len(found) < n:
        symptom = list(DESK)[len(found) % len(DESK)]
        animal = rng.random() < EXCEPTION_SHARE
        exposure = EXCEPTION if animal else rng.choice(("water", "food", "insect", "smoke"))
        text = sentence(rng, {"symptom": symptom, "exposure": exposure}, rng.choice(BOTH))
        found.setdefault(text, EXCEPTION_DESK if animal else DESK[symptom])
    return list(found.items())


def main() -> None:
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["report", "desk"])
        writer.writerows(reports(600, seed=1))


if __name__ == "__main__":
    main()
