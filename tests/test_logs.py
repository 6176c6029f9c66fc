"""Logs of other tools: read, written, and two of them compared item by item."""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from synthetic import write_run

from promptlab import Answer, Example, Prompt, Task, compare
from promptlab.cli import main
from promptlab.compare.logs import Keys, every_series, inspect_log, lm_eval, read_log
from promptlab.compare.logs.comparing import compare_logs
from promptlab.compare.logs.saying import as_csv, as_markdown
from promptlab.compare.logs.shape import Log, Sample
from promptlab.errors import DataError, SetupError
from promptlab.learners import Solver
from promptlab.learners.solver import Silent

GOLDENS = Path(__file__).parents[2] / "shared" / "data" / "recorded" / "goldens"
HASH = "0" * 64


def line(doc_id: int | None, score: float = 1.0, filter: str = "none", **more: object) -> dict:
    """A line of --log_samples as lm-eval 0.4.13 writes it, of a task that generates."""
    return {
        "doc_id": doc_id,
        "doc": {"q": f"is {doc_id} fruit?", "patient": f"p{(doc_id or 0) // 2}"},
        "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": f"Q: is {doc_id} fruit?", "arg_1": {"until": ["\n"]}}},
        "resps": [["yes, it is"]],
        "filtered_resps": ["yes" if score else "[invalid]"],
        "filter": filter,
        "metrics": ["exact_match"],
        "doc_hash": f"{doc_id:064}" if doc_id is not None else HASH,
        "prompt_hash": HASH,
        "target_hash": HASH,
        "exact_match": score,
    } | more


def written(path: Path, lines: Sequence[Mapping]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def inspect_sample(id: object, value: object = "C", epoch: int = 1, **more: object) -> dict:
    return {
        "id": id,
        "epoch": epoch,
        "input": f"is {id} fruit?",
        "target": "yes",
        "messages": [],
        "output": {"model": "m", "choices": [], "completion": "yes"},
        "scores": {"match": {"value": value, "answer": "yes", "explanation": "yes"}},
        "metadata": {"patient": str(id)[-1]},
        "model_usage": {"m": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}},
        "working_time": 0.5,
    } | more


def inspect_file(path: Path, samples: Sequence[Mapping], **more: object) -> Path:
    head = {"version": 2, "status": "success", "plan": {}, "eval": {"task": "fruit", "model": "m", "created": "2026"}}
    path.write_text(json.dumps({**head, "samples": samples, **more}))
    return path


def log(scores: Mapping[str, float | None], name: str = "a", **more: object) -> Log:
    """A log by the scores of its items."""
    samples = tuple(Sample(item, name, {"acc": score}, place=item, **more) for item, score in scores.items())
    return Log(Path(name), "test", name, samples)


# ---- lm-eval


def test_lm_evals_generated_answers_are_read_filter_by_filter(tmp_path):
    lines = [line(i, float(i % 2), f) for f in ("strict", "flexible") for i in range(4)]
    file = written(tmp_path / "samples_fruit_2026-01-02T03-04-05.678901.jsonl", lines)
    found = read_log(f"{file}:strict", Keys(group="patient"))
    assert (found.tool, found.task, found.series, found.metrics) == ("lm-eval", "fruit", "strict", ("exact_match",))
    assert [sample.item for sample in found.samples] == ["0", "1", "2", "3"]
    assert [sample.group for sample in found.samples] == ["p0", "p0", "p1", "p1"]
    assert [sample.answer for sample in found.samples] == [None, "yes", None, "yes"]
    assert found.samples[0].why == "the filter found no answer"
    assert found.samples[1].text == "Q: is 1 fruit?"
    with pytest.raises(DataError, match=r"holds 2 series: name one, as in .*:strict\. It has: strict, flexible"):
        read_log(str(file))
    with pytest.raises(DataError, match="has no 'loose'"):
        read_log(f"{file}:loose")


def test_a_score_of_lm_eval_that_is_no_number_is_none(tmp_path):
    file = written(tmp_path / "samples_t_2026-01-01T00.jsonl", [line(0, float("inf")), line(1, float("nan")), line(2)])
    assert [sample.scores["exact_match"] for sample in read_log(str(file)).samples] == [None, None, 1.0]


