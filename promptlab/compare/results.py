"""A run's results as one object and one file.

rows.jsonl ── cells ── measures ── decision ── results.json ── report.html
                         │            │
                     comparisons    doubts
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from promptlab.compare.cells import Json
from promptlab.compare.decision import decide
from promptlab.compare.measures import Results, measure
from promptlab.compare.methods import methods


def summarise(run_dir: Path, draws: int = 2_000, margin: float = 0.02) -> Json:
    """Measure a run, decide, and write both to results.json in its directory; the same object is returned.

    Raises DataError for rows that are missing, doubled or of an unknown arm.
    """
    return write_results(measure(run_dir, draws, margin), run_dir)


def write_results(results: Results, run_dir: Path) -> Json:
    """Write results.json into a directory and give what is in it."""
    found = as_json(results)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (run_dir / "results.json").write_text(text + "\n", encoding="utf-8")
    return found


def as_json(results: Results) -> Json:
    """Everything the report shows, as JSON values."""
    found = {"decision": asdict(decide(results))} | asdict(results)
    for best, plain in zip(results.best, found["best"], strict=True):
        plain["name"] = best.name
    capped = [{"arm": point.arm, "labels": point.labels} for point in results.capped]
    return found | {"capped": capped, "methods": list(methods(results))}
