"""A study: who learns from what, what is written down, and what becomes of failures."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field, RootModel
from studies import (
    ARMS,
    Asked,
    InFlight,
    a_task,
    always,
    counts_threads,
    dies_once,
    killed_study,
    refuses,
    rows_of,
    says_yes,
    untimed,
)

from promptlab import Answer, Example, ModelError, Reply, Task, Usage, compare, finetuned, in_context, run, score
from promptlab.compare.logs import read_log
from promptlab.compare.runner import locked
from promptlab.errors import PromptlabError, SetupError
from promptlab.learners import Solver
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.solver import Silent
from promptlab.prompt import Prompt
from promptlab.strategies import zero_shot
from promptlab.testing import Script
from promptlab.tiny.train import Batch, Recipe, next_token_loss, train


@pytest.fixture
def task() -> Task:
    return a_task()


def arms(**more):
    return {**ARMS, "few-shot": in_context(Asked(batched=True)), **more}


def always_returning(value, sleeps=False) -> Solver:
    async def program(question):
        if sleeps:
            await asyncio.sleep(0)
        return value

    return Solver(program, Silent())


@dataclass(frozen=True)
class OfFamily:
    family: str

    def __call__(self, task, examples, seed):
        return always("yes")


# ---- the same study gives the same rows


def test_two_runs_give_the_same_rows_whatever_the_number_of_jobs(task, random_tiny, tmp_path):
    given = arms(engine=in_context(random_tiny, "nearest", calibrated=True))
    for jobs in (1, 2):
        compare(given, task, (2, 6), 1, out=tmp_path / str(jobs), jobs=jobs)
    assert untimed(tmp_path / "1") == untimed(tmp_path / "2")
    assert len(rows_of(tmp_path / "1")) == 5 * 2 * len(task.test)


def test_sums_are_made_in_one_thread_whatever_the_environment_says(task, random_tiny, tmp_path, monkeypatch):
    import torch

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    given = {"tfidf": TfidfLogistic(), "head": finetuned(random_tiny, "head"), "threads": counts_threads}
    try:
        for jobs in (1, 2):
            compare(given, task, (6,), 1, out=tmp_path / str(jobs), jobs=jobs)
            assert torch.get_num_threads() == 2
            assert "OMP_NUM_THREADS" not in os.environ
    finally:
        torch.set_num_threads(before)
    assert untimed(tmp_path / "1") == untimed(tmp_path / "2")
    assert {row["answer"] for row in rows_of(tmp_path / "1") if row["arm"] == "threads"} == {"1"}


def test_the_hash_seed_of_the_process_changes_nothing(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    compare(*killed_study(tmp_path / "calls"), out=here)
    command = [sys.executable, Path(__file__).with_name("studies.py"), there, tmp_path / "other calls"]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "1234"}, check=True)
    assert untimed(here) == untimed(there)


def test_a_hosted_model_gives_the_rows_that_an_engine_gives(task, tmp_path):
    for name, batched in (("engine", True), ("hosted", False)):
        compare({"few-shot": in_context(Asked(batched=batched))}, task, (0, 4), 2, out=tmp_path / name)
    assert untimed(tmp_path / "engine") == untimed(tmp_path / "hosted")


def test_requests_of_a_hosted_model_are_in_flight_together(tmp_path):
    model = InFlight(delay_s=0.2)  # long enough for a busy machine
    compare({"few-shot": in_context(model)}, a_task(n_test=40), (0,), 1, out=tmp_path / "run")
    assert model.most > 20


def test_one_slow_answer_of_a_hosted_model_holds_no_other_up(tmp_path):
    """The first item's reply comes only when the last one has been asked."""
    last_asked = threading.Event()

    class Waits(InFlight):
        def generate(self, requests):
            text = requests[0].messages[-1].content
            if text.startswith("test 99 "):
                last_asked.set()
            said = not text.startswith("test 0 ") or last_asked.wait(20)
            return [Reply("yes" if said else "no") for _ in requests]

    compare({"few-shot": in_context(Waits())}, a_task(n_test=100), (0,), 1, out=tmp_path / "run")
    assert rows_of(tmp_path / "run")[0]["answer"] == "yes"


