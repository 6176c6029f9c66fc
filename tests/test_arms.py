"""The arms of a study beside prompting and fine-tuning: searches for a prompt, controls, both together, models."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import Engine, write_lists
from studies import Asked, a_task, rows_of, says_yes, write_csv
from test_optimizers import lists

from promptlab import Answer, Example, Prompt, Task, compare, in_context, optimized, run
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.cli import main
from promptlab.errors import PromptlabError, SetupError
from promptlab.learners import ARMS, OfAnotherModel, ShuffledLabels, arms_named, arms_of_another_model
from promptlab.learners.controls import with_shuffled_labels
from promptlab.learners.solver import Silent, Solver
from promptlab.learners.tuned_and_prompted import halves
from promptlab.optimizers import OPTIMIZERS, ape
from promptlab.task import exact
from promptlab.testing import Script


@pytest.fixture
def task():
    return a_task(24, 12)


@pytest.fixture
def promptlab(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def typed(*command):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, command)])
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return typed


def point(results, arm, labels):
    return next(p for p in results["points"] if (p["arm"], p["labels"]) == (arm, labels))


# ---- searches


def second_word(n: int, side: str = "train") -> list[Example]:
    return [Example(e.input, e.target, f"{side}:{i}") for i, e in enumerate(lists(n, seed=len(side)))]


def obeys(request):
    """Gives the second word if it is told to, else the first; and proposes to say so."""
    if request.to == "proposer" or "instruction" in request.messages[-1].content:
        return f"Give the second word. ({sum(request.branch)})"
    words = request.messages[-1].content.split()
    return words[1] if "second" in request.messages[0].content else words[0]


def test_every_optimiser_that_needs_no_more_than_examples_is_an_arm():
    assert {*OPTIMIZERS} - {"pool"} <= {*ARMS}
    model = Script(obeys)
    assert [*arms_named([n for n in OPTIMIZERS if n != "pool"], model)] == [n for n in OPTIMIZERS if n != "pool"]


def test_what_a_search_asked_is_counted_beside_what_its_answers_take(tmp_path):
    model = Script(obeys)
    task = Task("lists", Prompt("Give a word."), second_word(60), second_word(10, "test"))
    results = compare({"ape": optimized(model, ape), "few-shot": in_context(model)}, task, (0, 60), 1, out=tmp_path)
    found, plain = point(results, "ape", 60), point(results, "few-shot", 60)
    assert 0 < found["learn_calls"] <= 1_200
    assert (plain["learn_calls"], point(results, "ape", 0)["learn_calls"]) == (0, 0)
    asked = len(model.requests)
    assert asked == found["learn_calls"] + 4 * 10  # four cells of ten items
    assert "Calls to learn" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("labels", "options", "most"), [(0, {}, 0), (30, {}, 600), (500, {}, 2_000), (30, {"calls": 70}, 70)]
)
def test_the_calls_of_a_search_grow_with_the_labels_that_judge_it(labels, options, most):
    assert optimized(Script(obeys), ape, **options).most_calls(labels) == most


def test_a_search_keeps_to_the_calls_that_its_arm_names():
    model = Script(obeys)
    [(name, arm)] = arms_named(["ape:calls=90:alpha=0.2"], model).items()
    assert (name, arm.options) == ("ape:calls=90:alpha=0.2", {"calls": 90, "alpha": 0.2})
    task = Task("lists", Prompt("Give a word."), second_word(60), second_word(10, "test"))
    solver = arm(task, task.train, 0)
    assert 0 < solver.learn_calls == len(model.requests) <= 90


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ape:colour=red", "ape has no option colour. Its options: .*calls"),
        ("ape:calls=many", "calls takes a whole number, got 'many'"),
        ("ape:calls=-3", "calls takes a whole number, got -3"),
        ("ape:solve=zero-shot", "solve can be given in Python only"),
        ("ape:calls", "an option is name=value, calls=500 for instance, got 'calls'"),
        ("few-shot:calls=5", "The arm few-shot has no options"),
        ("apes", "Did you mean ape"),
    ],
)
def test_options_that_an_arm_does_not_have_are_said_before_anything_is_asked(name, said):
    with pytest.raises(SetupError, match=said):
        arms_named([name], Script(obeys))


@pytest.mark.parametrize("name", ["prompt", "examples", "score"])
def test_what_the_task_gives_a_search_is_no_option_of_it(name):
    with pytest.raises(SetupError, match=f"What counts for {name} is the task's, of every arm: Task"):
        optimized(Script(obeys), ape, **{name: None})


@pytest.mark.parametrize(
    ("options", "score", "said"),
    [
        ({}, lambda value, target: value / target, "The score raised TypeError"),
        ({"alpha": 5}, exact, "alpha lies between 0 and 1"),
    ],
)
def test_a_search_that_is_set_up_wrongly_ends_the_study_and_leaves_no_row_of_a_prompt_that_was_not_optimised(
    tmp_path, options, score, said
):
    task = Task("lists", Prompt("Give a word."), second_word(60), second_word(4, "test"), score)
    with pytest.raises(SetupError, match=said):
        compare({"ape": optimized(Script(obeys), ape, **options)}, task, (60,), 1, out=tmp_path)
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_budget_spent_while_searching_ends_the_study_and_leaves_no_row_of_a_worse_prompt(tmp_path):
    model = Budgeted(Script(obeys), Budget(calls=30))
    task = Task("lists", Prompt("Give a word."), second_word(60), second_word(4, "test"))
    with pytest.raises(PromptlabError, match="budget is spent"):
        compare({"ape": optimized(model, ape)}, task, (60,), 1, out=tmp_path)
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_dry_run_counts_every_call_that_a_search_may_make(promptlab, tmp_path):
    write_csv(tmp_path / "fruit.csv", n=80)
    given = ("fruit.csv", "--model", "searches:Words", "--labels", "30", "--seeds", 2, "--test-items", 5, "--dry-run")
    code, plain, _ = promptlab("compare", *given, "--arms", "few-shot")
    _, searched, _ = promptlab("compare", *given, "--arms", "few-shot,ape,ape:calls=80")
    _, too_few, _ = promptlab("compare", *given, "--arms", "ape", "--labels", "8")
    assert code == 0
    assert "take 10 calls that" in plain
    assert "1,390 calls (up to 1,360 of them to search for prompts)" in searched  # 2 × (600 + 80), and 30 answers
    assert "take at most 10 calls that" in too_few  # with either seed the same prompt is asked


# ---- controls


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), st.integers(0, 99))
def test_shuffled_labels_are_the_same_labels_on_the_same_texts(labels, seed):
    examples = [Example(f"text {i}", label, str(i)) for i, label in enumerate(labels)]
    shuffled = with_shuffled_labels(examples, seed)
    assert [(e.input, e.id) for e in shuffled] == [(e.input, e.id) for e in examples]
    assert Counter(e.target for e in shuffled) == Counter(labels)
    assert shuffled == with_shuffled_labels(examples, seed)


def test_a_control_is_shown_beside_the_arms_and_never_recommended(task, tmp_path):
    """Here the control is right on every item, and the only arm that may be chosen on half of them."""

    def knows(task, examples, seed):
        words = {"apple", "pear", "plum", "fig"}

        async def program(question):
            label = "yes" if words & {*question.split()} else "no"
            return Answer(label, label)

        return Solver(program, Silent())

    results = compare({"yes": says_yes, "knows": ShuffledLabels(knows)}, task, (8,), 2, out=tmp_path)
    assert point(results, "knows", 8)["accuracy"]["value"] == 1
    assert {option["arm"] for best in results["best"] for option in best["options"]} == {"yes"}
    assert results["choice"]["cheapest"]["arm"] == "yes"
    [beside] = [d for d in results["differences"] if d["a"] == "knows"]
    assert (beside["b"], beside["interval"]["value"]) == ("yes", 0.5)
    assert "Controls, never chosen" in (tmp_path / "report.html").read_text()


def test_a_control_that_does_best_is_not_said_to_lead_here_or_outside(task, tmp_path):
    def knows(task, examples, seed):
        async def program(question):
            label = "no" if "saw" in question or {"bolt", "nut", "screw", "nail"} & {*question.split()} else "yes"
            return Answer(label, label)

        return Solver(program, Silent())

    far = [Example("kiwi from elsewhere", "yes"), Example("saw from elsewhere", "no")]
    arms = {"yes": says_yes, "knows": ShuffledLabels(knows)}
    results = compare(arms, task, (8,), 2, outside=far, out=tmp_path)
    assert {one["arm"]: one["accuracy"]["value"] for one in results["outside"]} == {"yes": 0.5, "knows": 1}
    told = " ".join(results["decision"]["not_established"])
    assert "yes leads here with 0.50" in told
    assert "on the 2 items from outside, where it leads too" in told


def test_a_study_of_controls_alone_is_refused(task, tmp_path):
    with pytest.raises(SetupError, match="controls or of another model only"):
        compare({"c": ShuffledLabels(in_context(Script(obeys)))}, task, (8,), 1, out=tmp_path / "run")


def test_a_budget_at_which_only_controls_run_is_no_verdict(task, tmp_path):
    model = Asked(batched=True)
    arms = {"majority": ARMS["majority"](model), "few-shot@big": OfAnotherModel(in_context(model), "big")}
    results = compare(arms, task, (0, 8), 2, out=tmp_path)
    assert [verdict["budget"] for verdict in results["decision"]["per_budget"]] == [8]
    assert point(results, "few-shot@big", 0)["family"] == "another model"


def test_a_demonstration_of_the_control_has_the_label_of_another_text(task, tmp_path):
    model = Script(lambda request: "yes")
    solver = ARMS["few-shot-random-labels"](model)(task, task.train, 3)
    run(solver.program("pear lot 1"), model)
    turns = model.requests[0].messages
    said = [(a.content, b.content) for a, b in pairwise(turns) if b.role == "assistant"]
    gold = {e.input: e.target for e in task.train}
    assert len(said) == 24
    assert 0 < sum(gold[text] != label for text, label in said) < 24


# ---- fine-tuning and demonstrations together


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_what_is_trained_on_is_never_shown_and_nothing_is_lost(labels):
    examples = [Example(f"text {i}", label, str(i)) for i, label in enumerate(labels)]
    trained_on, shown = halves(examples)
    assert sorted([*trained_on, *shown], key=lambda e: int(e.id)) == examples
    assert {e.target for e in trained_on} == {*labels}  # a class of one example is trained on
    assert all(0 <= sum(e.target == y for e in trained_on) - sum(e.target == y for e in shown) <= 1 for y in "abc")


def test_a_tuned_model_is_asked_with_the_other_half_as_demonstrations(task, random_tiny, tmp_path):
    arms = {name: ARMS[name](random_tiny) for name in ("sft+few-shot", "sft", "sft-shuffled-labels")}
    results = compare(arms, task, (8,), 1, out=tmp_path)
    both = point(results, "sft+few-shot", 8)
    assert (both["family"], both["shots"], both["left_out"]) == ("fine-tuning", 4, 0)
    assert both["trained_parameters"] == point(results, "sft", 8)["trained_parameters"]
    assert "trained on 4 of the labels, asked with up to 4 others as demonstrations" in both["notes"]
    assert point(results, "sft-shuffled-labels", 8)["family"] == "control"


# ---- another model


def test_another_model_has_arms_of_its_own_beside_those_of_the_base_model(promptlab, tmp_path):
    write_lists(tmp_path / "lists.csv", n=60)
    given = ("lists.csv", "--model", "searches:Engine", "--also-model", "searches:Words", "--quiet", "--seeds", 2)
    code, _, err = promptlab("compare", *given, "--arms", "majority,few-shot", "--labels", "0,4", "--out", "run")
    assert (code, err) == (0, "")
    begun = json.loads((tmp_path / "run" / "run.json").read_text())
    assert begun["also_models"] == ["searches:Words"]
    assert [(arm["name"], arm["family"]) for arm in begun["arms"]] == [
        ("majority", "baseline"),
        ("few-shot", "prompting"),
        ("few-shot@searches:Words", "another model"),
    ]
    rows = rows_of(tmp_path / "run")
    answers = {arm: [r["answer"] for r in rows if r["arm"] == arm] for arm in ("few-shot", "few-shot@searches:Words")}
    assert answers["few-shot"] == answers["few-shot@searches:Words"]  # the same model by two names
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of another model, searches:Words" in page
    code, again, _ = promptlab("replay", "run")
    assert (code, again) == (0, f"{len(rows)} of {len(rows)} rows came out the same.\n")


def test_a_model_may_be_named_by_a_path_and_what_it_cannot_do_is_left_out_and_said(task, tmp_path):
    scoring = Script(obeys, scores=lambda request: [0.0] * len(request.continuations))
    learners = {"few-shot": in_context(Engine()), "few-shot-calibrated": in_context(scoring, calibrated=True)}
    found, left_out = arms_of_another_model(learners, "hf:/a/b", Asked(batched=True))
    assert [*found] == ["few-shot@hf:/a/b"]
    assert re.search("Left out, since hf:/a/b cannot do them: few-shot-calibrated", left_out[0])
    compare({**learners, **found}, task, (4,), 1, out=tmp_path)
    assert (tmp_path / "cells" / "few-shot@hf:%2Fa%2Fb--4--0.jsonl").exists()
    with pytest.raises(SetupError, match="can do none of the arms that prompt"):
        arms_of_another_model({"majority": ARMS["majority"](None)}, "big", Engine())
