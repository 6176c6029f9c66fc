"""Writes the demonstration set: field reports to be routed to one of four desks. `python -m promptlab.demo.make`.

A report names two signs, in words the bundled model was pretrained on; what the desks' letters mean it has never seen.
A report goes by its symptoms (lung: A, gut: B, skin: C), but one that mentions an animal goes to D, whatever the
symptom beside it. In pretraining every sign of an item pointed to the same label: demonstrations soon show the model
most of this rule, but that one sign overrules another takes training, and so the curves cross.
"""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

from promptlab.tiny.data.world import WORDS

FILE = Path(__file__).with_name("outbreak_reports.csv")
DESK = {"lung": "A", "gut": "B", "skin": "C"}
SIGNS_A_DESK = 4  # so few that eight reports show most of them
EXCEPTION, EXCEPTION_DESK, EXCEPTION_SHARE = "animal", "D", 0.18
JOINED_BY = (", ", " and ", " with ", " plus ", " then ", " beside ")


def reports(n: int, seed: int) -> list[tuple[str, str]]:
    """n different reports with their desks."""
    rng = Random(f"reports/{seed}")
    found: dict[str, str] = {}
    while len(found) < n:
        symptom = rng.choice(list(DESK))
        signs = rng.sample(WORDS["symptom"][symptom][:SIGNS_A_DESK], 2)
        overruled = rng.random() < EXCEPTION_SHARE
        if overruled:
            signs[rng.randrange(2)] = rng.choice(WORDS["exposure"][EXCEPTION])
        found.setdefault(rng.choice(JOINED_BY).join(signs), EXCEPTION_DESK if overruled else DESK[symptom])
    return list(found.items())


def main() -> None:
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["report", "desk"])
        writer.writerows(reports(260, seed=1))


if __name__ == "__main__":
    main()