def test_tokens_are_those_behind_the_answer(task, tmp_path):
    """What the model says freely beside the scored labels is not part of the method's cost."""

    class Counts(Script):
        def generate(self, requests):
            return [
                Reply(scores=(-1.0, -2.0), usage=Usage(10)) if r.continuations else Reply("no", usage=Usage(7, 0, 3))
                for r in requests
            ]

    scored, written = Counts(scores=True), Counts()
    arms = {
        "scored": in_context(scored),
        "calibrated": in_context(scored, calibrated=True),
        "written": in_context(written),
    }
    compare(arms, task, (0,), 1, out=tmp_path / "run")
    took = {(row["arm"], row["input_tokens"], row["output_tokens"]) for row in rows_of(tmp_path / "run")}
    assert took == {("scored", 10, 0), ("calibrated", 40, 0), ("written", 7, 3)}


# ---- who learns from what


def test_all_arms_get_the_same_examples_and_budgets_are_nested(task, tmp_path):
    got = {}

    def spy(name):
        def learner(task, examples, seed):
            got[name, len(examples), seed] = examples
            return always("yes")

        return learner

    compare({"a": spy("a"), "b": spy("b")}, task, (0, 4, 10), 2, out=tmp_path / "run")
    assert got["a", 0, 0] == got["b", 0, 1] == ()
    for seed in (0, 1):
        for k in (4, 10):
            assert got["a", k, seed] == got["b", k, seed]
        assert got["a", 4, seed] == got["a", 10, seed][:4]
    assert got["a", 10, 0] != got["a", 10, 1]


def test_learners_see_their_examples_and_no_other_label(task, tmp_path):
    def learner(task, examples, seed):
        assert task.train == tuple(examples)
        assert {e.target for e in task.test} == {None}
        return always("yes")

    results = compare({"nosy": learner}, task, (0, 4), 1, out=tmp_path / "run")
    assert [p["failed"] for p in results["points"]] == [0, 0]


def test_programs_see_inputs_only(task, tmp_path):
    seen = []

    def learner(task, examples, seed):
        async def program(question):
            seen.append(question)
            return Answer("yes")

        return Solver(program, Silent())

    compare({"a": learner}, task, (0,), 1, out=tmp_path / "run")
    assert seen == [e.input for e in task.test]


def test_test_labels_decide_nothing_before_the_rows(task, tmp_path):
    other = {"yes": "no", "no": "yes"}
    turned = replace(task, test=tuple(replace(e, target=other[e.target]) for e in task.test))
    for name, given in (("as is", task), ("turned", turned)):
        compare(arms(), given, (4,), 1, out=tmp_path / name)
    verdicts = [[(r["arm"], r["correct"]) for r in rows_of(tmp_path / name)] for name in ("as is", "turned")]
    for file in sorted((tmp_path / "as is" / "cells").iterdir()):
        one, two = (
            [strip(json.loads(line)) for line in (tmp_path / name / "cells" / file.name).read_text().splitlines()]
            for name in ("as is", "turned")
        )
        assert one == two
    assert verdicts[0] != verdicts[1]


def strip(line):
    """A cell's line without its times."""
    [(kind, value)] = line.items()
    return kind, {k: v for k, v in value.items() if "seconds" not in k and k != "peak_bytes"}


def test_an_arm_that_needs_labels_has_no_cell_without_them(task, tmp_path):
    results = compare(arms(), task, (0, 2), 1, out=tmp_path / "run")
    assert {p["arm"] for p in results["points"] if p["labels"] == 0} == {"yes", "few-shot"}
    with pytest.raises(SetupError, match="Every arm of this study needs labels"):
        compare({"majority": Majority()}, task, (0,), 1, out=tmp_path / "none")


def test_fewer_labels_than_classes_are_enough_to_run(tmp_path):
    examples = [Example(f"text number {i}", f"class {i % 4}", f"e{i}") for i in range(24)]
    results = compare(arms(), Task.classification("t", examples[:12], examples[12:]), (1, 2), 1, out=tmp_path / "run")
    assert all(p["failed"] == 0 for p in results["points"] if p["arm"] != "few-shot")