def test_lm_evals_choices_are_read_as_texts(tmp_path):
    asked = {f"gen_args_{i}": {"arg_0": "Q:", "arg_1": choice} for i, choice in enumerate((" no", " yes"))}
    scored = [["-0.1", "False"], ["-0.5", "False"]]
    choice = line(0, target="1", arguments=asked, resps=[[one] for one in scored], filtered_resps=scored)
    [sample] = read_log(str(written(tmp_path / "samples_f_2026-01-02T03-04-05.6.jsonl", [choice]))).samples
    assert (sample.answer, sample.target) == ("no", "yes")


def test_what_lm_eval_reports_is_held_against_its_samples(tmp_path):
    stamp = "2026-01-02T03-04-05.678901"
    file = written(tmp_path / f"samples_fruit_{stamp}.jsonl", [line(i, float(i % 2)) for i in range(4)])
    results = {"results": {"fruit": {"alias": "fruit", "exact_match,none": 0.75, "exact_match_stderr,none": 0.1}}}
    (tmp_path / f"results_{stamp}.json").write_text(json.dumps({**results, "model_name": "m"}))
    found = compare_logs(read_log(str(file)), log({"0": 1.0, "1": 0.0, "2": 1.0, "3": 0.0}))
    assert "lm-eval reports exact_match = 0.7500 for A; its samples give 0.5000." in found.notes
    assert read_log(str(tmp_path / f"results_{stamp}.json")).samples == read_log(str(file)).samples


def test_several_tasks_of_a_folder_are_told_apart_and_a_task_run_twice_has_to_be_named(tmp_path):
    for task in ("a", "b"):
        written(tmp_path / "m" / f"samples_{task}_2026-01-02T03-04-05.6.jsonl", [line(0), line(1)])
    assert [s.item for s in read_log(str(tmp_path)).samples] == ["a/0", "a/1", "b/0", "b/1"]
    written(tmp_path / "n" / "samples_a_2026-01-03T03-04-05.6.jsonl", [line(0)])
    with pytest.raises(DataError, match=r"holds the task a more than once .* Name one of its results_"):
        read_log(str(tmp_path))


def test_samples_without_an_id_are_named_by_their_lines(tmp_path):
    file = written(tmp_path / "samples_f_2026-01-02T03-04-05.6.jsonl", [line(0), line(None), line(2), line(None)])
    with pytest.raises(DataError, match=r"2 samples have no doc_id \(line 2, 4\)"):
        read_log(str(file))
    named = written(tmp_path / "samples_g_2026-01-02T03-04-05.6.jsonl", [line(0), line(None)])
    assert [s.item for s in read_log(str(named), Keys(id="q")).samples] == ["is 0 fruit?", "is None fruit?"]
    with pytest.raises(DataError, match=r"line 1: doc has no field 'uid'; it has q, patient"):
        read_log(str(file), Keys(id="uid"))


def test_a_log_that_is_cut_off_names_the_line_and_speaks_of_no_run(tmp_path):
    file = written(tmp_path / "samples_f_2026-01-02T03-04-05.6.jsonl", [line(0), line(1)])
    file.write_text(file.read_text()[:-20])
    with pytest.raises(DataError, match=r"line 2 is not JSON .* Is it all of the file"):
        read_log(str(file))


def test_an_item_that_stands_there_twice_is_named_with_both_lines(tmp_path):
    file = written(tmp_path / "samples_f_2026-01-02T03-04-05.6.jsonl", [line(0), line(1), line(0)])
    with pytest.raises(DataError, match=r"item '0' stands there twice \(.*line 1, and .*line 3\)"):
        read_log(str(file))


def test_the_means_and_errors_written_for_lm_eval_are_lm_evals():
    path = GOLDENS / "lmeval_0.4.13_metric_goldens.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    goldens = json.loads(path.read_text())
    for name in ("mean_stderr_bin", "mean_stderr_cont"):
        assert lm_eval.mean_stderr(goldens[name]["x"]) == pytest.approx(goldens[name]["stderr"], abs=1e-12)
    assert lm_eval.mean_stderr([1.0]) == "N/A"


