"""The recorded searches of the paper's models come out of ours, to the last state."""

import importlib
from pathlib import Path

import pytest

from promptlab.rules.arithmetic import numbers_of, solve

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "recorded" / "tree_of_thoughts"
recorded = pytest.mark.skipif(not DATA.exists(), reason=f"the recordings are not at {DATA}")


@recorded
@pytest.mark.parametrize("name", ["game24", "crosswords"])
def test_a_recorded_search_comes_out_as_it_was(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rows = importlib.import_module(f"replays.{name}").measure(quick=True)
    missed = [row for row in rows if row["ok"] is False and "CPU" not in row["unit"]]  # timings are benchmarks
    assert not missed
    assert sum(row["ok"] is True for row in rows) >= 7


@recorded
def test_all_puzzles_of_the_game_of_24_are_solved():
    lines = (DATA / "data" / "24" / "24.csv").read_text(encoding="utf-8").splitlines()[1:]
    puzzles = [numbers_of(line.split(",")[1]) for line in lines]
    assert len(puzzles) == 1362
    for numbers in puzzles:
        [*_, last] = solve(numbers) or [None]
        assert last is not None, numbers
        assert last.left == (24,)
    assert numbers_of("3 3 8 8") in puzzles
