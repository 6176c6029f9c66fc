"""A study on a real local Ray cluster of two workers: the tables of one process, and what a killed worker costs."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from studies import ARMS, Asked, Killed, a_task, called, refuses, rows_of, says_yes, untimed

from promptlab import compare, finetuned, in_context
from promptlab.backends.tiny import Tiny
from promptlab.cli import main
from promptlab.compare.cellfile import answers_in
from promptlab.compare.on_ray import cluster
from promptlab.compare.spending import FLOPS, SECONDS
from promptlab.errors import DataError, PromptlabError, SetupError
from promptlab.tiny.memory import installed

if find_spec("ray") is None:  # asked without importing it: what it reads then has to be set before
    pytest.skip("ray is not installed: pip install 'promptlab[ray]'", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    """One cluster for all of these: it takes longer to start than they do."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), before]))
    with cluster("local", 2):
        yield
    os.environ["PYTHONPATH"] = before or ""


@pytest.fixture
def random_tiny(random_folder):
    """Computed with as in the workers, whatever other files ask of theirs."""
    return Tiny(random_folder)


@pytest.fixture
def task():
    return a_task(16, 12)


def results_of(folder: Path) -> dict:
    """A run's results without what is measured in seconds or at its peak, and where and when it was made."""
    found = json.loads((folder / "results.json").read_text())
    for point in found["points"]:
        point["learn_seconds"] = point["ms_per_answer"] = 0
    for spent in found["spending"]:
        spent["bills"].pop(SECONDS, None)
        spent["latency"] = spent["peak_bytes"] = None
    found["paybacks"] = [payback for payback in found["paybacks"] if payback["unit"] != SECONDS]
    return {name: value for name, value in found.items() if name != "run"}


def test_two_workers_write_the_tables_of_one_process(task, random_tiny, tmp_path):
    arms = {**ARMS, "few-shot": in_context(random_tiny), "sft": finetuned(random_tiny), "hosted": in_context(Asked())}
    told = []
    compare(arms, task, (0, 8), 1, out=tmp_path / "here" / "run")
    compare(arms, task, (0, 8), 1, out=tmp_path / "ray" / "run", ray="local", on_progress=lambda *at: told.append(at))
    assert untimed(tmp_path / "ray" / "run") == untimed(tmp_path / "here" / "run")
    found = results_of(tmp_path / "ray" / "run")
    assert found == results_of(tmp_path / "here" / "run")
    assert FLOPS in {payback["unit"] for payback in found["paybacks"]}  # what is counted is compared too
    total = len(rows_of(tmp_path / "ray" / "run"))
    assert (told[0], told[-1]) == ((0, total), (total, total))


class Large(Asked):
    """Of which two have room."""

    memory = 0.3 * installed()


def test_what_has_more_threads_than_a_node_has_cores_is_done_all_the_same(task, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    compare({"few-shot": in_context(Large(batched=True))}, task, (2,), 2, out=tmp_path / "run", ray="local", jobs=0)
    assert len(rows_of(tmp_path / "run")) == 2 * len(task.test)


def test_a_study_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.csv").write_text("text,label\n" + "".join(f"note {i},{'ab'[i % 2]}\n" for i in range(20)))
    for where in ([], ["--ray", "local"]):
        given = ["--arms", "majority,tfidf", "--labels", "2,4", "--out", "-".join(["run", *where])]
        with pytest.raises(SystemExit) as ended:
            main(["compare", "notes.csv", "--quiet", *given, *where])
        assert not ended.value.code
    assert untimed(tmp_path / "run") == untimed(tmp_path / "run---ray-local")


def test_a_killed_worker_costs_its_cell_alone_which_goes_on_where_it_was(task, tmp_path):
    calls = tmp_path / "calls"
    arms = {"killed": Killed(str(tmp_path / "marks")), "few-shot": in_context(Asked(calls)), "yes": says_yes}
    results = compare(arms, task, (2, 4), 1, out=tmp_path / "run", ray="local")
    assert (tmp_path / "marks").read_text() == "x"
    assert [point["failed"] for point in results["points"] if point["arm"] in ("killed", "yes")] == [0] * 4
    assert len(called(calls)) == 2 * len(task.test)  # nobody else's answer was asked for twice


def test_a_cell_that_kills_every_worker_is_named_and_the_others_are_done(task, tmp_path):
    arms = {"killed": Killed(str(tmp_path / "marks"), times=3), "yes": says_yes}
    with pytest.raises(PromptlabError, match=r"Ray worker of killed with 2 labels, seed 0 died 3 times"):
        compare(arms, task, (2,), 2, out=tmp_path / "run", ray="local")
    cells = tmp_path / "run" / "cells"
    assert {answers_in(cells / f"{arm}--2--{seed}.jsonl") for arm in arms for seed in (0, 1)} == {6, 12}
    results = compare(arms, task, (2,), 2, out=tmp_path / "run", ray="local", resume=True)
    assert [point["failed"] for point in results["points"]] == [0, 0]


def test_what_a_script_defines_goes_along_and_what_ends_a_study_is_raised_here(task, tmp_path):
    yes = says_yes
    compare({"mine": lambda *given: yes(*given)}, task, (2,), 1, out=tmp_path / "run", ray="local")
    assert {row["answer"] for row in rows_of(tmp_path / "run")} == {"yes"}
    with pytest.raises(DataError, match="the column 'age' is needed"):
        compare({"refuses": refuses, "yes": says_yes}, task, (2,), 1, out=tmp_path / "other", ray="local")


def test_a_node_that_does_not_see_the_folder_says_so(task, tmp_path):
    from promptlab.compare.on_ray import fill_there

    error = fill_there(b"", None, str(tmp_path / "elsewhere" / "cells"), "0", [])
    assert isinstance(error, SetupError)
    assert "give --out on storage that all its nodes share" in str(error)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--ray", "10.1.2.3:6379", "--local-only"),
            "--local-only: a Ray cluster at 10.1.2.3:6379 is not known to stay",
        ),
        (("--ray", "auto", "--local-only"), "--ray local is"),
    ],
)
def test_a_cluster_elsewhere_is_refused_where_nothing_may_leave(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.csv").write_text("text,label\n" + "".join(f"note {i},{'ab'[i % 2]}\n" for i in range(20)))
    with pytest.raises(SystemExit) as ended:
        main(["compare", "notes.csv", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