def test_recorded_answers_as_lm_eval_scored_them_are_paired_item_by_item(tmp_path):
    path = GOLDENS / "gsm8k_lmeval_0.4.13_even.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["variant"] == "as_recorded"]
    files = {}
    for model in ("6b_finetuning", "175b_finetuning"):
        of_model = [row for row in rows if row["model"] == model]
        told = [
            line(row["i"], float(row[f"{kind}_em"]), kind, target=row["gold"], filtered_resps=[row[kind]])
            for row in of_model
            for kind in ("strict", "flexible")
        ]
        files[model] = written(tmp_path / model / "samples_gsm8k_2026-01-02T03-04-05.6.jsonl", told)
        read = read_log(f"{files[model]}:flexible")
        assert [sample.scores["exact_match"] for sample in read.samples] == [row["is_correct"] for row in of_model]
    found = compare_logs(*(read_log(f"{files[model]}:flexible") for model in ("175b_finetuning", "6b_finetuning")))
    right = {(row["model"], row["i"]): row["is_correct"] for row in rows}
    items = sorted({i for model, i in right if ("6b_finetuning", i) in right and ("175b_finetuning", i) in right})
    wins = sum(right["175b_finetuning", i] > right["6b_finetuning", i] for i in items)
    losses = sum(right["175b_finetuning", i] < right["6b_finetuning", i] for i in items)
    assert (len(found.matched.ids), found.wins, found.losses) == (len(items), wins, losses)
    assert found.p == pytest.approx(scipy.stats.binomtest(wins, wins + losses).pvalue, abs=1e-9)
    assert found.difference.value == pytest.approx((wins - losses) / len(items))
    assert "scores higher than" in found.verdict


# ---- inspect


def test_inspects_scores_are_read_as_inspect_counts_them(tmp_path):
    values = ["C", "I", "P", "N", 0.25, True, "yes", "0.5", "?", float("nan")]
    samples = [inspect_sample(f"s{i}", value) for i, value in enumerate(values)]
    found = read_log(str(inspect_file(tmp_path / "log.json", samples)), Keys(group="patient"))
    assert [s.scores["match"] for s in found.samples] == [1.0, 0.0, 0.5, 0.0, 0.25, 1.0, 1.0, 0.5, None, None]
    first = found.samples[0]
    assert (first.item, first.group, first.target, first.answer, first.text) == (
        "s0",
        "0",
        "yes",
        "yes",
        "is s0 fruit?",
    )
    assert (first.input_tokens, first.output_tokens, first.seconds) == (3, 2, 0.5)


@pytest.mark.parametrize("value", ["nan", "inf", float("inf"), float("nan"), 10**400])
def test_a_score_that_is_no_number_is_none_and_a_mean_of_such_is_not_reported(tmp_path, value):
    metrics = {"accuracy": {"value": None}, "mean": {"value": value}}
    results = {"scores": [{"name": "match", "scorer": "match", "metrics": metrics}]}
    samples = [inspect_sample("x", value), inspect_sample("y")]
    a = read_log(str(inspect_file(tmp_path / "log.json", samples, results=results)))
    assert [sample.scores["match"] for sample in a.samples] == [None, 1.0]
    found = compare_logs(a, log({"x": 1.0, "y": 1.0}, "b"))
    assert found.score_a.value == 0.5
    assert any("1 answers of A have no score and count as 0.00" in note for note in found.notes)


def test_items_are_grouped_by_what_inspects_clustered_errors_go_by(tmp_path):
    metrics = {"accuracy": {"value": 1.0, "params": {}}, "stderr": {"value": 0.1, "params": {"cluster": "patient"}}}
    results = {"scores": [{"name": "match", "scorer": "match", "metrics": metrics}]}
    file = inspect_file(tmp_path / "log.json", [inspect_sample("a1"), inspect_sample("b1")], results=results)
    assert [sample.group for sample in read_log(str(file)).samples] == ["1", "1"]
    assert read_log(str(file)).reported == {"match": 1.0}


def test_inspects_epochs_are_repeats_and_mappings_of_scores_several_metrics(tmp_path):
    both = [inspect_sample("x", {"a": 1, "b": "I"}, epoch=epoch) for epoch in (1, 2)]
    found = read_log(str(inspect_file(tmp_path / "log.json", both)))
    assert [(s.repeat, s.scores) for s in found.samples] == [(i, {"match.a": 1.0, "match.b": 0.0}) for i in (0, 1)]


