"""Recorded runs, other tools' numbers and real sets through our statistics: the figures that are known of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "recorded").is_dir(), reason=f"the recordings are not at {DATA}")
sys.path.insert(0, str(ROOT / "benchmarks"))  # the studies are scripts, not a package

from statistical import defects, recorded, references, simulated  # noqa: E402


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    missed = [row["name"] for row in rows if row["ok"] is False]
    assert not missed
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    return by_name(recorded.measure(quick=True))


@pytest.mark.parametrize(
    ("name", "n", "low", "high"),
    [("trec", 233, (100, 130), (560, 800)), ("banking77", 4_754, (2_900, 3_500), (9e3, 16e3))],
)
def test_fine_tuning_overtakes_demonstrations_where_another_analysis_says(rows, name, n, low, high):
    found = rows[f"{name}: crossover"]
    assert found["value"] == pytest.approx(n, abs=1)
    assert low[0] < found["low"] < low[1]
    assert high[0] < found["high"] < high[1]


def test_one_seed_names_the_wrong_arm_four_times_in_ten(rows):
    assert rows["trec, 250 labels, one seed: wrong"]["value"] == pytest.approx(0.4)


def test_a_run_that_stands_in_the_file_four_times_counts_once():
    tuned = recorded.fine_tuned("banking77")
    assert {len(runs) for runs in tuned.runs.values()} == {5}
    assert tuned.runs[256]["0"] == 0.148  # a run that failed is a run
    assert tuned.repeated == 14


def test_of_63_methods_against_zero_shot_12_differ_and_7_still_do_after_holm(rows):
    counts = [rows[f"medical questions: {name}"]["value"] for name in ("p < .05", "p < .05 after Holm")]
    assert (rows["medical questions: methods against zero-shot"]["value"], *counts) == (63, 12, 7)
    assert counts[1] <= rows["medical questions: p < .05 after Benjamini-Hochberg"]["value"] <= counts[0]


def test_what_other_tools_return_comes_out():
    found = by_name(references.measure(quick=True))
    assert sum("inspect" in name for name in found) == 4
    assert sum("lm-eval" in name for name in found) == 9
    assert sum("T-Few" in name for name in found) == 6


def test_known_defects_of_real_sets_are_found():
    found = by_name(defects.measure(quick=True))
    assert found["data lint, banking77: overlap of train and test"]["value"] == 25


def test_simulated_intervals_hold_and_never_and_always_come_out_as_such():
    found = by_name(simulated.measure(quick=True))
    assert found["simulated: an arm that stays behind: said never to overtake"]["value"] == 1
    assert found["simulated: an arm ahead from the start: said to be always"]["value"] == 1
