"""Strategies that reason in several steps, on scripted replies."""

from __future__ import annotations

import contextlib
import io
from typing import Literal

import pytest

from promptlab import Example, Message, ModelError, Prompt, run
from promptlab.errors import SetupError
from promptlab.strategies import least_to_most, plan_and_solve, program_of_thoughts, zero_shot_cot
from promptlab.strategies.chain_of_thought import STEP_BY_STEP
from promptlab.strategies.plan_and_solve import PLAN, PLAN_PLUS
from promptlab.testing import Script, replay

# ---- two calls


@pytest.mark.parametrize(
    ("output", "trigger", "reply", "value"),
    [
        (int, "Therefore, the answer (arabic numerals) is", "18, that is 9 twice.", 18),
        (bool, "Therefore, the answer (Yes or No) is", "no.", False),
        (Literal["red", "blue"], "Therefore, among red, blue, the answer is", "Blue.", "blue"),
        (str, "Therefore, the answer is", "**Paris**.\nThat is it.", "Paris"),
    ],
)
def test_the_answer_is_asked_for_in_a_second_call_in_words_of_its_type(output, trigger, reply, value):
    model = Script(["I reason.", reply])
    answer = run(zero_shot_cot("Q?", Prompt(output=output, says_format=False)), model)
    assert (answer.value, answer.trace) == (value, ("I reason.", reply))
    assert model.requests[0].messages == (Message("user", f"Q?\n{STEP_BY_STEP}"),)
    assert model.requests[1].messages[1:] == (Message("assistant", "I reason."), Message("user", trigger))


def test_the_first_number_of_the_second_reply_counts():
    assert replay(zero_shot_cot("Q?", Prompt(output=int)), ["3 + 4", "The answer is 7 of 10."]).value == 7


def test_a_second_reply_without_an_answer_is_none():
    answer = replay(zero_shot_cot("Q?", Prompt(output=int)), ["3 + 4 = 7", "I cannot say"])
    assert (answer.value, answer.why) == (None, "no number in the reply")


@pytest.mark.parametrize(("plus", "trigger"), [(False, PLAN), (True, PLAN_PLUS)])
def test_plan_and_solve_asks_for_a_plan_first(plus, trigger):
    model = Script(["The plan: add. 3 + 4 = 7", "7"])
    assert run(plan_and_solve("3 and 4?", Prompt(output=int), plus=plus), model).value == 7
    assert model.requests[0].messages[-1].content == f"3 and 4?\n{trigger}"


# ---- least to most

PARTS = '1. How many has Anna?\n2) "How many has Ben?"\nQ3: How many have both?\nThat is all.'


def test_parts_are_answered_in_order_with_earlier_answers_in_sight():
    model = Script([PARTS, "Two.", "Three.", "Five.", "The answer is 5."])
    answer = run(least_to_most("Anna has 2, Ben one more. How many in all?", Prompt(output=int)), model)
    assert answer.value == 5
    assert [step.split("\n")[0] for step, _ in answer.trace] == [
        "How many has Anna?",
        "How many has Ben?",
        "How many have both?",
        "Anna has 2, Ben one more. How many in all?",
    ]
    *earlier, last = model.requests[-1].messages
    assert [message.content for message in earlier if message.role == "assistant"] == ["Two.", "Three.", "Five."]
    assert last.content.startswith("Anna has 2")
    assert model.batches == [1] * 5


def test_a_question_that_is_not_taken_apart_is_answered_straight_away():
    model = Script(["none", "The answer is 7."])
    answer = run(least_to_most("3 and 4?", Prompt(output=int)), model)
    assert (answer.value, len(model.requests)) == (7, 2)


def test_no_more_parts_than_wanted_and_none_twice_or_the_question_again():
    model = Script(["a?\na?\nWhole?\nb?\nc?", *["The answer is 1."] * 3])
    answer = run(least_to_most("Whole?", most=2), model)
    assert [step.split("\n")[0] for step, _ in answer.trace] == ["a?", "b?", "Whole?"]


# ---- program of thoughts


def python(code: str) -> str:
    """Run a program; what it prints.

    Args:
        code: The program.
    """
    said = io.StringIO()  # the tests' own programs, which need no sandbox
    with contextlib.redirect_stdout(said):
        exec(code, {})
    return said.getvalue()


@pytest.mark.parametrize(
    ("output", "program", "value"),
    [
        (int, "```python\nx = 6\nans = x * 7\n```", 42),
        (int, "ans = 0", 0),
        (float, "Here:\n```\nprint('ans = 3')\nans = 1 / 4\n```\nDone.", 0.25),
        (int, "```python3\nans = 2\n```\nThis gives 2.", 2),
        (int, "```python\r\nx = 1\r\nans = x\r\n```\r\n", 1),
        (int, "1. First:\n   ```python\n   if True:\n       ans = 5\n   ```", 5),
        (int, "~~~py\nans = 2\n~~~", 2),
        (int, "```python\nans = 2\n```\nIt prints:\n```text\nans is two\n```", 2),
        (str, "ans = 'Paris'", "Paris"),
        (Literal["4", "5"], "ans = 2 + 2", "4"),
    ],
)
def test_the_answer_is_what_the_program_works_out(output, program, value):
    answer = replay(program_of_thoughts("Q?", python, Prompt(output=output)), [program])
    assert (answer.value, answer.why) == (value, None)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("x = 1", "NameError: name 'ans' is not defined"),
        ("ans = 1 / 0", "ZeroDivisionError"),
        ("I cannot.", "SyntaxError"),
        ("raise SystemError", "SystemError"),
    ],
)
def test_a_program_that_gives_no_answer_says_why(program, why):
    answer = replay(program_of_thoughts("Q?", python, Prompt(output=int)), [program])
    assert answer.value is None
    assert answer.why.startswith("the program gave no answer: Error: ")
    assert why in answer.why


def test_an_answer_of_another_type_says_why():
    answer = replay(program_of_thoughts("Q?", python, Prompt(output=int)), ["ans = 'many'"])
    assert (answer.value, answer.why, answer.trace[1]) == (None, "no number in the reply", "ans = many\n")


def test_the_closest_option_is_asked_for_where_none_is_the_result():
    model = Script(["ans = 4.02", "It is 4."])
    answer = run(program_of_thoughts("Q?", python, Prompt(output=Literal["4", "9"])), model)
    assert answer.value == "4"
    assert "4.02" in model.requests[1].messages[-1].content


def test_demonstrations_of_programs_are_shown_without_words_on_the_format():
    shots = (Example("2 and 2?", "ans = 2 + 2"),)
    model = Script(["ans = 7"])
    run(program_of_thoughts("3 and 4?", python, Prompt("Count.", shots=shots)), model)
    said = [message.content for message in model.requests[0].messages]
    assert said[:3] == ["Count.", "2 and 2?", "ans = 2 + 2"]


def test_a_tool_that_takes_no_program_is_refused():
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    with pytest.raises(SetupError, match="one argument"):
        run(program_of_thoughts("Q?", add), Script())


@pytest.mark.parametrize("strategy", [zero_shot_cot, plan_and_solve, least_to_most])
def test_a_failed_call_is_raised(strategy):
    with pytest.raises(ModelError, match="refused"):
        replay(strategy("Q?"), ["first", ModelError("refused")])
