"""How many processes a study has where nobody says: one a core, as far as there is memory for the models in each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from studies import a_task, always, rows_of

from promptlab import Reply, compare, finetuned, in_context, model
from promptlab.backends.tiny import Tiny
from promptlab.tiny.memory import installed


@dataclass(frozen=True)
class Noting:
    """A model in memory that notes which processes ask it."""

    folder: Path
    memory: float
    batched: bool = True

    def generate(self, requests):
        (self.folder / str(os.getpid())).touch()
        return [Reply("yes") for _ in requests]


@dataclass(frozen=True)
class OneAlone(Noting):
    def __reduce__(self):
        raise AssertionError("it is sent to no other process")


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def processes_of(asked: Noting, out: Path) -> set[str]:
    asked.folder.mkdir()
    compare({"few-shot": in_context(asked)}, a_task(), (2, 4, 6), 2, out=out, jobs=0)
    assert {row["answer"] for row in rows_of(out)} == {"yes"}
    return {noted.name for noted in asked.folder.iterdir()}


@pytest.mark.usefixtures("eight_cores")
def test_a_study_has_as_many_processes_as_their_models_have_room(tmp_path):
    asked = Noting(tmp_path / "asked", memory=0.3 * installed())
    assert len(processes_of(asked, tmp_path / "run")) == 2
    assert str(os.getpid()) not in {noted.name for noted in asked.folder.iterdir()}


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("memory", [float("inf"), 2 * installed()])
def test_a_model_of_which_there_is_to_be_one_is_asked_in_this_process(tmp_path, memory):
    assert processes_of(OneAlone(tmp_path / "asked", memory), tmp_path / "run") == {str(os.getpid())}


def counts_threads(task, examples, seed):
    return always(str(torch.get_num_threads()))


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("jobs", [0, 1])
def test_pytorch_has_the_cores_that_memory_leaves_over_however_many_processes_there_are(tmp_path, jobs):
    asked = Noting(tmp_path, memory=0.3 * installed())
    arms = {"few-shot": in_context(asked), "threads": counts_threads}
    compare(arms, a_task(), (2,), 2, out=tmp_path / "run", jobs=jobs)
    assert {row["answer"] for row in rows_of(tmp_path / "run") if row["arm"] == "threads"} == {"4"}


@pytest.mark.usefixtures("eight_cores")
def test_a_model_made_in_memory_can_be_studied_where_nobody_says_how_many_processes(tmp_path, random_tiny):
    made = Tiny.of(random_tiny.model, random_tiny.tokenizer)
    arms = {"few-shot": in_context(made), "lora": finetuned(made, "lora")}
    results = compare(arms, a_task(), (2,), 2, out=tmp_path / "run", jobs=0)
    assert [point["failed"] for point in results["points"]] == [0, 0]


def test_models_tell_what_a_process_with_them_holds(random_folder):
    weights = sum(each.numel() for each in model(f"tiny:{random_folder}").model.parameters())
    tiny = [model(f"tiny:{random_folder}", cache_mb=megabytes).memory for megabytes in (10, 30)]
    assert tiny[1] - tiny[0] == pytest.approx(20e6, rel=0.01)
    assert tiny[0] > 10e6 + 4 * weights
    pytest.importorskip("transformers")
    assert model(f"hf:{random_folder}").memory == 4 * weights
