"""Whatever ends a run early, nothing that was answered is lost or asked again, and the rows come out the same."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from studies import Asked, a_task, always, called, killed_study, says_yes, untimed, write_csv

from promptlab import compare, in_context
from promptlab.cli import main
from promptlab.errors import SetupError
from promptlab.strategies import self_consistency, zero_shot

SCRIPT = Path(__file__).with_name("studies.py")
CLI = (sys.executable, "-c", "from promptlab.cli import main; main()", "compare")
WAIT_S = 60


@pytest.fixture
def whole(tmp_path):
    """The study of the script, uninterrupted."""
    compare(*killed_study(tmp_path / "all calls"), out=tmp_path / "whole")
    assert set(Counter(called(tmp_path / "all calls")).values()) == {1}  # so a call says which answer it was for
    return tmp_path / "whole"


def start(*command, **more) -> subprocess.Popen:
    """A process with its own group, so that it can be killed with all that it started."""
    return subprocess.Popen(list(map(str, command)), start_new_session=True, stderr=subprocess.PIPE, text=True, **more)


def wait_for(happened) -> None:
    until = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.002)


def wait_for_calls(process: subprocess.Popen, calls: Path, n: int) -> None:
    wait_for(lambda: len(called(calls)) >= n or process.poll() is not None)


def kill_all(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def is_written(folder: Path) -> set[str]:
    """The prompts of all answers that are whole lines on the disk, in the words of the calls file."""
    said = set()
    for path in (folder / "cells").glob("few-shot--*"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            with suppress(ValueError):
                if item := json.loads(line).get("item"):
                    said.add("-".join(item["prompt"]))
    return said


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_killed_at_any_instant_goes_on_and_asks_nothing_twice_that_was_written(whole, tmp_path, jobs):
    random, run, calls = Random(f"kill/{jobs}"), tmp_path / "run", tmp_path / "calls"
    kept: dict[str, int] = {}  # answers on the disk at some kill -> how often they had been asked then
    for kill in range(3):
        process = start(sys.executable, SCRIPT, run, calls, f"jobs={jobs}", *(["resume"] if kill else []))
        if kill == 1:  # calls are written before their answers, so only this kill is sure to leave answers
            wait_for(lambda process=process: is_written(run) or process.poll() is not None)
        else:
            wait_for_calls(process, calls, len(called(calls)) + random.randrange(5, 35))
        time.sleep(random.random() * 0.01)
        kill_all(process)
        asked = Counter(called(calls))
        for key in is_written(run):
            kept.setdefault(key, asked[key])
    assert kept
    compare(*killed_study(calls), out=run, resume=True)
    assert untimed(run) == untimed(whole)
    asked = Counter(called(calls))
    assert {key: asked[key] for key in kept} == kept
    assert sum(asked.values()) - 160 <= 3 * jobs * 64  # at most what was in flight


def few_shot(calls, batched=False):
    return {"few-shot": in_context(Asked(calls, batched=batched)), "yes": says_yes}


@pytest.mark.parametrize("end", [b'{"item": {"item": "test:30", "answ', b"\0\0\0\0\n", b'"\n{"it'])
def test_what_a_crash_left_at_the_end_of_a_file_is_cut_off(tmp_path, end):
    for batched in (False, True):
        run, calls = tmp_path / f"{batched}", tmp_path / f"calls {batched}"
        compare(few_shot(calls, batched), a_task(n_test=40), (2,), 1, out=run)
        before, n_calls = untimed(run), len(called(calls))
        cell = run / "cells" / "few-shot--2--0.jsonl"
        lines = cell.read_bytes().splitlines(keepends=True)
        n_kept = sum(b'{"item"' in line for line in lines[:30])
        cell.write_bytes(b"".join(lines[:30]) + end)
        compare(few_shot(calls, batched), a_task(n_test=40), (2,), 1, out=run, resume=True)
        assert untimed(run) == before
        # A hosted model is asked what is missing; an engine gets the batch again that it had.
        assert len(called(calls)) - n_calls == (40 if batched else 40 - n_kept)


def test_a_finished_run_that_is_resumed_gets_a_new_report_and_asks_nothing(tmp_path):
    run, calls = tmp_path / "run", tmp_path / "calls"
    first = compare(few_shot(calls), a_task(), (0, 2), 1, out=run)
    before, n_calls, said = untimed(run), len(called(calls)), json.loads((run / "run.json").read_text())
    (run / "report.html").unlink()
    (run / "results.json").unlink()
    again = compare(few_shot(calls), a_task(), (0, 2), 1, out=run, resume=True)
    assert (untimed(run), len(called(calls)), again) == (before, n_calls, {**first, "run": again["run"]})
    assert json.loads((run / "run.json").read_text()) == said
    assert (run / "report.html").exists()


def test_a_run_goes_on_only_as_the_same_study(tmp_path):
    run, task = tmp_path / "run", a_task()
    compare(few_shot(tmp_path / "calls"), task, (0, 2), 1, out=run)
    with pytest.raises(SetupError, match=r"holds a run already\. Continue it with --resume"):
        compare(few_shot(tmp_path / "calls"), task, (0, 2), 1, out=run)
    others = [
        ({"yes": says_yes}, task, (0, 2), 1),
        ({"few-shot": in_context(Asked(), "nearest"), "yes": says_yes}, task, (0, 2), 1),
        (few_shot(tmp_path / "calls"), a_task(18), (0, 2), 1),
        (few_shot(tmp_path / "calls"), task, (0, 4), 1),
        (few_shot(tmp_path / "calls"), task, (0, 2), (1,)),
    ]
    twisted = tuple(replace(e, target="yes") for e in task.test)
    grouped = tuple(replace(e, group="all") for e in task.test)
    judged = replace(task, score=lambda answer, target: 1.0)
    tasks = [replace(task, test=twisted), replace(task, test=grouped), judged]
    others += [(few_shot(tmp_path / "calls"), other, (0, 2), 1) for other in tasks]
    for other in others:
        with pytest.raises(SetupError, match="holds another study"):
            compare(*other, out=run, resume=True)


def test_settings_that_print_with_an_address_are_still_the_same_study(tmp_path):
    """A strategy with its options filled in, say: where it lies in memory is new in every process."""

    class Setting:
        pass

    def learner(strategy):
        return in_context(Asked(), strategy=strategy)

    for resume in (False, True):
        strategy = partial(zero_shot, stop=("\n",))
        strategy.__name__ = "terse"
        strategy.kept = Setting()
        compare({"a": learner(strategy)}, a_task(), (0,), 1, out=tmp_path / "run", resume=resume)


def test_an_arms_settings_are_part_of_the_study_wherever_they_are_kept(tmp_path):
    def closing_over(answer):
        def learner(task, examples, seed):
            return always(answer)

        return learner

    def sampling(n):
        return in_context(Asked(), strategy=named(partial(self_consistency, n=n)))

    def named(strategy):
        strategy.__name__ = "sampled"
        return strategy

    def of_seed(seed):
        model = Asked()
        model.seed = seed
        return in_context(model)

    kinds = [(closing_over, "yes", "no"), (sampling, 1, 2), (of_seed, 0, 1)]
    for i, (kind, setting, other) in enumerate(kinds):
        compare({"a": kind(setting)}, a_task(), (0,), 1, out=tmp_path / str(i))
        compare({"a": kind(setting)}, a_task(), (0,), 1, out=tmp_path / str(i), resume=True)
        with pytest.raises(SetupError, match="holds another study"):
            compare({"a": kind(other)}, a_task(), (0,), 1, out=tmp_path / str(i), resume=True)


def test_a_models_hash_covers_its_config_and_its_tokenizer(random_tiny, random_folder, tmp_path):
    from promptlab.backends.tiny import Tiny

    for name in ("config.json", "tokenizer.json"):
        folder = tmp_path / name
        shutil.copytree(random_folder, folder)
        assert Tiny(folder).sha256 == random_tiny.sha256
        (folder / name).write_text((folder / name).read_text() + "\n")
        assert Tiny(folder).sha256 != random_tiny.sha256


@contextmanager
def files_of_at_most(n_bytes: int):
    """Writing more to any file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [100, 3_000, 6_000, 20_000])
