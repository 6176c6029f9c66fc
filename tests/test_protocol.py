"""What a study holds itself to: one look at the test, what the examples lack, each class, and how sure answers are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from studies import ARMS, Asked, a_task, always, rows_of, says_yes

from promptlab import Answer, Example, ModelError, Prompt, Reply, Task, compare, in_context
from promptlab.compare.calibration import calibration, probabilities
from promptlab.compare.plan import data_sha256
from promptlab.learners.solver import Silent, Solver
from promptlab.testing import Script


@pytest.fixture
def task():
    return a_task(16, 12)


def run_json(folder):
    return json.loads((folder / "run.json").read_text())


def doubts(results):
    return " ".join(results["decision"]["not_established"])


# ---- the test is opened once


def test_the_data_are_hashed_before_anything_is_asked(task, tmp_path):
    seen = {}

    def looks(given, examples, seed):
        seen.update(run_json(tmp_path / "run"))
        return always("yes")

    compare({"looks": looks}, task, (4,), 1, out=tmp_path / "run")
    assert seen["data"]["test_sha256"] == data_sha256(task.test)
    assert "test_opened" not in seen
    assert len(run_json(tmp_path / "run")["test_opened"]) == 1


def test_a_finished_run_that_is_resumed_has_not_opened_the_test_again(task, tmp_path):
    for resume in (False, True, True):
        results = compare(ARMS, task, (4,), 1, out=tmp_path / "run", resume=resume)
    assert len(run_json(tmp_path / "run")["test_opened"]) == 1
    assert "The test was opened" not in doubts(results)


class Recovers(Asked):
    """Is not available at first."""

    def __init__(self, marker):
        super().__init__(batched=False)
        self.marker = marker

    def generate(self, requests):
        if self.marker.exists():
            return [Reply("yes") for _ in requests]
        from promptlab.errors import Unavailable

        return [Unavailable("overloaded") for _ in requests]


def test_answers_that_are_asked_again_after_the_test_was_opened_are_told(task, tmp_path):
    arms = {"few-shot": in_context(Recovers(tmp_path / "up"))}
    compare(arms, task, (4,), 1, out=tmp_path / "run")
    (tmp_path / "up").touch()
    results = compare(arms, task, (4,), 1, out=tmp_path / "run", resume=True)
    assert len(run_json(tmp_path / "run")["test_opened"]) == 2
    assert "The test was opened 2 times" in doubts(results)
    assert "The test was opened 2 times" in (tmp_path / "run" / "report.html").read_text()


def test_another_run_on_the_same_test_is_named_and_one_on_another_test_is_not(task, tmp_path):
    compare({"yes": says_yes}, task, (4,), 1, out=tmp_path / "first")
    unlike = Task.classification("t", task.train, [Example(f"other {i}", "yes", f"test:{i}") for i in range(12)])
    compare({"yes": says_yes}, unlike, (4,), 1, out=tmp_path / "unlike")
    results = compare(ARMS, task, (4,), 1, out=tmp_path / "second")
    assert "All 12 test items were opened before by another run beside this one (first)" in doubts(results)


def test_another_run_on_some_of_the_same_test_items_is_named_with_how_many(task, tmp_path):
    first, *others = task.test
    corrected = [replace(first, target={"yes": "no", "no": "yes"}[first.target]), *others]
    shorter = [replace(e, id=f"renamed:{e.id}", input=f"{e.input.upper()}!") for e in task.test[:5]]
    compare({"yes": says_yes}, replace(task, test=shorter), (4,), 1, out=tmp_path / "shorter")
    assert run_json(tmp_path / "shorter")["test_opened_elsewhere"] == []
    results = compare(ARMS, task, (4,), 1, out=tmp_path / "whole")
    assert "5 of the 12 test items were opened before by another run beside this one (shorter)" in doubts(results)
    assert "5 of the 12 test items were opened before" in (tmp_path / "whole" / "report.html").read_text()
    results = compare(ARMS, replace(task, test=corrected), (4,), 1, out=tmp_path / "corrected")
    assert "All 12 test items were opened before by 2 other runs beside this one (shorter, whole)" in doubts(results)


def test_a_run_that_opened_the_test_after_this_one_is_not_said_to_have_done_so_before(task, tmp_path):
    compare({"yes": says_yes}, task, (4,), 1, out=tmp_path / "first")
    compare({"yes": says_yes}, task, (4,), 1, out=tmp_path / "later")
    results = compare({"yes": says_yes}, task, (4,), 1, out=tmp_path / "first", resume=True)
    assert "opened before" not in doubts(results)


def test_a_run_of_before_that_kept_no_texts_is_named_where_the_test_is_identical(task, tmp_path):
    compare({"yes": says_yes}, task, (4,), 1, out=tmp_path / "old")
    (tmp_path / "old" / "test_texts.txt").unlink()
    compare({"yes": says_yes}, replace(task, test=task.test[:5]), (4,), 1, out=tmp_path / "shorter")
    assert run_json(tmp_path / "shorter")["test_opened_elsewhere"] == []
    results = compare(ARMS, task, (4,), 1, out=tmp_path / "new")
    assert "All 12 test items were opened before by 2 other runs beside this one (old, shorter)" in doubts(results)


# ---- what the examples lack


def test_labels_that_no_example_has_are_named(tmp_path):
    train = [Example(f"text {i}", "abc"[i % 3], f"train:{i}") for i in range(12)]
    task = Task.classification("t", train, [Example(f"other {i}", "abc"[i % 3]) for i in range(9)])
    results = compare(ARMS, task, (2, 6), 1, out=tmp_path)
    lacking = {p["labels"]: p["absent"] for p in results["points"] if p["arm"] == "tfidf"}
    assert lacking == {2: [lacking[2][0]], 6: []}
    assert f"With 2 labels the examples of some seed have none of {lacking[2][0]}" in doubts(results)


# ---- each class, and how sure


def test_the_recall_of_each_class_is_that_of_its_items(task, tmp_path):
    results = compare({"yes": says_yes}, task, (4,), 2, out=tmp_path)
    recall = results["points"][0]["recall"]
    assert {label: share["value"] for label, share in recall.items()} == {"no": 0.0, "yes": 1.0}
    assert all(0 <= share["low"] <= share["value"] <= share["high"] <= 1 for share in recall.values())
    assert recall["no"]["high"] < 0.5 < recall["yes"]["low"]
    assert "Each class, and how sure the answers were" in (tmp_path / "report.html").read_text()


def test_calibration_is_that_of_the_labels_probabilities(task, tmp_path):
    def scores(request):
        number = len(request.messages[-1].content) % 5
        return [-0.3 * number, -1.1] if request.continuations else []

    results = compare({"few-shot": in_context(Script(lambda r: "yes", scores=scores))}, task, (4,), 1, out=tmp_path)
    [found] = results["points"]
    said = [[-0.3 * (len(e.input) % 5), -1.1] for e in task.test]
    targets = np.array([("no", "yes").index(e.target) for e in task.test])
    expected = calibration(probabilities(said), targets)
    brier, ece = found["brier"], found["ece"]
    assert (brier["value"], ece["value"]) == pytest.approx((expected.brier, expected.ece), abs=1e-4)
    assert all(share["low"] <= share["value"] <= share["high"] for share in (brier, ece))
    assert brier["low"] < brier["high"]
    assert "scores" not in rows_of(tmp_path)[0]


def test_an_arm_that_does_not_score_has_no_calibration(task, tmp_path):
    results = compare({"few-shot": in_context(Script(lambda r: ModelError("no")))}, task, (4,), 1, out=tmp_path)
    assert (results["points"][0]["brier"], results["points"][0]["ece"]) == (None, None)


# ---- what failed


class Fails:
    """An arm that fails whole, or on the first items that it is asked."""

    family = "fine-tuning"

    def __init__(self, first: int | None):
        self.first = first

    def __call__(self, task, examples, seed):
        if self.first is None:
            raise FloatingPointError("training diverged: the weights are not finite numbers")
        lost = {e.input for e in task.test[: self.first]}

        async def program(question):
            if question in lost:
                raise ModelError("refused by the provider")
            return Answer(knows(question), knows(question))

        return Solver(program, Silent())


def knows(question):
    return "yes" if {"apple", "pear", "plum", "fig"} & {*question.split()} else "no"


def test_an_arm_that_failed_whole_is_left_out_of_the_line_on_what_failures_change(tmp_path):
    results = compare({**ARMS, "tuned": Fails(None)}, a_task(16, 12), (4,), 2, out=tmp_path)
    said = results["decision"]["without_failures"]
    assert said.startswith("If failures were left out (tuned with 4 labels), the verdict would be")
    assert said in results["decision"]["not_established"]
    page = (tmp_path / "report.html").read_text()
    assert "If failures were left out" in page
    assert [p["failed"] for p in results["points"] if p["arm"] == "tuned"] == [1.0]


def test_failures_that_tip_the_verdict_are_told(tmp_path):
    """Right on all that it answered, and behind, since a third of its requests failed."""
    task = a_task(8, 60)
    results = compare({"yes": says_yes, "tuned": Fails(40)}, task, (4,), 2, out=tmp_path)
    said = results["decision"]["without_failures"]
    assert "(40 test items that failed somewhere), the verdict would be another" in said
    assert "fine-tune" in said.lower()
    assert "n = 20 test items" in said
    assert "answered" not in results


def test_where_nothing_failed_there_is_no_such_line(task, tmp_path):
    results = compare(ARMS, task, (4,), 1, out=tmp_path / "a")
    assert results["decision"]["without_failures"] is None
    results = compare({"tuned": Fails(None)}, task, (4,), 1, out=tmp_path / "b")
    assert results["decision"]["without_failures"] is None  # nothing else is left to tell of
    assert "nothing was answered" in results["decision"]["sentence"].lower()


# ---- answers that are no classes


@pytest.mark.parametrize(("output", "common", "rare", "said"), [(bool, False, True, "yes"), (int, 3, 7, "7")])
def test_what_is_below_the_commonest_answer_is_not_recommended_where_answers_are_no_classes(
    tmp_path, output, common, rare, said
):
    examples = [Example(f"note {i}", rare if i % 5 == 0 else common, str(i)) for i in range(60)]
    task = Task("odd", Prompt("Is it?", output), tuple(examples[:30]), tuple(examples[30:]))
    arms = {"ask": in_context(Script(lambda request: said))}
    verdict = compare(arms, task, (0,), 1, out=tmp_path / "run")["decision"]
    assert "nothing is shown to be better than always answering the commonest class" in verdict["sentence"]
    assert "against 0.80" in verdict["sentence"]
    assert "0.80  most frequent" in (tmp_path / "run" / "report.html").read_text()