def test_without_labels_an_arm_that_draws_nothing_runs_once_and_one_that_samples_with_every_seed(
    task, random_tiny, tmp_path
):
    sampled = partial(zero_shot, temperature=1.0, max_tokens=8)
    sampled.__name__ = "sampled"
    given = {"greedy": in_context(random_tiny), "sampled": in_context(random_tiny, strategy=sampled), "yes": says_yes}
    compare(given, task, (0,), 2, out=tmp_path / "run")
    cells = Counter((row["arm"], row["seed"]) for row in rows_of(tmp_path / "run"))
    n = len(task.test)
    assert cells == {("greedy", 0): n, ("sampled", 0): n, ("sampled", 1): n, ("yes", 0): n, ("yes", 1): n}


def test_what_a_strategy_samples_is_new_for_every_question_and_seed(random_tiny):
    task, said = a_task(), {}
    sampled = partial(zero_shot, temperature=1.0, max_tokens=8)
    for seed in (0, 1):
        solver = in_context(random_tiny, strategy=sampled)(replace(task, prompt=Prompt()), (), seed)
        said[seed] = [a.text for a in run([solver.program(e.input) for e in task.test], random_tiny)]
        again = [a.text for a in run([solver.program(e.input) for e in task.test], random_tiny)]
        assert again == said[seed]
    assert said[0] != said[1]
    asked = Script(lambda request: "yes")
    solver = in_context(asked, strategy=zero_shot)(task, (), 0)
    run([solver.program(e.input) for e in task.test], asked)
    assert len({request.seed for request in asked.requests}) == len(task.test)


# ---- failures are rows with a reason


def test_a_failed_request_is_a_row_without_an_answer_and_counts(task, tmp_path):
    results = compare({"few-shot": in_context(Asked()), "yes": says_yes}, task, (0, 4), 2, out=tmp_path / "run")
    failed = [row for row in rows_of(tmp_path / "run") if row["error"]]
    assert failed
    assert {(row["answer"], row["correct"], row["error"]) for row in failed} == {
        (None, False, "ModelError: the server is busy")
    }
    points = [p for p in results["points"] if p["arm"] == "few-shot"]
    n_rows = {0: len(task.test), 4: 2 * len(task.test)}  # without labels nothing is drawn: one seed is enough
    assert sum(p["failed"] * n_rows[p["labels"]] for p in points) == pytest.approx(len(failed))
    assert {p["accuracy"]["n_items"] for p in points} == {len(task.test)}