def test_inspects_texts_that_stand_among_the_attachments_are_found(tmp_path):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "attachment://ab"}]
    samples = [inspect_sample("x", input=chat, attachments={"ab": "a long text"})]
    assert read_log(str(inspect_file(tmp_path / "log.json", samples))).samples[0].text == "a long text"


def test_an_answer_that_inspect_did_not_score_says_why(tmp_path):
    lost = inspect_sample("y", scores={}, error={"message": "the server closed the connection"})
    a = read_log(str(inspect_file(tmp_path / "log.json", [inspect_sample("x"), lost])))
    found = compare_logs(a, log({"x": 1.0, "y": 1.0}, "b"))
    assert found.score_a.value == 0.5
    assert any("1 answers of A have no score and count as 0.00" in note for note in found.notes)
    assert any("the server closed the connection" in note for note in found.notes)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "holds no samples: it was written with --no-log-samples"),
        ([inspect_sample("x"), inspect_sample(None)], r"1 samples have no id \(sample 2\)"),
        ([inspect_sample("x"), inspect_sample("x")], r"item 'x' stands there twice \(sample 1, and sample 2\)"),
    ],
)
def test_a_log_of_inspect_that_cannot_be_matched_is_named(tmp_path, samples, said):
    with pytest.raises(DataError, match=said):
        read_log(str(inspect_file(tmp_path / "log.json", samples)))


@pytest.mark.parametrize(
    ("samples", "about"),
    [
        (["x"], {}),
        ([None], {}),
        (5, {}),
        ([{"id": "x", "scores": ["C"]}], {}),
        ([{"id": "x", "scores": {"match": 1}}], {}),
        ([{"id": "x", "epoch": "first"}], {}),
        ([inspect_sample("x")], {"results": {"scores": [{"name": "match"}]}}),
        ([inspect_sample("x")], {"results": ["x"]}),
        ([inspect_sample("x")], {"eval": ["task"]}),
    ],
)
def test_a_damaged_log_of_inspect_is_one_line(tmp_path, capsys, samples, about):
    sound = inspect_file(tmp_path / "b.json", [inspect_sample("x")])
    broken = tmp_path / "a.json"
    broken.write_text(json.dumps({**json.loads(sound.read_text()), "samples": samples, **about}))
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(broken), str(sound)])
    assert ended.value.code == 2
    assert re.fullmatch(r".*a\.json is damaged, or not as inspect writes a log \(.*\)\.\n", capsys.readouterr().err)


def test_an_eval_that_did_not_end_or_is_no_zip_file_is_named(tmp_path):
    broken = tmp_path / "broken.eval"
    broken.write_text("{}")
    with pytest.raises(DataError, match="is no zip file"):
        read_log(str(broken))
    with zipfile.ZipFile(tmp_path / "open.eval", "w") as archive:
        archive.writestr("samples/x_epoch_1.json", json.dumps(inspect_sample("x")))
    with pytest.raises(DataError, match="its evaluation did not end"):
        read_log(str(tmp_path / "open.eval"))


def zstd_eval(path: Path, pack) -> None:
    """An .eval as inspect packs it: zip entries of method 93, which the zip module of this Python may not write."""
    head = {"version": 2, "eval": {"task": "fruit"}, "plan": {}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in (("samples/x_epoch_1.json", inspect_sample("x")), ("header.json", head)):
            archive.writestr(name, pack(json.dumps(value).encode()))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # the method, in both kinds of header
        place = raw.find(signature)
        while place >= 0:
            raw[place + offset : place + offset + 2] = (93).to_bytes(2, "little")
            place = raw.find(signature, place + 4)
    path.write_bytes(raw)


def test_an_eval_packed_with_zstandard_is_read(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    zstd_eval(tmp_path / "log.eval", zstandard.ZstdCompressor().compress)
    assert read_log(str(tmp_path / "log.eval")).samples[0].item == "x"


def test_where_nothing_unpacks_zstandard_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    zstd_eval(tmp_path / "log.eval", lambda text: text)
    if sys.version_info < (3, 14):
        with pytest.raises(SetupError, match=r"Install promptlab\[logs\], or rewrite it with: inspect log convert"):
            read_log(str(tmp_path / "log.eval"))


# ---- a run of one's own, and the way there and back


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), n_items=60, seeds=(0, 1))


