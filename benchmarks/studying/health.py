"""The public-health sets as their authors gave them, made into what `promptlab compare` takes where they are not yet.

Nothing of them goes into the repo: what is made of a set lies beside its run. Every choice is said in `about`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from harness import DATA

A_HALF = 100  # sentences of each out-of-domain half: all 4,866 would take most of the time
Options = dict[str, Any]  # of `promptlab.compare.study.Arguments`


class Set(NamedTuple):
    """What is asked of which texts, and how its files come to be; `made(folder)` gives their arguments."""

    about: str
    made: Callable[[Path], Options]


def table(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV file of rows with the same columns; its path."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def nicta_piboso(folder: Path) -> Options:
    files = {name: str(DATA / "nicta_piboso" / f"{name}_clean.txt") for name in ("train", "test")}
    return {"file": files["train"], "test": files["test"], "format": "sections", "group": "group"}


def health_advice(folder: Path) -> Options:
    there = DATA / "health_advice"
    outside = []
    for half in ("discussion", "unstructured_abstract"):
        rows = rows_of(there / f"annotations_{half}.csv")
        chosen = sorted(Random(f"health_advice/{half}").sample(range(len(rows)), A_HALF))
        kept = ("label", "sentence")
        outside += [{**{name: rows[i][name] for name in kept}, "pmid": f"{half}:{rows[i]['pmid']}"} for i in chosen]
    return {
        "file": str(there / "annotations_structured_abstract.csv"),
        "ood": table(folder / "outside.csv", outside),
        "text": "sentence",
        "group": "pmid",
    }


def pubmedqa(folder: Path) -> Options:
    there = DATA / "pubmedqa"
    found = json.loads((there / "ori_pqal.json").read_text(encoding="utf-8"))
    test = json.loads((there / "test_ground_truth.json").read_text(encoding="utf-8"))

    def side(is_test: bool) -> Iterable[dict[str, str]]:
        for pmid, item in found.items():
            if (pmid in test) == is_test:
                text = "\n".join([*item["CONTEXTS"], item["QUESTION"]])  # what is cut, is cut at the beginning
                yield {"text": text, "label": item["final_decision"]}

    return {"file": table(folder / "train.csv", side(False)), "test": table(folder / "test.csv", side(True))}


def healthver(folder: Path) -> Options:
    kept = ("evidence", "claim", "label")
    both = [rows_of(DATA / "healthver" / f"healthver_{side}.csv") for side in ("dev", "test")]
    rows = ({name: row[name] for name in kept} for side in both for row in side)
    return {"file": table(folder / "both.csv", rows), "text": "evidence+claim", "group": "evidence"}


def caves(folder: Path) -> Options:
    def side(name: str) -> str:
        rows = rows_of(DATA / "caves_vaccine_concerns" / f"{name}.csv")
        single = ({"text": row["text"], "label": row["labels"]} for row in rows if " " not in row["labels"].strip())
        return table(folder / f"{name}.csv", single)

    return {"file": side("train"), "test": side("test")}


def symptom2disease(folder: Path) -> Options:
    return {"file": str(DATA / "symptom2disease" / "Symptom2Disease.csv"), "test_share": 0.2}


SETS: dict[str, Set] = {
    "nicta_piboso": Set("sentences of medical abstracts, 6 PICO classes; abstracts kept whole", nicta_piboso),
    "health_advice": Set(
        f"sentences of structured abstracts, no, weak or strong advice; outside: {A_HALF} sentences each, drawn at "
        "random, of discussions and of unstructured abstracts",
        health_advice,
    ),
    "pubmedqa": Set(
        "question and abstract, yes, no or maybe, the official test; LONG_ANSWER, which says it, is left out", pubmedqa
    ),
    "healthver": Set(
        "claim and evidence, supports, refutes or neutral; both published files together, split by evidence, as they "
        "share most of it",
        healthver,
    ),
    "caves": Set("tweets with one vaccine concern of 12; those with several (1 in 5) are left out", caves),
    "symptom2disease": Set("patients' words, 24 diseases", symptom2disease),
}
FOLDERS = {"caves": "caves_vaccine_concerns"}  # where a set's folder has another name


def at_hand(name: str) -> bool:
    return (DATA / FOLDERS.get(name, name)).is_dir()