def test_a_learner_that_raises_costs_its_own_cell_only(task, tmp_path):
    def breaks(task, examples, seed):
        return always("yes") if seed else 1 / 0

    results = compare({"breaks": breaks, "yes": says_yes}, task, (2,), 2, out=tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run") if row["arm"] == "breaks"]
    assert {(row["seed"], row["answer"]) for row in rows} == {(0, None), (1, "yes")}
    why = rows[0]["error"]
    assert why.startswith("ModelError: learning failed: ZeroDivisionError: division by zero (test_compare.py, line ")
    [point] = [p for p in results["points"] if p["arm"] == "breaks"]
    assert (point["failed"], point["notes"]) == (0.5, [why.removeprefix("ModelError: ")])


def test_a_training_that_diverges_costs_its_own_cell_only(task, tmp_path, random_tiny):
    def diverges(task, examples, seed):
        model, batch = copy.deepcopy(random_tiny.model), Batch(torch.ones(1, 9, dtype=torch.long), torch.ones(1, 8))
        train(model, lambda step: [batch], next_token_loss, Recipe(9, lr=1e30, warmup=1))
        return always("yes")

    results = compare({"diverges": diverges, "yes": says_yes}, task, (2,), 1, out=tmp_path / "run")
    [point] = [p for p in results["points"] if p["arm"] == "diverges"]
    assert point["failed"] == 1
    assert "Training stopped in step 2" in point["notes"][0]


def test_a_failed_request_while_learning_costs_the_cell_and_a_wrong_set_up_ends_the_run(task, tmp_path):
    def asks(task, examples, seed):
        raise ModelError("too many requests")

    results = compare({"asks": asks}, task, (2,), 1, out=tmp_path / "run")
    assert results["points"][0]["failed"] == 1
    for jobs in (1, 2):
        with pytest.raises(SetupError, match="the column 'age' is needed"):
            compare({"refuses": refuses, "yes": says_yes}, task, (2,), 2, out=tmp_path / f"stop{jobs}", jobs=jobs)


def test_a_program_that_raises_costs_its_own_answer_only(task, tmp_path):
    def learner(task, examples, seed):
        async def program(question):
            return {"4": Answer("yes"), "5": "no"}[question.split()[1]]

        return Solver(program, Silent())

    compare({"a": learner}, task, (0,), 1, out=tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert [row["answer"] for row in rows] == [None] * 4 + ["yes", "no"] + [None] * 6
    assert rows[0]["error"].startswith("KeyError: '0' (test_compare.py, line ")


def test_an_engine_that_raises_costs_the_items_it_was_asked(task, tmp_path):
    class Breaks(Script):
        def generate(self, requests):
            raise RuntimeError("out of memory")

    compare({"few-shot": in_context(Breaks()), "yes": says_yes}, task, (0,), 1, out=tmp_path / "run")
    errors = {row["arm"]: row["error"] for row in rows_of(tmp_path / "run")}
    assert errors["yes"] is None
    assert errors["few-shot"].startswith("RuntimeError: out of memory")


def test_scores_that_are_not_numbers_are_no_answer(task, tmp_path):
    def learner(task, examples, seed):
        async def program(question):
            a, b = await score(question, ["yes", "no"])
            return Answer("yes", scores={"yes": a, "no": b})

        return Solver(program, Script(lambda request: Reply(scores=(float("nan"), -1.0)), scores=True))

    compare({"a": learner}, task, (0,), 1, out=tmp_path / "run")
    assert {row["error"] for row in rows_of(tmp_path / "run")} == {"the model's log-probabilities are not numbers"}


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (lambda task, examples, seed: "yes", "'arm' returned a str; a learner returns a Solver"),
        (lambda task, examples, seed: Solver(lambda question: "yes", Silent()), "an async function, got one that"),
        (lambda task, examples, seed: always_returning(Reply("yes")), r"got a Reply: return task\.prompt\.parse"),
        (lambda task, examples, seed: always_returning(["yes"]), "an Answer, got a list"),
        (lambda task, examples, seed: always_returning(score("a plum", ["yes"])), "got a coroutine: `await` it"),
        (lambda task, examples, seed: always_returning(None, sleeps=True), r"program awaited asyncio\.sleep"),
        (Script(["yes"]), r"'arm' is a Script, not a learner\. Pass in_context\(model\)"),
        ("tiny", r"'arm' is a str, not a learner"),
        (OfFamily("magic"), "'arm' has the family 'magic'; known are prompting, fine-tuning, baseline"),
    ],
)
def test_what_is_no_learner_ends_the_run(task, tmp_path, learner, said):
    with pytest.raises(PromptlabError, match=said):
        compare({"arm": learner}, task, (0,), 1, out=tmp_path / "run")
    gc.collect()  # a coroutine that was never awaited would warn now
    assert not (tmp_path / "run" / "rows.jsonl").exists()


@pytest.mark.filterwarnings("default")
def test_what_a_learner_warns_of_is_noted(task, tmp_path):
    def learner(task, examples, seed):
        import warnings

        warnings.warn("did not converge", RuntimeWarning, stacklevel=1)
        return always("yes")

    results = compare({"a": learner}, task, (0,), 1, out=tmp_path / "run")
    assert results["points"][0]["notes"] == ["RuntimeWarning: did not converge"]


# ---- tasks of all kinds


def test_targets_that_are_numbers_and_items_without_ids_can_be_studied(tmp_path):
    examples = [Example(f"text {i}", i % 2) for i in range(20)]
    results = compare(
        {"one": lambda task, examples, seed: always("1")},
        Task.classification("t", examples[:10], examples[10:]),
        np.array([0]),
        np.int64(1),
        out=tmp_path / "run",
    )
    assert results["points"][0]["accuracy"]["value"] == 0.5
    assert [row["item"] for row in rows_of(tmp_path / "run")] == [f"test:{i}" for i in range(1, 11)]