def test_a_run_has_a_series_for_each_arm_and_number_of_labels(run):
    names = [found.series for found in every_series(run)]
    assert {"few-shot@0", "few-shot@8", "lora@128", "tfidf@32"} <= set(names)
    found = read_log(f"{run}:few-shot@8")
    assert (found.metrics, len(found.samples)) == (("correct", "writing"), 120)
    sample = found.samples[0]
    assert sample.text is not None
    assert sample.text.startswith("Sentence: ")
    assert (sample.group, sample.repeat, sample.output_tokens) == ("pmid-0", 0, 2)


@pytest.mark.parametrize("name", ["log.eval", "log.json"])
def test_a_log_written_for_inspect_reads_back_the_same(run, tmp_path, name):
    a = read_log(f"{run}:few-shot@8")
    b = read_log(str(inspect_log.write(a, tmp_path / name, "2026-01-01T10:00:00+00:00")))
    plain = [(s.item, s.repeat, s.target, s.group, s.text, dict(s.scores)) for s in a.samples]
    assert [(s.item, s.repeat, s.target, s.group, s.text, dict(s.scores)) for s in b.samples] == plain
    assert not compare_logs(a, b).notes
    assert "score the same on every item" in compare_logs(a, b).verdict


def test_a_log_written_for_lm_eval_reads_back_the_same(run, tmp_path):
    a = read_log(f"{run}:few-shot@8")
    paths = lm_eval.write([("a", a)], tmp_path, "2026-01-01T10:00:00+00:00")
    assert [path.name for path in paths] == [
        "samples_a_2026-01-01T10-00-00.jsonl",
        "results_2026-01-01T10-00-00.json",
    ]
    b = read_log(str(paths[0]))
    plain = [(s.item, s.repeat, s.target, s.group, s.answer, s.text, dict(s.scores)) for s in a.samples]
    assert [(s.item, s.repeat, s.target, s.group, s.answer, s.text, dict(s.scores)) for s in b.samples] == plain
    first = json.loads(paths[0].read_text().splitlines()[0])
    keys = set(line(0)) - {"exact_match"}
    assert keys <= set(first)


# ---- two logs


def test_the_difference_is_that_of_the_studys_statistics(run):
    from promptlab.compare import statistics
    from promptlab.compare.cells import read_cells

    found = compare_logs(read_log(f"{run}:lora@128"), read_log(f"{run}:few-shot@128"))
    items, cells = read_cells(run)
    a, b = (next(c for c in cells if (c.arm, c.labels) == (arm, 128)).correct for arm in ("lora", "few-shot"))
    resamples = statistics.resample(items.n_clusters)
    assert found.difference == statistics.paired_difference(a, b, items.clusters, resamples)
    assert (found.wins, found.losses, found.ties) == statistics.votes(a, b, items.clusters, items.n_clusters)
    assert found.matched.n_clusters == 30
    assert found.test == "exact permutation test"


@pytest.mark.parametrize("group", [None, "clinic {}"])
def test_copies_of_a_text_are_one_cluster_as_in_the_study(tmp_path, group):
    from studies import always

    texts = [f"note {i // 5}" for i in range(30)]  # 6 texts, 5 copies each; groups, if any, cut across them
    labels = ["yes" if i < 20 else "no" for i in range(30)]
    groups = [group and group.format(i % 5 if i < 5 else i) for i in range(30)]
    test = [Example(text, label, group=of) for text, label, of in zip(texts, labels, groups, strict=True)]
    task = Task.classification("notes", [Example("a", "yes", "1"), Example("b", "no", "2")], test)
    arms = {"yes": lambda *_: always("yes"), "no": lambda *_: always("no")}
    study = compare(arms, task, [2], 1, out=tmp_path / "run")
    a, b = (read_log(f"{tmp_path / 'run'}:{arm}@2") for arm in arms)
    found = compare_logs(a, b)
    assert found.matched.n_clusters == 6 == study["n_clusters"]
    assert not found.difference.excludes_zero
    assert [sample.group for sample in a.samples] == groups
    stamp = "2026-01-01T10:00:00+00:00"
    copies = [read_log(str(inspect_log.write(log, tmp_path / f"{log.series}.eval", stamp))) for log in (a, b)]
    copies += [read_log(str(lm_eval.write([("t", log)], tmp_path / log.series, stamp)[0])) for log in (a, b)]
    for one, other in (copies[:2], copies[2:], (a, copies[3])):
        assert compare_logs(one, other).difference == found.difference
        assert [sample.group for sample in one.samples] == groups


