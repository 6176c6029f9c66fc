"""Two logs whose answers a judge reads, both ways round, and how far people agree with it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import called
from sklearn.metrics import cohen_kappa_score
from test_logs import inspect_file, inspect_sample

from promptlab import ModelError
from promptlab.cli import main
from promptlab.compare.agreement import agreement
from promptlab.compare.logs import Log, Sample
from promptlab.compare.logs.comparing import compare_logs
from promptlab.compare.logs.judging import METRIC, judged, read_people
from promptlab.errors import DataError, SetupError
from promptlab.testing import Script
from promptlab.types import Request

CRITERION = "The longer answer is better."


def answers(request: Request) -> tuple[str, str]:
    found = re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\n", request.messages[-1].content)
    assert found
    return found[1], found[2]


def longer(request: Request) -> str:
    a, b = answers(request)
    return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"


def log(name: str, said: dict[str, str | None], repeats: int = 1, text: str | None = "What?") -> Log:
    samples = [
        Sample(item, name, {"rouge": 0.5}, repeat=repeat, answer=answer, text=text, place=f"{item}/{repeat}")
        for item, answer in said.items()
        for repeat in range(repeats)
    ]
    return Log(Path(name), "test", name, tuple(samples))


def of(n: int, word: str) -> dict[str, str | None]:
    return {f"i{i}": f"{word} {i}" for i in range(n)}


def compared(a: Log, b: Log, judge=longer, people=None):
    scored_a, scored_b, told = judged(a, b, CRITERION, Script(judge), "script", people)
    return compare_logs(scored_a, scored_b, METRIC), told


def test_the_win_rate_has_an_interval_and_a_paired_test():
    found, told = compared(log("a", of(30, "long words")), log("b", of(30, "short")))
    assert (found.score_a.value, found.wins, found.losses) == (1.0, 30, 0)
    assert 0.8 < found.score_a.low < 1.0
    assert found.p < 1e-6
    assert found.verdict.startswith("a scores higher than b")
    assert (told.bias.judged, told.bias.contradicted, told.bias.first, told.same) == (30, 0, 0.5, 0)


def test_a_judge_that_likes_places_prefers_nobody():
    found, told = compared(log("a", of(30, "x")), log("b", of(30, "y")), judge=lambda request: "A")
    assert (found.score_a.value, found.wins, found.losses, found.ties) == (0.5, 0, 0, 30)
    assert (told.bias.contradicted, told.bias.first) == (30, 1.0)


def test_equal_and_missing_answers_need_no_judge():
    a = log("a", {"same": "one", "nothing": "two", "empty": " ", "open": "three long words"})
    b = log("b", {"same": "one ", "nothing": None, "empty": "four", "open": "five"})
    judge = Script(longer)
    scored_a, scored_b, told = judged(a, b, CRITERION, judge, "script")
    assert [s.scores[METRIC] for s in scored_a.samples] == [0.5, 1.0, 0.0, 1.0]
    assert [s.scores[METRIC] for s in scored_b.samples] == [0.5, 0.0, 1.0, 0.0]
    assert (len(judge.requests), told.same) == (2, 3)


def test_a_judge_that_fails_or_rambles_is_counted_and_is_a_tie():
    def broken(request: Request) -> str | ModelError:
        a, _ = answers(request)
        return ModelError("busy") if a.endswith("0") else "well, it depends"

    found, told = compared(log("a", of(2, "x")), log("b", of(2, "y")), judge=broken)
    assert (told.unread, found.ties) == (4, 2)


def test_repeats_are_judged_one_by_one_and_one_run_is_held_against_each():
    judge = Script(longer)
    a, b, _ = judged(log("a", of(5, "longer")), log("b", of(5, "b"), repeats=3), CRITERION, judge, "script")
    assert len(judge.requests) == 2 * 5 * 3
    assert compare_logs(a, b, METRIC).matched.a.shape == (3, 5)


def test_items_of_one_log_only_are_told():
    found, _ = compared(log("a", of(6, "long")), log("b", of(4, "b")))
    assert found.matched.only_a == ("i4", "i5")
    assert any("only in A" in note for note in found.notes)


def test_what_cannot_be_judged_is_said():
    a, b = log("a", of(3, "x")), log("b", of(3, "y"))
    with pytest.raises(SetupError, match="--criterion"):
        judged(a, b, " ", Script(longer), "script")
    with pytest.raises(DataError, match="No item is in both"):
        judged(a, log("b", {"other": "y"}), CRITERION, Script(longer), "script")
    with pytest.raises(DataError, match="Neither log holds the input of item 'i0'"):
        judged(log("a", of(3, "x"), text=None), log("b", of(3, "y"), text=None), CRITERION, Script(longer), "script")
    with pytest.raises(DataError, match="None of the 1 items that people judged"):
        judged(a, b, CRITERION, Script(longer), "script", {"i9": "A"})


def test_agreement_with_people_is_cohens_kappa():
    a, b = log("a", of(8, "long words")), log("b", of(8, "b") | {"i7": "the longest words of all"})
    people = {f"i{i}": "A" for i in range(6)} | {"i6": "B", "i7": "B"}
    _, told = compared(a, b, people=people)
    of_judge = ["A"] * 7 + ["B"]
    assert told.kappa.value == pytest.approx(cohen_kappa_score(of_judge, [people[f"i{i}"] for i in range(8)]))
    assert told.kappa.low <= told.kappa.value <= told.kappa.high
    assert told.people == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_kappa_is_sklearns_and_its_interval_holds_it(pairs):
    a, b = np.array(pairs).T
    found = agreement(a, b, 3, np.arange(len(a)), draws=200)
    if len({*a.tolist(), *b.tolist()}) == 1:
        assert found is None
        return
    assert found.value == pytest.approx(cohen_kappa_score(a, b))
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_perfect_agreement_on_a_few_items_is_not_certainty():
    codes = np.array([0, 1] * 5)
    found = agreement(codes, codes, 2, np.arange(10))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.2 < found.low < 0.7


def test_kappa_without_items_is_none_and_clusters_widen_it():
    assert agreement(np.array([], int), np.array([], int), 3, np.array([], int)) is None
    rng = np.random.default_rng(0)
    a = np.repeat(rng.integers(0, 2, 40), 5)
    b = np.repeat(rng.integers(0, 2, 40), 5)
    alone, together = (agreement(a, b, 2, clusters) for clusters in (np.arange(200), np.arange(200) // 5))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("item", "preferred"), *rows])
    return path


def test_peoples_table_takes_a_b_and_tie_in_any_case(tmp_path):
    path = table(tmp_path / "people.csv", [("1", "a"), ("2", "TIE"), ("3", ""), ("1", "A")])
    assert read_people(path) == {"1": "A", "2": "tie"}
    with pytest.raises(DataError, match="line 2: preferred is A, B or tie, got 'left'"):
        read_people(table(tmp_path / "odd.csv", [("1", "left"), ("2", "A")]))
    with pytest.raises(DataError, match="twice, with different words"):
        read_people(table(tmp_path / "torn.csv", [("1", "A"), ("1", "B")]))


def written(path: Path, words: dict[str, str]) -> Path:
    score = {"match": {"value": "C", "explanation": ""}}
    samples = [
        inspect_sample(item, scores={"match": score["match"] | {"answer": said}}) for item, said in words.items()
    ]
    return inspect_file(path, samples)


def test_the_command_judges_two_logs_and_pays_for_a_reply_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(Path("a.json"), {f"{i}": f"{i}" for i in range(20)})
    written(Path("b.json"), {f"{i}": "no" for i in range(20)})
    table(Path("people.csv"), [(f"{i}", "A" if i < 15 else "tie") for i in range(20)])
    options = ["--judge", "searches:Judge/calls", "--criterion", CRITERION, "--people", "people.csv", "--out", "run"]
    outs = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["compare", "a.json", "b.json", *options])
        assert ended.value.code == 0
        outs.append(capsys.readouterr().out)
        assert len(called(Path("calls"))) == 40
    assert outs[0] == outs[1]
    assert re.search(r"win rate of A, ties counting half +\| 1\.00 \[0\.\d\d, 1\.00\]", outs[0])
    assert re.search(r"pairs judged both ways round; equal or missing answers +\| 20; 0", outs[0])
    assert "Cohen's κ with people, n = 20" in outs[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--judge", "searches:Judge/calls"], "--criterion"),
        (["--criterion", CRITERION], "leave out --criterion"),
        (["--judge", "searches:Judge/calls", "--criterion", CRITERION, "--metric", "match"], "leave out --metric"),
    ],
)
def test_options_of_a_judge_go_together(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        written(Path(name), {"1": name})
    with pytest.raises(SystemExit) as ended:
        main(["compare", "a.json", "b.json", *options])
    assert (ended.value.code, said in capsys.readouterr().err) == (2, True)
