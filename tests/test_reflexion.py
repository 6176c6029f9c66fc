"""Reflexion and self-refine: who judged is in the result."""

from __future__ import annotations

import pytest

from promptlab import Answer, Prompt, run
from promptlab.errors import SetupError
from promptlab.strategies import Feedback, chain_of_thought, reflexion, self_refine
from promptlab.testing import Script

QUESTION = "6 * 7?"


async def is_42(question: str, answer: Answer) -> str | None:
    return None if answer.value == "42" else f"{answer.value} is not it"


ORACLE, TESTS = Feedback("oracle", is_42), Feedback("tests", is_42)


def test_a_trial_that_failed_is_reflected_upon_and_the_next_one_remembers():
    model = Script(["The answer is 41.", "I added wrong.", "The answer is 42."])
    answer = run(reflexion(QUESTION, chain_of_thought, ORACLE), model)
    assert (answer.value, answer.why) == ("42", None)
    assert [(t.answer.value, t.feedback) for t in answer.trace.trials] == [("41", "41 is not it"), ("42", None)]
    assert answer.trace.source == "oracle"
    first, reflecting, second = (request.messages[-1].content for request in model.requests)
    assert first.startswith(QUESTION)
    assert "41 is not it" in reflecting
    assert "- I added wrong." in second


def test_what_is_asked_beside_the_answers_is_asked_by_their_options():
    options = {"max_tokens": 9, "temperature": 0.5, "seed": 3, "to": "small"}
    own = {"prompt": Prompt("Be brief."), "stop": "\n", "logprobs": True}
    tries = ["The answer is 41.", "I added wrong.", "The answer is 42."]
    for program, replies in (
        (reflexion(QUESTION, chain_of_thought, ORACLE, **own, **options), tries),
        (self_refine(QUESTION, rounds=1, **own, **options), ["42", "CORRECT"]),
    ):
        run(program, model := Script(replies))
        for asked in model.requests:
            assert {name: getattr(asked, name) for name in options} == options
        assert (model.requests[1].stop, model.requests[1].logprobs) == ((), False)


def test_only_the_latest_reflections_are_remembered_and_the_trials_are_limited():
    replies = [text for i in range(5) for text in (f"The answer is {i}.", f"reflection {i}")]
    model = Script(replies)
    answer = run(reflexion(QUESTION, chain_of_thought, TESTS, trials=5, memories=2), model)
    assert (answer.value, len(model.requests)) == ("4", 9)
    assert answer.why == "after 5 tries something is still wrong with it, by tests feedback"
    last = model.requests[-1].messages[-1].content
    assert [f"reflection {i}" in last for i in range(4)] == [False, False, True, True]


def test_a_trial_without_an_answer_is_one_to_learn_from():
    model = Script(["hm", "I have to answer.", "The answer is 42."])
    assert run(reflexion(QUESTION, chain_of_thought, TESTS), model).value == "42"
    never = run(reflexion(QUESTION, chain_of_thought, TESTS, trials=2), Script(lambda request: "hm"))
    assert (never.value, len(never.trace.trials)) == (None, 2)
    assert "does not say" in never.why


def test_an_answer_is_refined_until_its_critic_is_content():
    model = Script(["41", "6 * 7 is 42.\nOne too few.", "42", "All is well.\n**CORRECT**"])
    answer = run(self_refine(QUESTION, Prompt(output=int), seed=3), model)
    assert (answer.value, answer.why, answer.trace.source) == (42, None, "self")
    turns = [(m.role, m.content) for m in model.requests[2].messages[-3:]]
    assert turns[0] == ("user", QUESTION)
    assert turns[1] == ("assistant", "41")
    assert "One too few." in turns[2][1]
    assert {request.seed for request in model.requests} == {3}


def test_the_prompt_of_a_refinement_does_not_grow():
    model = Script([text for i in range(9) for text in (f"{i}", "no")])
    answer = run(self_refine(QUESTION, rounds=9), model)
    assert (answer.value, len(answer.trace.trials)) == ("8", 9)
    assert {len(request.messages) for request in model.requests[2::2]} == {3}


def test_a_critic_is_content_only_in_its_last_line():
    for said, content in (
        ("CORRECT", True),
        ("Not CORRECT", False),
        ("CORRECT\nbut for one thing", False),
        ("", False),
    ):
        answer = run(self_refine(QUESTION, rounds=1), Script(["41", said]))
        assert (answer.why is None) == content


def test_where_feedback_comes_from_has_to_be_declared():
    with pytest.raises(SetupError, match="oracle, self, tests, got 'somewhere'"):
        Feedback("somewhere", is_42)
