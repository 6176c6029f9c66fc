"""`promptlab optimize` killed at any instant: the same prompt in the end, and nothing paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from searches import called, said, write_lists

from promptlab import Reply, Usage
from promptlab.cli import main
from promptlab.testing import FakeServer

CLI = (sys.executable, "-c", "from promptlab.cli import main; main()", "optimize")
HERE = Path(__file__).parent
WORKERS, KILLS, WAIT_S = 16, 2, 60


def command(file: Path, model: str, folder: Path) -> list[str]:
    given = ["--output", "text", "--instruction", "Give a word.", "--option", "proposals=8", "--calls", "400"]
    return [str(file), *given, "--model", model, "--out", str(folder), "--quiet", "--workers", str(WORKERS)]


def begin(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([*CLI, *arguments], cwd=HERE, text=True, env=environment, **quiet)


def kill_when(process: subprocess.Popen, happened) -> None:
    until = time.monotonic() + WAIT_S
    while not happened() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before"


def finish(*arguments: str) -> None:
    process = begin(*arguments)
    _, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, told


def outcome(folder: Path) -> dict:
    """All that a run found out, without when and how often the test was opened, and what was sent to find it out."""
    results = json.loads((folder / "results.json").read_text())
    results["spent"].pop("sent")
    timed = ("run", "alarms")
    told = {key: value for key, value in results.items() if key not in timed}
    return told | {"prompt": (folder / "prompt.json").read_text(), "ledger": (folder / "ledger.jsonl").read_text()}


def test_a_search_killed_at_random_instants_ends_with_the_same_prompt_and_repeats_no_paid_call(tmp_path):
    file = write_lists(tmp_path / "lists.csv", 100)
    finish(*command(file, f"searches:Slow/{tmp_path / 'all'}", tmp_path / "whole"))
    needed = called(tmp_path / "all")
    assert set(Counter(needed).values()) == {1}  # so a line says which request it was
    assert outcome(tmp_path / "whole")["accepted"]
    chance, calls, folder = Random("kills"), tmp_path / "calls", tmp_path / "run"
    model = f"searches:Slow/{calls}"
    for kill in range(KILLS):
        at = len(called(calls)) + chance.randint(1, len(needed) // 4)
        there = (folder / "run.json").exists()
        given = ["--resume", str(folder), "--quiet", "--workers", "16"] if there else command(file, model, folder)
        kill_when(begin(*given), lambda at=at: len(called(calls)) >= at)
        assert (folder / "run.json").exists(), kill
    finish("--resume", str(folder), "--quiet", "--workers", str(WORKERS))
    asked = Counter(called(calls))
    assert outcome(folder) == outcome(tmp_path / "whole")
    assert asked.keys() == set(needed)
    assert sum(asked.values()) - len(needed) <= KILLS * WORKERS  # what was in flight at the kills
    before = len(called(calls))
    finish("--resume", str(folder), "--quiet")
    assert len(called(calls)) == before  # a finished run is told again for nothing


def test_a_kill_costs_a_provider_no_more_than_what_was_in_flight(tmp_path):
    def answer(request):
        time.sleep(0.003)
        return Reply(said(request), usage=Usage(20, output_tokens=3))

    file, folder = write_lists(tmp_path / "lists.csv", 100), tmp_path / "run"
    with FakeServer(answer) as server:
        given = command(file, f"openai:m@{server.url}", folder)
        kill_when(begin(*given), lambda: len(server.received) >= 150)
        finish("--resume", str(folder), "--quiet")
        spent = json.loads((folder / "results.json").read_text())["spent"]
        needed = spent["task"]["calls"] + spent["proposer"]["calls"]
        assert 150 < needed <= len(server.received) <= spent["sent"] <= needed + WORKERS


def test_ctrl_c_stops_and_says_how_to_go_on(tmp_path):
    file, calls, folder = write_lists(tmp_path / "lists.csv", 100), tmp_path / "calls", tmp_path / "run"
    process = begin(*command(file, f"searches:Slow/{calls}", folder), "--workers", "1")
    until = time.monotonic() + WAIT_S
    while len(called(calls)) < 30 and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=WAIT_S)
    again = f"promptlab optimize --resume {folder}"
    assert (process.returncode, told) == (1, f"Stopped. What was answered is kept; go on with: {again}\n")


@pytest.mark.parametrize("model", ["Words", "Engine", "Nameless"])
def test_16_workers_find_bit_for_bit_what_one_finds(tmp_path, model):
    file = write_lists(tmp_path / "lists.csv", 100)
    found = []
    for workers in (1, 16):
        given = [*command(file, f"searches:{model}", tmp_path / str(workers)), "--workers", str(workers)]
        with pytest.raises(SystemExit) as ended:
            main(["optimize", *given])
        assert ended.value.code == 0
        found.append(outcome(tmp_path / str(workers)))
    assert found[0] == found[1]
