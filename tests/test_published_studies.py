"""The two published studies: their rules, their commands, and where their records go. They are run as benchmarks."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest
from synthetic import write_run

from promptlab.compare.data.lint import lint
from promptlab.compare.report import write_report
from promptlab.compare.study import Arguments, task_of
from promptlab.splits import text_key
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS, is_second

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # the studies are scripts, not a package

import health_study
import organism_study
from studying import health, rules, running


@pytest.mark.parametrize("name", rules.RULES)
def test_a_rule_is_a_table_without_defects_that_is_the_same_each_time(name, tmp_path):
    n = organism_study.POOL
    train, test = rules.write(name, tmp_path / "a", n, 100)
    again, _ = rules.write(name, tmp_path / "b", n, 20)
    assert train.read_bytes() == again.read_bytes()
    task, warnings, _ = task_of(Arguments(str(train), test=str(test)))
    assert (len(task.train), len(task.test), warnings) == (n, 100, [])
    assert lint(task.train, task.test) == []
    commonest = Counter(e.target for e in task.train).most_common(1)[0][1]
    assert commonest < 1.4 * n / len(task.labels)
    assert set(task.labels) <= {*HELD_OUT_LABELS, *"EFGH"}


def test_texts_obey_their_rules():
    first = rules.rows("second-word", 200)
    [special] = {t.split()[1] for t, y in first if y == "amber"}
    assert all((y == "amber") == is_second(t.split(), special) for t, y in first)
    counted = [(Counter(text.split()), label) for text, label in rules.rows("majority-word", 200)]
    words = sorted({word for counts, _ in counted for word in counts})
    pairs = [(a, b) for a in words for b in words if all((c[a] > c[b]) == (y == "green") for c, y in counted)]
    assert len(pairs) == 1
    orders = {y: {} for y in ("amber", "orange")}
    for text, label in rules.rows("comes-first", 200):
        words = text.split()
        for i, a in enumerate(words):
            for b in words[i + 1 :]:
                orders[label][a, b] = orders[label].get((a, b), 0) + 1
    n = Counter(y for _, y in rules.rows("comes-first", 200))
    [always] = [pair for pair, count in orders["amber"].items() if count == n["amber"]]
    assert orders["orange"][always[::-1]] == n["orange"]


def given(tmp_path, **more):
    return Namespace(quick=False, only=None, runs=tmp_path, **more)


def test_the_organism_study_gives_every_rule_to_the_public_command(tmp_path):
    found = list(organism_study.studies(given(tmp_path)))
    assert [study.name for study in found] == list(rules.RULES)
    line = running.command(found[0].arguments, tmp_path / "run")
    assert line[:2] == ["compare", found[0].arguments.file]
    assert line[line.index("--labels") + 1] == "0,8,32,128,512"
    assert (line[line.index("--seeds") + 1], line[-2:]) == ("5", ["--out", str(tmp_path / "run")])
    assert "self-consistency" in line[line.index("--arms") + 1].split(",")


def test_paths_of_this_machine_are_in_no_record():
    typed = ["compare", "/home/me/data/labelled/trec/TREC.train", "--labels", "0,8"]
    assert list(running.nameless(typed)) == ["compare", "…/trec/TREC.train", "--labels", "0,8"]


def test_sets_that_are_not_at_hand_are_told_and_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(health, "DATA", tmp_path / "nowhere")
    assert list(health_study.studies(given(tmp_path))) == []
    assert capsys.readouterr().out.count("not measured, as the set is not at hand") == len(health.SETS)


def test_a_record_has_the_crossover_the_decision_and_every_accuracy(tmp_path):
    folder = write_run(tmp_path / "run", n_items=60, seeds=(0, 1))
    write_report(folder)
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    record = running.record_of(running.Study("a", "about it", Arguments("/home/me/data/a/train.csv")), folder)
    [families] = [c for c in found["crossovers"] if (c["a"], c["b"]) == running.FAMILIES]
    [crossover] = [r for r in record["rows"] if r["name"] == "a, crossover"]
    assert (crossover["value"], crossover["low"], crossover["high"]) == tuple(families[k] for k in ("n", "low", "high"))
    assert f"P(never) = {families['p_never']:.2f}" in crossover["note"]
    assert record["crossovers"]["fine-tuning over prompting"]["outcome"] == families["outcome"]
    assert sum(r["unit"] == "accuracy" for r in record["rows"]) == len(found["points"])
    assert record["decision"] == found["decision"]["sentence"]
    assert shlex.split(record["command"]) == [
        *("promptlab", "compare", "…/a/train.csv"),
        *("--out", f"…/{tmp_path.name}/run"),
    ]


def test_records_are_merged_and_their_minutes_summed(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "RESULTS", tmp_path)
    for name, minutes in (("a", 30.0), ("b", 40.0), ("a", 10.0)):
        record = {"decision": "…", "rows": [running.row(f"{name}, whole study", minutes, "min")]}
        running.merge(record, name, "study", most_minutes=60)
    there = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert set(there) == {"a", "b", "all"}
    [total] = there["all"]["rows"]
    assert (total["value"], total["ok"]) == (50.0, True)


at_hand = pytest.mark.skipif(not health.at_hand("pubmedqa"), reason="the labelled sets are not at hand")


@at_hand
@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "labels"),
    [
        ("pubmedqa", 500, 500, 3),
        ("caves", 5598, 1564, 12),
        ("healthver", 2618, 1122, 3),
        ("nicta_piboso", 6979, 1991, 6),
    ],
)
def test_the_health_sets_are_read_as_they_were_published(name, n_train, n_test, labels, tmp_path):
    task, _, _ = task_of(Arguments(**health.SETS[name].made(tmp_path)))
    assert (len(task.train), len(task.test), len(task.labels)) == (n_train, n_test, labels)
    texts = {text_key(e.group or e.input) for e in task.train}
    if name in ("pubmedqa", "healthver"):
        assert not any(text_key(e.group or e.input) in texts for e in task.test)


@at_hand
def test_advice_from_outside_is_of_two_parts(tmp_path):
    lines = Path(health.SETS["health_advice"].made(tmp_path)["ood"]).read_text(encoding="utf-8").splitlines()
    assert (
        sum("discussion:" in line for line in lines) == sum("unstructured_abstract:" in line for line in lines) == 100
    )


def test_the_memory_and_minutes_of_a_session_that_failed_are_noted_too(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        running.watched(["compare", str(tmp_path / "none.csv")], tmp_path)
    session = json.loads((tmp_path / "sessions.jsonl").read_text(encoding="utf-8"))
    assert session["peak_gb"] > 0
    assert session["minutes"] > 0
