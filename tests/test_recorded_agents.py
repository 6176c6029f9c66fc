"""Recorded agents through our loops, to the last step: what the benchmark measures has to hold here too."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name == "harness" or name.split(".")[0] == "replays"]:
        del sys.modules[name]


@pytest.mark.parametrize(("recording", "rows"), [("fever", 8), ("tau_bench", 7)])
def test_every_figure_of_a_recording_comes_out(recording, rows):
    replay = import_module(f"replays.{recording}")
    if not replay.FILE.exists():
        pytest.skip("the recordings are not at hand")
    measured = replay.measure(quick=True)
    assert len(measured) == rows
    asked_for = [row for row in measured if row["target"] is not None]
    assert [row["name"] for row in asked_for if not row["ok"]] == []
    assert len(asked_for) == 6


def test_the_recorded_slips_of_the_other_half_are_mended_too():
    """A new line before five actions of an episode and words after its last: as the paper tells of them."""
    fever = import_module("replays.fever")
    said = "".join(
        f"\nThought {i}: hm.\nAction {i}: \nFinish[SUPPORTS]\nObservation {i}: Invalid action: \nFinish[SUPPORTS]\n"
        for i in range(1, 6)
    )
    end = "\nThought 6: hm.\nAction 6: Finish[REFUTES] so.\nObservation 6: Invalid action: finish[REFUTES] so.\n"
    end += "\nThought 7: hm.\nAction 7: Finish[REFUTES]\nObservation 7: Episode finished, reward = 0\n"
    episode = fever.Episode("c", "SUPPORTS", 0, list(fever.steps(said + end)))
    assert [step.is_invalid for step in episode.steps] == [True] * 6 + [False]
    strictly, forgiving = fever.replayed(episode, fever.STRICT), fever.replayed(episode, fever.Rules())
    assert fever.as_recorded(strictly, episode)
    assert (strictly.value, forgiving.value) == ("REFUTES", "SUPPORTS")
    assert list(fever.mended(forgiving, episode)) == [True]
    guarded = fever.replayed(episode, fever.GUARDED)
    assert episode.loops
    assert any(fever.NUDGE in turn.content for turn in guarded.trace)


def test_no_recording_is_no_figure(monkeypatch):
    for name in ("fever", "tau_bench"):
        replay = import_module(f"replays.{name}")
        monkeypatch.setattr(replay, "FILE", Path("nowhere"))
        [row] = replay.measure(quick=True)
        assert (row["value"], row["ok"], row["note"]) == (None, None, "the recording is not at hand")