def test_answers_need_not_be_labels(tmp_path):
    test = tuple(Example(f"{i} + {i}", 2 * i, f"t{i}") for i in range(6))
    sums = Script(lambda request: str(sum(map(int, request.messages[-1].content.split(" + ")))))
    compare({"zero": in_context(sums)}, Task("sums", Prompt(output=int), (), test), (0,), 1, out=tmp_path / "run")
    assert [(row["answer"], row["correct"]) for row in rows_of(tmp_path / "run")] == [(2 * i, True) for i in range(6)]


@pytest.mark.parametrize("made", [Answer, lambda value: value], ids=["an Answer", "its plain value"])
@pytest.mark.parametrize(("value", "target"), [(np.int64(3), 3), (np.bool_(True), True), (np.float32(0.5), 0.5)])
def test_an_answer_may_be_a_number_of_numpy(tmp_path, made, value, target):
    test = tuple(Example(f"text {i}", target, f"t{i}") for i in range(6))
    task = Task("t", Prompt(output=type(target)), (), test)
    compare(
        {"classifier": lambda task, examples, seed: always_returning(made(value))}, task, (0,), 1, out=tmp_path / "run"
    )
    assert [(row["answer"], row["correct"]) for row in rows_of(tmp_path / "run")] == [(target, True)] * 6


class Dose(BaseModel):
    drug: str
    mg: float = Field(0, alias="milligrams")


DOSE = Dose(drug="é", milligrams=np.float64(2.5))


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize(
    ("value", "output", "told"),
    [
        (["fever", 2, None], str, '["fever", 2, null]'),
        ({"drug": ["é", np.int64(2)]}, str, '{"drug": ["é", 2]}'),
        (DOSE, Dose, '{"drug": "é", "milligrams": 2.5}'),
        (RootModel[list[Dose]]([DOSE]), RootModel[list[Dose]], '[{"drug": "é", "milligrams": 2.5}]'),
    ],
)
def test_the_score_is_given_an_answer_as_it_was_and_its_row_tells_it_as_json(tmp_path, value, output, told, hosted):
    seen = []

    def score(answer, target):
        seen.append(answer)
        return float(answer == value)

    solver = always_returning(Answer(value, generated=Answer(value, "freely")))
    solver = replace(solver, backend=Script(batched=not hosted))
    test = tuple(Example(f"text {i}", "right", f"t{i}") for i in range(6))
    task = Task("t", Prompt(output=output), (), test, score)
    compare({"a": lambda task, examples, seed: solver}, task, (0,), 1, out=tmp_path / "run")
    assert seen == [value] * 12
    assert {type(answer) for answer in seen} == {type(value)}
    for row in rows_of(tmp_path / "run"):
        assert (row["answer"], row["correct"], row["error"]) == (told, True, None)
        assert row["generated"] == {"text": "freely", "answer": told, "correct": True}
    log = read_log(str(tmp_path / "run"))
    assert {sample.answer for sample in log.samples} == {told}


@pytest.mark.parametrize("value", [("a",), {1: "a"}, [float("nan")], Fraction(1, 2), DOSE, np.zeros(2), [{"a"}]])
def test_an_answer_that_would_reach_the_score_as_something_else_is_a_row_with_its_reason(tmp_path, task, value):
    compare({"a": lambda *_: always(value), "yes": says_yes}, task, (0,), 1, out=tmp_path / "run")
    for row in rows_of(tmp_path / "run"):
        if row["arm"] == "a":
            assert (row["answer"], row["correct"]) == (None, False)
            assert row["error"].startswith("an answer is text, a number, a list or dict of these, or what the task's")


@pytest.mark.parametrize("given", [float("nan"), 2, -0.5, "right", None])
def test_a_score_that_is_no_number_from_0_to_1_ends_the_study_and_a_mended_one_goes_on(tmp_path, task, given):
    def score(answer, target):
        return score.mended(answer, target)

    def study(mended, **options):
        score.mended = mended
        compare({"yes": says_yes}, replace(task, score=score), (0,), 1, out=tmp_path / "run", **options)

    wanted = r"^test:0: A score is a number from 0 to 1.* for the answer 'yes' where the target is 'yes'\..*resume=True"
    with pytest.raises(SetupError, match=wanted):
        study(lambda answer, target: given)
    study(lambda answer, target: (float(answer == target), "as it should be"), resume=True)
    assert [row["correct"] for row in rows_of(tmp_path / "run")] == [True, False] * 6


