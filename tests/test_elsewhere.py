"""The same solvers on a test from outside the data set, and tuned models on a general set before and after."""

from __future__ import annotations

import json

import pytest
from studies import ARMS, Asked, a_task, rows_of, says_yes, untimed, write_csv

from promptlab import Example, Task, compare, finetuned, in_context
from promptlab.cli import main
from promptlab.errors import SetupError
from promptlab.learners import ARMS as NAMED

OUTSIDE = [Example(f"{word} from elsewhere", label) for word, label in (("kiwi", "yes"), ("saw", "no"), ("fig", "yes"))]


@pytest.fixture
def task():
    return a_task(16, 12)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batched", [True, False])
def test_items_from_outside_are_asked_too_and_change_nothing_inside(task, tmp_path, batched):
    arms = {**ARMS, "few-shot": in_context(Asked(batched=batched))}
    alone = compare(arms, task, (0, 4), 2, out=tmp_path / "alone")
    both = compare(arms, task, (0, 4), 2, outside=OUTSIDE, out=tmp_path / "both")
    assert [r | {"seconds": 0, "prompt": 0} for r in rows_of(tmp_path / "both")] == [
        r | {"seconds": 0, "prompt": 0} for r in rows_of(tmp_path / "alone")
    ]
    assert both["choice"]["cheapest"] == alone["choice"]["cheapest"]
    assert both["decision"]["sentence"] == alone["decision"]["sentence"]
    [yes] = [o for o in both["outside"] if (o["arm"], o["labels"]) == ("yes", 4)]
    assert (yes["accuracy"]["value"], yes["accuracy"]["n_items"]) == (pytest.approx(2 / 3), 3)
    told = " ".join(both["decision"]["not_established"])
    assert "on the 3 items from outside" in told
    assert "No test from outside this data set was run" in " ".join(alone["decision"]["not_established"])
    assert "What fine-tuning made the model forget was not measured." in alone["decision"]["not_established"]
    assert "Outside this data set" in (tmp_path / "both" / "report.html").read_text()
    assert {row["item"] for row in lines(tmp_path / "both" / "outside.jsonl")} == {f"outside:{i}" for i in (1, 2, 3)}


def test_one_label_is_told_as_one(task, tmp_path):
    found = compare({"few-shot": in_context(Asked(batched=True))}, task, (1,), 1, outside=OUTSIDE, out=tmp_path)
    assert "With 1 label few-shot leads here" in " ".join(found["decision"]["not_established"])


def test_an_interrupted_run_goes_on_outside_too(task, tmp_path):
    arms = {"few-shot": in_context(Asked(batched=True))}
    compare(arms, task, (4,), 1, outside=OUTSIDE, out=tmp_path / "whole")
    compare(arms, task, (4,), 1, outside=OUTSIDE, out=tmp_path / "torn")
    cell = tmp_path / "torn" / "cells" / "few-shot--4--0.jsonl"
    kept = [line for line in cell.read_text().splitlines(keepends=True) if "outside" not in line and "done" not in line]
    cell.write_text("".join(kept))
    compare(arms, task, (4,), 1, outside=OUTSIDE, out=tmp_path / "torn", resume=True)
    assert untimed(tmp_path / "torn") == untimed(tmp_path / "whole")
    assert [r["answer"] for r in lines(tmp_path / "torn" / "outside.jsonl")] == [
        r["answer"] for r in lines(tmp_path / "whole" / "outside.jsonl")
    ]


def test_labels_that_only_stand_outside_are_refused_and_another_test_is_another_study(task, tmp_path):
    with pytest.raises(SetupError, match="labels that the data do not have: fruit"):
        compare({"yes": says_yes}, task, (0,), 1, outside=[Example("kiwi", "fruit")], out=tmp_path / "run")
    compare({"yes": says_yes}, task, (0,), 1, outside=OUTSIDE, out=tmp_path / "run")
    with pytest.raises(SetupError, match="another study"):
        compare({"yes": says_yes}, task, (0,), 1, outside=OUTSIDE[:2], out=tmp_path / "run", resume=True)


