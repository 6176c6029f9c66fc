"""Recorded programs come to their recorded results when they are executed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.errors import SetupError
from promptlab.tools.sandbox import Limits, Sandbox

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SAMPLE = [
    {
        "generated": ["num_glasses = 16\nans = 0\nfor i in range(num_glasses):\n    ans += 5 if i % 2 == 0 else 3.0"],
        "executed": 64.0,
    },
    {"generated": ["ans = bolts / 2"], "executed": None},  # fails
    {"generated": ["print('thinking')\nans = 1 / 4"], "executed": 0.25},
    {"generated": ["ans = 1"], "executed": 2.0},  # recorded wrongly
    {"generated": ["ans = 0\nwhile ans < 1:\n    pass"], "executed": 5.0},  # does not end
    {"generated": ["while True:\n    pass"], "executed": None},  # did not then either
]


@pytest.fixture
def replay(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from replays import program_of_thoughts

    return program_of_thoughts


@pytest.fixture
def sandbox():
    try:
        made = Sandbox(Limits(cpu_s=1, wall_s=60))
    except SetupError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_same_different_and_endless_are_told_apart(replay, sandbox):
    assert replay.compare(SAMPLE, sandbox, at_once=2) == {"same": 4, "timed out": 1, "different": 1}


def test_a_share_of_the_recorded_programs_comes_to_the_recorded_results(replay, sandbox):
    if not replay.FILE.exists():
        pytest.skip(f"the recording is not at hand: {replay.FILE}")
    records = replay.read()
    assert len(records) == 659
    assert replay.compare(records[::20], sandbox, at_once=2) == {"same": 33, "timed out": 0, "different": 0}


def test_without_the_recording_the_study_says_so(replay, monkeypatch, tmp_path):
    monkeypatch.setattr(replay, "FILE", tmp_path / "none")
    rows = replay.measure(quick=True)
    assert [(row["value"], row["ok"], row["note"]) for row in rows] == [
        (None, None, "the recording is not at hand")
    ] * 3