def test_the_clusters_of_two_studies_of_other_items_are_not_taken_for_one_another():
    both = {str(i): float(i % 2) for i in range(8)}
    a = Log(Path("a"), "test", "a", tuple(Sample(i, "a", {"acc": s}, cluster=int(i) // 2) for i, s in both.items()))
    b = Log(Path("b"), "test", "b", tuple(Sample(i, "b", {"acc": 1 - s}, cluster=9) for i, s in both.items()))
    alone = replace(b, samples=tuple(replace(s, cluster=(int(s.item) + 1) // 2) for s in b.samples[1:7]))
    assert compare_logs(a, b).matched.n_clusters == 1
    assert compare_logs(a, alone).matched.n_clusters == 1  # 1-2 and 3-4 in B's study, 2-3 and 4-5 in A's
    apart = replace(b, samples=tuple(replace(s, cluster=7 - int(s.item)) for s in b.samples))
    assert compare_logs(a, apart).matched.n_clusters == 4


def test_a_winner_is_named_only_where_the_interval_leaves_out_zero():
    items = [str(i) for i in range(200)]
    a = log({i: float(int(i) % 10 < 8) for i in items}, "a")
    b = log({i: float(int(i) % 10 < 5) for i in items}, "b")
    found = compare_logs(a, b)
    assert found.verdict.startswith("a scores higher than b, by +0.30 [0.2")
    assert found.test == "exact McNemar test"
    assert "(p < 1e-15, exact McNemar test; n = 200 shared items)" in found.verdict
    assert (found.wins, found.losses) == (60, 0)
    assert compare_logs(b, a).verdict.startswith("a scores higher than b, by +0.30 [0.2")
    close = compare_logs(a, log({i: float((int(i) + 1) % 10 < 8) for i in items}, "c"))
    assert close.verdict.startswith("a and c are not told apart: 0.00 [−0.")
    assert "has less than an 80 % chance of being seen" in close.verdict
    same = compare_logs(a, log({i: float(int(i) % 10 < 8) for i in items}, "d"))
    assert same.verdict == "a and d score the same on every item (n = 200 shared items)."


def test_what_can_be_seen_counts_the_spread_between_repeats_too():
    def repeated(name: str, *repeats: Mapping[str, float]) -> Log:
        samples = [replace(s, repeat=n) for n, scores in enumerate(repeats) for s in log(scores, name).samples]
        return Log(Path(name), "test", name, tuple(samples))

    items = [f"i{i}" for i in range(60)]
    well, middling, badly = ({item: float(n % 6 > wrong) for n, item in enumerate(items)} for wrong in range(3))
    once = compare_logs(repeated("a", well), repeated("b", middling))
    twice = compare_logs(repeated("a", well, badly), repeated("b", middling, middling))
    assert once.difference.excludes_zero
    assert not twice.difference.excludes_zero  # as one repeat is for A and the other for B
    assert 1 >= twice.detectable >= (twice.difference.high - twice.difference.low) / 2 > once.detectable


def test_items_that_one_log_lacks_are_counted_and_named_and_their_effect_is_shown():
    a = log({str(i): 1.0 for i in range(30)}, "a")
    b = log({str(i): float(i % 2) for i in range(10, 50)}, "b")
    found = compare_logs(a, b)
    assert len(found.matched.ids) == 20
    assert "10 items are only in A, or not whole in B (such as '0', '1', '2'): left out." in found.notes
    assert "20 items are only in B, or not whole in A (such as '30', '31', '32'): left out." in found.notes
    assert found.if_missing_are_wrong is not None
    assert found.if_missing_are_wrong.n_items == 50
    assert found.if_missing_are_wrong.value == pytest.approx((30 - 20) / 50)


def test_logs_that_share_nothing_or_hold_other_documents_are_refused():
    with pytest.raises(DataError, match=r"No item is in both logs: 'x' in a, 'y' in b\. Name a field"):
        compare_logs(log({"x": 1.0}, "a"), log({"y": 1.0}, "b"))
    with pytest.raises(DataError, match=r"1 of 1 shared ids name different documents in a and b"):
        compare_logs(log({"x": 1.0}, "a", content="1"), log({"x": 1.0}, "b", content="2"))


def test_another_target_under_the_same_id_is_pointed_out():
    found = compare_logs(log({"x": 1.0, "y": 0.0}, "a", target="Yes "), log({"x": 1.0, "y": 0.0}, "b", target="no"))
    assert any("2 of 2 shared items have another target in B, such as 'x', 'y'" in note for note in found.notes)
    alike = compare_logs(log({"x": 1.0, "y": 0.0}, "a", target="Yes "), log({"x": 1.0, "y": 0.0}, "b", target="yes"))
    assert not alike.notes


def test_scores_of_other_tools_may_be_named_apart():
    a = log({"x": 1.0, "y": 0.0}, "a")
    samples = tuple(Sample(item, "b", {"f1": 0.5, "em": 0.0}, place=item) for item in ("x", "y"))
    b = Log(Path("b"), "test", "b", samples)
    assert (compare_logs(a, b).metric_a, compare_logs(a, b).metric_b) == ("acc", "f1")
    found = compare_logs(a, b, "acc,em")
    assert found.metric_b == "em"
    assert "A is scored by acc, B by em: part of a difference may be the scorers'." in found.notes
    with pytest.raises(DataError, match=r"b has no scores 'acc'; it has f1, em\. .* --metric IN_A,IN_B"):
        compare_logs(a, b, "acc")


def test_scores_between_right_and_wrong_are_tested_by_how_far_they_are_apart():
    rng = np.random.default_rng(5)
    a = log({str(i): float(x) for i, x in enumerate(rng.random(40))}, "a")
    b = log({str(i): float(x) for i, x in enumerate(rng.random(40) * 0.7)}, "b")
    found = compare_logs(a, b)
    gaps = found.matched.a[0] - found.matched.b[0]
    expected = scipy.stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    )
    assert found.test == "sign-flip permutation test"
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    assert found.difference.value == pytest.approx(gaps.mean())


scores = st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=3, max_size=12)


@given(scores, st.floats(0.5, 20), st.floats(-30, 30))
def test_scores_on_any_scale_give_the_same_comparison_on_that_scale(pairs, width, start):
    def of(place, move):
        return log({str(i): move(pair[place]) for i, pair in enumerate(pairs)}, "ab"[place])

    plain = compare_logs(of(0, float), of(1, float), draws=50)
    moved = compare_logs(of(0, lambda x: start + width * x), of(1, lambda x: start + width * x), draws=50)
    if not all(0 <= x <= 1 for pair in pairs for x in pair) and plain.wins == moved.wins:  # unit scores keep [0, 1]
        assert moved.difference.value == pytest.approx(width * plain.difference.value, abs=1e-6)
    assert plain.difference.low <= plain.difference.value <= plain.difference.high
    assert plain.wins + plain.losses + plain.ties == len(pairs)


def test_a_log_run_once_is_held_against_every_repeat_of_the_other():
    once = log({str(i): float(i % 3 > 0) for i in range(30)}, "a")
    more = tuple(
        Sample(str(i), "b", {"acc": float((i + r) % 2)}, repeat=r, place=f"{i} {r}") for r in (3, 4) for i in range(30)
    )
    found = compare_logs(once, Log(Path("b"), "test", "b", more))
    assert found.matched.a.shape == found.matched.b.shape == (2, 30)
    assert any(note.startswith("A was run once, the other 2 times") for note in found.notes)
    assert found.difference.value == pytest.approx(2 / 3 - 1 / 2)


def test_the_table_and_the_csv_hold_the_discordant_items(run):
    found = compare_logs(read_log(f"{run}:lora@128"), read_log(f"{run}:few-shot@128"))
    text = as_markdown(found)
    assert text.startswith("**lora@128")
    assert "| advice " in text
    assert "A is ahead on" in text
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["item"] for row in rows] == list(found.matched.ids)
    apart = [row["item"] for row in rows if row["score_a"] != row["score_b"]]
    assert sorted(apart) == sorted(one.item for one in found.discordant)


NAMES = ("<img src=x onerror=alert(1)>", "a | b", "`<b>`", "a\\<i>", "[a](javascript:b)", "&lt;p&gt;", "a\n\nb")


@pytest.mark.parametrize("name", NAMES)
def test_a_renderer_of_markdown_shows_a_name_as_it_is(name):
    one, other = ({str(i): float(i % n) for i in range(12)} for n in (2, 3))
    text = as_markdown(compare_logs(log(one, name), log(other, "b"), draws=50))
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert f"<td>{html.escape(' '.join(name.split()), quote=False)}</td>" in page
    assert not re.search(r"<(img|a|b|i|code)\b", page)


# ---- the command line


@pytest.fixture
def promptlab(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def typed(*command):
        with pytest.raises(SystemExit) as ended:
            main([str(part) for part in command])
        return ended.value.code, *capsys.readouterr()

    return typed


def test_two_logs_are_compared_and_written_for_other_tools(promptlab, run, tmp_path):
    a, b = f"{run}:lora@128", f"{run}:few-shot@128"
    code, said, _ = promptlab("compare", a, b, "--quiet")
    assert (code, said.count("\n")) == (0, 1)
    for export, item in (("csv", "s0001"), ("markdown", "s0053")):
        assert promptlab("compare", a, b, "--export", export, f"{export}.out")[0] == 0
        assert item in Path(f"{export}.out").read_text()
    stamp = "2026-01-01T10-00-00"
    for export, files in (("inspect", "{}.eval"), ("lm-eval", "samples_{}_" + stamp + ".jsonl")):
        assert promptlab("compare", a, b, "--export", export, export)[0] == 0
        again = promptlab("compare", *(Path(export, files.format(name)) for name in "ab"), "--quiet")
        assert again[0] == 0
        assert again[1].partition("apart: ")[2] == said.partition("apart: ")[2]


def test_two_runs_whose_targets_are_numbers_are_compared(promptlab, tmp_path):
    def adds(mistakes: int):
        async def program(question):
            number = int(question.removeprefix("1 + "))
            return Answer(number + 1 + (number < mistakes))

        return lambda task, examples, seed: Solver(program, Silent())

    train, test = ([Example(f"1 + {n}", n + 1, f"{n}") for n in numbers] for numbers in (range(90, 95), range(30)))
    task = Task("sums", Prompt("Add."), train=tuple(train), test=tuple(test))
    for name, mistakes in (("a", 3), ("b", 5)):
        compare({"adds": adds(mistakes)}, task, (0,), 1, out=tmp_path / name)
    code, said, _ = promptlab("compare", tmp_path / "a", tmp_path / "b", "--quiet")
    assert code == 0
    assert "n = 30 shared items" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compare a.json b.json --labels 0", "compares two logs, and runs nothing: leave out --labels."),
        ("compare a.json --metric acc", "with one file is a study; these are of two logs: leave out --metric."),
        ("compare a.json b.json", "There is no log a.json. Logs are a promptlab run's folder"),
        ("compare a.json b.json --export csv x --export markdown y", "--export is given 2 times, and one is written"),
        ("report . --export inspect x --export lm-eval y", "--export is given 2 times, and one is written"),
        ("compare a.json b.json --export pdf x", "--export takes one of csv, markdown, lm-eval, inspect"),
    ],
)
def test_wrong_use_of_logs_is_one_line_and_exit_code_2(promptlab, command, said):
    code, out, err = promptlab(*command.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_fields_are_not_named_where_both_logs_are_runs_which_have_theirs(promptlab, run):
    a, b = f"{run}:lora@128", f"{run}:few-shot@128"
    for options, told in ((["--group", "nope"], "--group"), (["--id", "x", "--group", "y"], "--id and --group")):
        code, out, err = promptlab("compare", a, b, *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.endswith(f"leave out {told}.\n")


def test_a_runs_tables_and_logs_are_written_beside_its_report(promptlab, run):
    more = ("--markdown", "t.md", "--csv", "t.csv", "--export", "inspect", "logs")
    assert promptlab("report", run, *more)[0] == 0
    results = json.loads((run / "results.json").read_text())
    text = Path("t.md").read_text()
    assert text.startswith("**")
    assert "With 8 labels:" in text
    rows = list(csv.DictReader(io.StringIO(Path("t.csv").read_text())))
    assert [float(row["accuracy"]) for row in rows] == [point["accuracy"]["value"] for point in results["points"]]
    assert len(list(Path("logs").glob("*.eval"))) == len(results["points"])