def test_what_tuning_forgot_is_the_paired_difference_on_the_general_set(task, random_tiny, tmp_path):
    general = [Example(f"sum {i}", ("odd", "even")[i % 2]) for i in range(8)]
    asked = Task.classification("sums", general, general)
    arms = {"sft": finetuned(random_tiny), "head": finetuned(random_tiny, "head"), "few-shot": in_context(random_tiny)}
    told = []
    results = compare(arms, task, (8,), 2, general=asked, out=tmp_path, on_progress=lambda *at: told.append(at))
    [found] = results["forgotten"]
    assert (found["arm"], found["change"]["n_items"]) == ("sft", 8)
    assert found["change"]["value"] == pytest.approx(found["after"]["value"] - found["before"]["value"])
    before = {
        row["seed"]: row["answer"] for row in lines(tmp_path / "general-before.jsonl") if row["item"] == "general:1"
    }
    assert len({*before.values()}) == 1  # the model as it was is the same whatever the seed
    assert told[-1] == (6 * 12 + 2 * 16, 6 * 12 + 2 * 16)
    assert "What fine-tuning forgot" in (tmp_path / "report.html").read_text()
    assert "fine-tuning changed the accuracy by" in " ".join(results["decision"]["not_established"])


def test_both_files_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "fruit.csv")
    (tmp_path / "far.csv").write_text("text,label\nkiwi,yes\nsaw,no\n")
    options = ["--model", "studies:Slow/calls", "--arms", "majority,few-shot", "--labels", "2", "--seeds", "1"]
    given = ["compare", "fruit.csv", "--ood", "far.csv", "--test-items", "6", *options]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--dry-run"])
    assert not ended.value.code
    assert "take 8 calls that" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*given, "--quiet", "--out", "run"])
    assert not ended.value.code
    assert len(lines(tmp_path / "run" / "outside.jsonl")) == 4
    assert "ood: far.csv" in json.loads((tmp_path / "run" / "run.json").read_text())["files"]
    (tmp_path / "far.csv").write_text("text,label\nkiwi,no\nsaw,no\n")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--resume", "run"])
    assert ended.value.code == 2
    assert "far.csv has changed" in capsys.readouterr().err


def test_files_from_elsewhere_are_held_against_what_is_learnt_from_and_their_odd_rows_told(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "fruit.csv")
    copies = (tmp_path / "fruit.csv").read_text()
    (tmp_path / "far.csv").write_text(copies + "kiwi,\n")
    (tmp_path / "wide.csv").write_text(copies + ",yes\n")
    options = ["--arms", "majority,tfidf", "--labels", "4", "--seeds", "1", "--out", "run"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", "fruit.csv", "--ood", "far.csv", "--general", "wide.csv", *options])
    assert not ended.value.code
    told = capsys.readouterr().err
    assert "far.csv: 1 row(s) with no label left out" in told
    assert "wide.csv: 1 row(s) with no text left out" in told
    n = json.loads((tmp_path / "run" / "run.json").read_text())["n_train"]
    doubts = " ".join(json.loads((tmp_path / "run" / "results.json").read_text())["decision"]["not_established"])
    for name in ("ood", "general"):
        assert f"overlap: {n} of {len(copies.splitlines()) - 1} {name} texts are in train too" in told
        assert f"{name} texts are in train too" in doubts
    assert "was not measured: no arm of this run could be asked the general set after it was tuned." in doubts


def test_every_arm_that_tunes_says_whether_its_model_can_still_be_asked_anything(random_tiny):
    arms = {name: NAMED[name](random_tiny) for name in ("sft", "lora", "dpo", "head", "sft+few-shot")}
    assert [name for name, arm in arms.items() if arm.stays_general] == ["sft", "lora", "dpo", "sft+few-shot"]