def test_a_score_that_raises_ends_the_study_with_the_item_named_and_a_mended_one_goes_on(tmp_path, task):
    def score(answer, target):
        return score.mended(answer, target)

    def broken(answer, target):
        return {"yes": 1.0}[answer]

    def refused(answer, target):
        raise ModelError("the judge is away")

    def study(mended, **options):
        score.mended = mended
        arms = {"none": lambda *_: always(None)}
        compare(arms, replace(task, score=score), (0,), 1, out=tmp_path / "run", resume=True, **options)

    with pytest.raises(
        SetupError, match=r"^test:0: The score raised KeyError: None \(test_compare.py, line \d+\) for "
    ):
        study(broken)
    with pytest.raises(SetupError, match=r"where the target is 'yes'\. Where there is no answer, it is None\. Every"):
        study(broken)
    with pytest.raises(SetupError, match=r"^test:0: the judge is away\. Every answer is kept: .*resume=True"):
        study(refused)
    study(lambda answer, target: answer == target)
    assert [row["correct"] for row in rows_of(tmp_path / "run")] == [False] * 12


def test_inputs_of_fields_are_studied_as_the_text_that_is_shown_of_them(tmp_path, task):
    def fields(examples):
        return (replace(e, input={"note": e.input, "ward": "3"}) for e in examples)

    def texts(examples):
        return (replace(e, input=f"note: {e.input}\nward: 3") for e in examples)

    arms = {"few-shot": in_context(Script(lambda request: "no"), "nearest"), "tf-idf": TfidfLogistic(), "yes": says_yes}
    elsewhere = [Example(f"elsewhere {i}", ("yes", "no")[i % 2]) for i in range(4)]
    for made in (fields, texts):
        given = Task("t", task.prompt, made(task.train), made(task.test))
        compare(arms, given, (8,), 1, outside=made(elsewhere), out=tmp_path / made.__name__)
    assert untimed(tmp_path / "fields") == untimed(tmp_path / "texts")
    with pytest.raises(SetupError, match="An input is a text, or a mapping of field names to values; got 5"):
        Task("t", task.prompt, (), [Example(5, "yes")])


def test_half_a_surrogate_pair_is_a_text_like_any_other(tmp_path):
    examples = [Example(f"text {i} \ud83d", ("yes", "no")[i % 2], f"e{i}") for i in range(8)]
    task = Task.classification("t", examples[:4], examples[4:])
    compare({"few-shot": in_context(Script(lambda request: "no"))}, task, (2,), 1, out=tmp_path / "run")
    assert [row["correct"] for row in rows_of(tmp_path / "run")] == [False, True, False, True]


