"""The four real sets, each from its own files as they are: what prompting and fine-tuning the bundled model reach.

    python benchmarks/real_data.py [--quick] [--json FILE] [SET …]

The model has never seen English prose of this kind. Runs go to runs/real/SET; what is committed of them is the summary
(no text of the sets) under results/real_data/. The same runs by hand, for instance:

    promptlab compare …/symptom2disease/Symptom2Disease.csv --text text --label label --labels 0,24,96,384 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from harness import DATA, RESULTS, finish, row, run_watched

RUNS = Path("runs/real")
ARMS = "majority,tfidf,few-shot,few-shot-nearest,head,sft"
SETS: dict[str, list[str]] = {
    "symptom2disease": ["Symptom2Disease.csv", "--test-share", "0.2", "--text", "text", "--label", "label"],
    "trec": ["TREC.train", "--test", "TREC.test", "--format", "label-first", "--text", "text", "--label", "coarse"],
    "nicta_piboso": ["train_clean.txt", "--test", "test_clean.txt", "--format", "sections", "--group", "group"],
    "health_advice": [
        "annotations_structured_abstract.csv",
        "--text",
        "sentence",
        "--label",
        "label",
        "--group",
        "pmid",
    ],
}
SETS["health_advice"] += ["--test", "annotations_discussion.csv"]  # advice in discussions: out of domain


def command(name: str, quick: bool, folder: Path) -> list[str]:
    """The command line of one set's study."""
    files = [str(DATA / name / part) if (DATA / name / part).is_file() else part for part in SETS[name]]
    size = ["--labels", "0,24,96,384" if name == "symptom2disease" else "0,16,64,256"]
    size += ["--seeds", "1", "--test-items", "10"] if quick else ["--seeds", "3"]
    if not quick and name != "symptom2disease":
        size += ["--test-items", "200"]
    return ["compare", *files, "--arms", ARMS, *size, "--out", str(folder), "--quiet"]


def study(name: str, quick: bool) -> list[dict[str, Any]]:
    """Run one set and give its rows: accuracies by arm and labels, the time and the memory it took."""
    folder = RUNS / ("quick" if quick else "full") / name
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    peak = run_watched([sys.executable, "-m", "promptlab", *command(name, quick, folder)])
    minutes = (time.perf_counter() - started) / 60
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    rows = []
    for point in results["points"]:
        found = point["accuracy"]
        label = f"{name}, {point['arm']}, {point['labels']} labels"
        rows.append(row(label, found["value"], "accuracy", low=found["low"], high=found["high"], n=found["n_items"]))
    timed = name == "symptom2disease" and not quick
    rows.append(row(f"{name}, whole study", minutes, "min", target=10 if timed else None, at_most=True))
    rows.append(row(f"{name}, peak memory of all processes", peak, "GB", target=2 if timed else None, at_most=True))
    if not quick:
        kept = RESULTS / "real_data"
        kept.mkdir(parents=True, exist_ok=True)
        found = (folder / "results.json").read_text(encoding="utf-8")
        for where in (DATA, DATA.resolve()):
            found = found.replace(str(where), "…")
        (kept / f"{name}.json").write_text(found, encoding="utf-8")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one small study a set")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    given = parser.parse_args()
    every: list[dict[str, Any]] = []
    for name in given.sets or SETS:
        if (DATA / name).is_dir():
            rows = study(name, given.quick)
        else:
            rows = [row(f"{name}, whole study", None, "min", note=f"not measured: {name} is not at hand")]
        every += rows
        finish(rows, given, f"real_data/{name}.rows")
    if given.json:
        given.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
