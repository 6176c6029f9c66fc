"""A run's results as one object and one file.

rows.jsonl ── cells ── measures ── decision ── results.json ── report.html
                         │            │
                     comparisons    doubts
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from promptlab.compare.cells import Json
from promptlab.compare.decision import decide
from promptlab.compare.measures import Results
from promptlab.compare.methods import methods
from promptlab.compare.overtaking import told
from promptlab.whole import whole


def write_results(results: Results, run_dir: Path) -> None:
    """Write results.json into a directory, whole or not at all."""
    text = json.dumps(as_json(results), indent=1, ensure_ascii=False)
    with whole(run_dir / "results.json") as out:
        out.write(text + "\n")


def as_json(results: Results) -> Json:
    """Everything the report shows, as JSON values."""
    found = {"decision": asdict(decide(results))} | asdict(replace(results, answered=None))
    del found["answered"]
    for best, plain in zip(results.best, found["best"], strict=True):
        plain["name"] = best.name
    for crossover, plain in zip(results.crossovers, found["crossovers"], strict=True):
        plain |= {"established": crossover.established, "told": told(crossover)}
    capped = [{"arm": point.arm, "labels": point.labels} for point in results.capped]
    return found | {"capped": capped, "methods": list(methods(results))}
