"""Reasoning strategies, on scripted replies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from promptlab import Answer, Example, Message, ModelError, Prompt, Request, run
from promptlab.errors import SetupError
from promptlab.strategies import STRATEGIES, chain_of_thought, few_shot, likeliest_label, self_consistency, zero_shot
from promptlab.strategies.chain_of_thought import STEP_BY_STEP
from promptlab.strategies.self_consistency import majority
from promptlab.testing import Script, replay

COLOURS = Prompt(output=Literal["red", "blue", "green"])
SHOTS = (Example("sky", "blue"), Example("blood", "red"))


# ---- what every strategy of the table keeps to


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_every_strategy_finishes_and_repeats_itself(strategy):
    def asked_of(reply):
        model = Script(lambda request: reply)
        return run(strategy("sea", prompt=COLOURS.with_shots(SHOTS), seed=7), model), model.requests

    answer, requests = asked_of("The answer is blue.")
    assert (answer, requests) == asked_of("The answer is blue.")
    assert (answer.value, answer.shots) == ("blue", 2)
    assert {request.seed for request in requests} == {7}
    assert len({request.branch for request in requests}) == len(requests)
    silent, _ = asked_of("")
    assert silent.value is None
    assert silent.why


# ---- zero-shot and few-shot


def test_zero_shot_asks_once_and_reads_the_reply():
    model = Script(["I think blue."])
    answer = run(zero_shot("sea", COLOURS, max_tokens=5, temperature=0.0), model)
    assert (answer.value, answer.shots) == ("blue", 0)
    [request] = model.requests
    assert request.messages == tuple(COLOURS.render("sea"))
    assert (request.max_tokens, request.temperature) == (5, 0.0)


def test_a_reply_that_cannot_be_read_is_no_answer():
    answer = replay(zero_shot("sea", COLOURS), ["no idea"])
    assert (answer.value, answer.text) == (None, "no idea")
    assert "none of the labels" in answer.why


def test_few_shot_shows_demonstrations_as_earlier_turns_in_the_order_given():
    model = Script(["green"])
    answer = run(few_shot("grass", SHOTS, COLOURS), model)
    assert (answer.value, answer.shots) == ("green", 2)
    turns = [(m.role, m.content) for m in model.requests[0].messages[1:]]
    assert turns == [
        ("user", "sky"),
        ("assistant", "blue"),
        ("user", "blood"),
        ("assistant", "red"),
        ("user", "grass"),
    ]


def test_few_shot_without_shots_is_zero_shot():
    few, zero = Script(["red"]), Script(["red"])
    assert run(few_shot("q", [], COLOURS), few) == run(zero_shot("q", COLOURS), zero)
    assert few.requests == zero.requests


# ---- chain of thought


def test_a_chain_asks_for_steps_and_keeps_them():
    model = Script(["3 + 4 = 7. The answer is 7."])
    answer = run(chain_of_thought("3 and 4?"), model)
    assert (answer.value, answer.text, answer.trace) == ("7", "7", "3 + 4 = 7. The answer is 7.")
    assert model.requests[0].messages == (Message("user", f"3 and 4?\n{STEP_BY_STEP}"),)


@pytest.mark.parametrize("final", ["7", "7.", "**7**.", "**7.**", ": 7", "7\n\nLet me know!", '"7"'])
def test_ways_to_write_a_final_answer_are_one_answer(final):
    answer = replay(chain_of_thought("?"), [f"So 3 + 4. The answer is {final}"])
    assert (answer.value, answer.text) == ("7", "7")


def test_a_chain_without_a_final_answer_is_no_answer():
    answer = replay(chain_of_thought("?"), ["3 + 4 = 7"])
    assert (answer.value, answer.trace) == (None, "3 + 4 = 7")
    assert "does not say" in answer.why
    for empty in ("The answer is", "The answer is .", "the answer is **"):
        answer = replay(chain_of_thought("?"), [empty])
        assert answer.value is None
        assert answer.why


def test_a_chain_is_read_as_the_prompts_type():
    prompt = Prompt("Count.", int, (Example("2 and 2?", "2 + 2 = 4. The answer is 4."),))
    model = Script(["1 + 1 = 2. The answer is 2."])
    answer = run(chain_of_thought("1 and 1?", prompt), model)
    assert (answer.value, answer.shots) == (2, 1)
    assert model.requests[0].messages[2].content == "2 + 2 = 4. The answer is 4."
    assert replay(chain_of_thought("?", COLOURS), ["Not red, so the answer is Blue."]).value == "blue"


# ---- self-consistency


def test_self_consistency_ignores_paths_without_an_answer():
    assert replay(self_consistency("?", n=2), ["dunno", "the answer is 7"]).text == "7"


def says(*finals: str) -> list[str]:
    return [f"The answer is {final}." for final in finals]


def test_the_most_frequent_answer_wins():
    answer = replay(self_consistency("?", n=5), says("1", "2", "2", "3", "2"))
    assert answer.value == "2"
    assert list(answer.votes.items()) == [("2", 3), ("1", 1), ("3", 1)]
    assert answer.margin == pytest.approx(2 / 5)
    assert [a.value for a in answer.trace] == ["1", "2", "2", "3", "2"]


def test_ties_go_to_the_answer_that_came_first():
    assert replay(self_consistency("?", n=4), says("b", "a", "a", "b")).value == "b"
    assert replay(self_consistency("?", n=4), says("b", "a", "a", "b")).margin == 0.0


def test_no_path_with_an_answer_is_no_answer():
    answer = replay(self_consistency("?", n=3), ["dunno"] * 3)
    assert (answer.value, answer.votes) == (None, None)
    assert "none of the 3 paths" in answer.why


def test_a_path_whose_request_failed_does_not_vote():
    answer = replay(self_consistency("?", n=3), [ModelError("refused"), *says("7", "7")])
    assert (answer.value, answer.votes, answer.margin) == ("7", {"7": 2}, 1.0)
    assert "refused" in answer.trace[0].why


def test_if_every_request_failed_so_did_self_consistency():
    with pytest.raises(ModelError, match="first"):
        replay(self_consistency("?", n=2), [ModelError("first"), ModelError("second")])


def test_samples_are_asked_for_at_a_temperature_and_as_different_branches():
    model = Script(says("1", "1", "1"))
    run(self_consistency("?", n=3, max_tokens=9), model)
    assert {(r.temperature, r.max_tokens) for r in model.requests} == {(0.7, 9)}
    assert len({r.branch for r in model.requests}) == 3


def test_a_hundred_questions_of_five_samples_are_one_batch():
    model = Script(lambda request: f"The answer is {request.messages[0].content[:3]}.")
    answers = run([self_consistency(f"{i:03}", n=5) for i in range(100)], model)
    assert model.batches == [500]
    assert [a.value for a in answers] == [f"{i:03}" for i in range(100)]


def test_paths_may_be_any_strategy():
    answer = replay(self_consistency("?", path=zero_shot, n=3, prompt=COLOURS), ["red", "Blue.", "It is blue"])
    assert (answer.value, answer.votes) == ("blue", {"blue": 2, "red": 1})


class Case(BaseModel):
    disease: str


def test_answers_that_cannot_be_hashed_vote_too():
    replies = ['{"disease": "flu"}', '{"disease": "measles"}', '{"disease":"measles"}']
    answer = replay(self_consistency("?", path=zero_shot, n=3, prompt=Prompt(output=Case)), replies)
    assert answer.value == Case(disease="measles")
    assert list(answer.votes.values()) == [2, 1]


class Frozen(BaseModel, frozen=True):
    """Of a hashable type, and not to be hashed."""

    cases: list[int]


def test_frozen_answers_that_hold_a_list_vote_too():
    replies = ['{"cases": [1]}', '{"cases": [2]}', '{"cases":[2]}']
    answer = replay(self_consistency("?", path=zero_shot, n=3, prompt=Prompt(output=Frozen)), replies)
    assert answer.value == Frozen(cases=[2])


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_the_majority_is_the_first_of_the_most_frequent(values):
    answer = majority([Answer(v, v) for v in values])
    voting = [v for v in values if v is not None]
    expected = max(voting, key=lambda v: (voting.count(v), -voting.index(v))) if voting else None
    assert answer.value == expected
    if voting:
        assert sum(answer.votes.values()) == len(voting)
        assert 0 <= answer.margin <= 1


# ---- the likeliest label


def scoring(by_question: dict[str, Sequence[float]]) -> Script:
    def score(request: Request) -> Sequence[float]:
        assert request.continuations == COLOURS.labels
        return by_question[request.messages[-1].content]

    return Script(scores=score)


def test_the_likeliest_label_is_the_argmax():
    answer = run(likeliest_label("sea", COLOURS), scoring({"sea": [-3.0, -0.5, -7.0]}))
    assert answer.value == answer.text == "blue"
    assert answer.scores == {"red": -3.0, "blue": -0.5, "green": -7.0}


def test_demonstrations_are_in_what_is_scored():
    model = scoring({"sea": [-1.0, -2.0, -3.0]})
    assert run(likeliest_label("sea", COLOURS.with_shots(SHOTS)), model).shots == 2
    assert model.requests[0].messages == tuple(COLOURS.with_shots(SHOTS).render("sea"))


log_p = st.lists(st.floats(-15, 0), min_size=3, max_size=3)


@settings(deadline=None)
@given(log_p, log_p, log_p, log_p)
def test_calibration_is_the_formula_of_zhao_et_al(asked, na, mask, empty):
    answer = run(
        likeliest_label("sea", COLOURS, calibrated=True), scoring({"sea": asked, "N/A": na, "[MASK]": mask, "": empty})
    )

    def among_labels(scores: Sequence[float]) -> np.ndarray:
        return np.exp(scores) / np.exp(scores).sum()

    p_cf = np.mean([among_labels(s) for s in (na, mask, empty)], axis=0)
    q = np.linalg.inv(np.diag(p_cf)) @ among_labels(asked)  # eq. 1, b = 0
    np.testing.assert_allclose(list(answer.scores.values()), np.log(q / q.sum()), atol=1e-5)
    assert q[COLOURS.labels.index(answer.value)] == pytest.approx(q.max(), rel=1e-6)


def test_calibration_undoes_a_preference_for_a_label():
    biased = {
        "sea": [-0.2, -1.9, -4.0],
        "N/A": [-0.1, -3.0, -4.0],
        "[MASK]": [-0.1, -3.0, -4.0],
        "": [-0.1, -3.0, -4.0],
    }
    assert run(likeliest_label("sea", COLOURS), scoring(biased)).value == "red"
    assert run(likeliest_label("sea", COLOURS, calibrated=True), scoring(biased)).value == "blue"


def test_calibration_costs_one_batch():
    model = scoring({"sea": [0, 0, 0], "N/A": [0, 0, 0], "[MASK]": [0, 0, 0], "": [0, 0, 0]})
    run([likeliest_label("sea", COLOURS, calibrated=True) for _ in range(10)], model)
    assert model.batches == [40]


def test_impossible_labels_are_calibrated_without_an_error():
    impossible = [-0.0, -math.inf, -1000.0]
    answer = run(
        likeliest_label("sea", COLOURS, calibrated=True),
        scoring({"sea": impossible, "N/A": impossible, "[MASK]": impossible, "": impossible}),
    )
    assert all(math.isfinite(score) for score in answer.scores.values())


def test_a_prompt_without_labels_has_no_likeliest_one():
    with pytest.raises(SetupError, match="needs labels"):
        run(likeliest_label("sea", Prompt(output=int)), Script())


def test_the_tiny_models_likeliest_label_is_the_one_it_scores_highest(random_tiny):
    prompt = COLOURS.with_shots(SHOTS)
    answer = run(likeliest_label("grass", prompt), random_tiny)
    assert answer.value == max(answer.scores, key=answer.scores.get)
    assert all(score < 0 for score in answer.scores.values())