# ---- studies that cannot be run


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arms": {}}, "no arms"),
        ({"arms": [says_yes]}, "Arms are a mapping of names to learners"),
        ({"ks": 8}, "Label budgets are whole numbers in a list, .* got 8"),
        ({"ks": "0,8"}, "Label budgets are whole numbers in a list, .* got '0,8'"),
        ({"seeds": "012"}, "Seeds are whole numbers in a list"),
        ({"arms": {"a/b": says_yes}}, "without '/'"),
        ({"arms": {"a" * 101: says_yes}}, "1 to 100 printable"),
        ({"ks": ()}, r"0 or more, got \[\]"),
        ({"ks": (-1, 4)}, "0 or more"),
        ({"ks": (4, 4)}, "stands twice"),
        ({"ks": (17,)}, "17 labels was asked for, but only 16"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": (1, 1)}, "seeds must differ"),
        ({"seeds": (-1,)}, "seeds lie in"),
        ({"jobs": -1}, "jobs is 1 or more"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_written(task, tmp_path, given, said):
    wanted = {"arms": {"yes": says_yes}, "task": task, "ks": (0, 4), "seeds": 1, **given}
    with pytest.raises(SetupError, match=said):
        compare(**wanted, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_test_items_have_one_id_each(task, tmp_path):
    twice = replace(task, test=(*task.test, task.test[3]))
    with pytest.raises(SetupError, match="two test items have the id 'test:3'"):
        compare({"yes": says_yes}, twice, (0,), 1, out=tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_said_in_a_line(task, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SetupError, match=r"cannot be written \(.*\): choose another --out"):
            compare({"yes": says_yes}, task, (0,), 1, out=out)


def test_arms_that_choose_among_labels_are_refused_before_anything_is_asked_of_a_task_without(random_tiny, tmp_path):
    counts = [Example("x" * n, n) for n in range(1, 9)]
    asked = Script(lambda request: "1")
    arms = {"few-shot": in_context(asked), "h": finetuned(random_tiny, "head"), "d": finetuned(random_tiny, "dpo")}
    with pytest.raises(SetupError, match="This study cannot be run: h chooses among labels, and the task has"):
        compare(arms, Task("t", Prompt("Count.", int), counts[:4], counts[4:]), (2,), 1, out=tmp_path / "run")
    assert not asked.requests


def test_targets_are_what_json_has(task, tmp_path):
    odd = replace(task, test=(replace(task.test[0], target=("yes", "no")), *task.test[1:]))
    with pytest.raises(SetupError, match=r"targets are text, numbers, True or False, got a tuple: \('yes', 'no'\)"):
        compare({"yes": says_yes}, odd, (0,), 1, out=tmp_path / "run")
    unlabelled = replace(task, test=tuple(replace(e, target=None) for e in task.test))
    with pytest.raises(SetupError, match="got a NoneType: None"):
        compare({"yes": says_yes}, unlabelled, (0,), 1, out=tmp_path / "run")


def test_a_run_goes_to_a_folder_of_the_tasks_name_if_none_is_given(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare({"yes": says_yes}, replace(task, name="../fruit: a/b"), (0,), 1)
    assert (tmp_path / "runs" / "fruit-a-b" / "report.html").exists()


def test_two_processes_cannot_write_the_same_run(task, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(SetupError, match="being written by another run"):
        compare({"yes": says_yes}, task, (0,), 1, out=tmp_path / "run")


# ---- worker processes


def test_an_arm_that_cannot_be_sent_to_a_process_says_what_to_do(task, tmp_path):
    arms = {"a": lambda task, examples, seed: always("yes"), "b": says_yes}
    with pytest.raises(SetupError, match=r"cannot be sent to another process .* Use jobs=1"):
        compare(arms, task, (0,), 1, out=tmp_path / "run", jobs=2)


def test_a_worker_that_dies_is_said_and_the_run_goes_on_later(task, tmp_path, monkeypatch):
    monkeypatch.setenv("DIES_ONCE", str(tmp_path / "died"))
    arms = {"dies": dies_once, "yes": says_yes}
    with pytest.raises(PromptlabError, match=r"A worker process died \(exit code 3\) at dies with 4 labels, seed 0"):
        compare(arms, task, (4,), 1, out=tmp_path / "run", jobs=2)
    results = compare(arms, task, (4,), 1, out=tmp_path / "run", resume=True)
    assert [p["failed"] for p in results["points"]] == [0, 0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_every_item_once(task, tmp_path, jobs):
    told = []
    arms = {"yes": says_yes, "few-shot": in_context(Asked(batched=True)), "hosted": in_context(Asked())}
    compare(arms, task, (0, 2), 1, out=tmp_path / "run", jobs=jobs, on_progress=lambda *at: told.append(at))
    total = 3 * 2 * len(task.test)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_run_says_where_it_came_from(task, tmp_path):
    compare({"yes": says_yes}, task, (0,), 1, out=tmp_path / "run", about_run={"command": "me", "lint": []})
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"versions", "machine", "started", "finished", "plan_sha256", "n_test"} <= run.keys()
    assert (run["command"], run["lint"], run["labels"]) == ("me", [], ["no", "yes"])
    assert not list((tmp_path / "run").glob("*.part"))
    written = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir() if file.is_file()}
    assert max(written, key=written.__getitem__) == "run.json"  # it says "finished" once all is there