def test_a_full_disk_loses_nothing(whole, tmp_path, n_bytes):
    def study(**more):
        compare(*killed_study(tmp_path / "calls"), out=tmp_path / "run", **more)

    with files_of_at_most(n_bytes), pytest.raises(OSError, match="File too large"):
        study()
    study(resume=True)
    assert untimed(tmp_path / "run") == untimed(whole)


def test_a_full_disk_is_a_line_that_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["compare", str(write_csv(tmp_path / "fruit.csv")), "--model", "studies:Asked/calls", "--quiet"]
    options = ["--arms", "few-shot", "--labels", "2", "--seeds", "1", "--jobs", "1", "--out", "run"]
    with files_of_at_most(2_600), pytest.raises(SystemExit) as ended:
        main([*command, *options])
    again = "What was answered is kept; go on with: promptlab compare --resume run"
    assert (ended.value.code, capsys.readouterr().err) == (1, f"run cannot be written (File too large). {again}\n")
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--resume", "run", "--quiet"])
    assert ended.value.code == 0


# ---- the whole command


def slow_run(tmp_path, *options, jobs=2):
    """A study whose every request takes 0.2 s, begun with the command line; returned once it has answers."""
    data = write_csv(tmp_path / "fruit.csv", 200)
    given = (data, "--arms", "few-shot,few-shot-random", "--labels", "2,4", "--seeds", "2", "--jobs", jobs)
    more = ("--model", f"studies:Slow/{tmp_path / 'calls'}", "--out", tmp_path / "run", *options)
    process = start(*CLI, *given, *more, cwd=SCRIPT.parent)
    wait_for(lambda: is_written(tmp_path / "run") or process.poll() is not None)
    return process


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_at_once_and_says_how_to_go_on(tmp_path, jobs):
    process = slow_run(tmp_path, "--quiet", jobs=jobs)
    stopped = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, said = process.communicate(timeout=WAIT_S)
    assert time.monotonic() - stopped < 5
    again = f"promptlab compare --resume {tmp_path / 'run'}"
    assert (process.returncode, said) == (1, f"Stopped. What was answered is kept; go on with: {again}\n")
    assert len(is_written(tmp_path / "run")) < 4 * 60


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    process = slow_run(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    def group_is_gone() -> bool:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 0)
            return False
        return True

    wait_for(group_is_gone)
    process.stderr.close()
