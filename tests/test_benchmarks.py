"""The studies can be run and write the rows they promise."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"name", "value", "unit", "low", "high", "n", "target", "ok"}


def test_a_quick_study_writes_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    subprocess.run([sys.executable, BENCHMARKS / "overhead.py", "--quick", "--json", out], check=True)
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert all(set(row) >= FIELDS for row in rows)
    peaks = [row for row in rows if "at the peak" in row["name"]]
    others = [row for row in rows if row not in peaks]
    assert [row["name"] for row in rows[:3]] == ["import", "in_step", "concurrent"]
    assert (len(peaks), len(others)) == (2, 10)
    assert all(row["ok"] == (row["value"] <= row["target"]) for row in others)
    assert all(row["ok"] == (row["value"] >= row["target"]) for row in peaks)
    assert peaks[0]["value"] == 200


def test_every_study_explains_itself() -> None:
    for script in sorted(BENCHMARKS.glob("*.py")):
        if script.name != "harness.py":
            said = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
            assert "--quick" in said.stdout
            assert "--json" in said.stdout
