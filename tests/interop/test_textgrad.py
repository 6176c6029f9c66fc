"""TextGrad's own loop on our backends."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

if find_spec("textgrad") is None:
    pytest.skip("textgrad is not installed: make test-interop", allow_module_level=True)

import textgrad as tg

from promptlab.backends.wrappers import Budget, Budgeted
from promptlab.errors import BudgetExceeded, SetupError
from promptlab.interop.textgrad import engine
from promptlab.testing import Script
from promptlab.types import Reply, Request, Usage


def replies(request: Request) -> Reply:
    """Counts by the instruction: one that says to count letters is right, and whoever improves one says so."""
    system, asked = request.messages[0].content, request.messages[-1].content
    usage = Usage(10, 0, 5, cost_usd=0.0)
    if "<IMPROVED_VARIABLE>" in system + asked:
        return Reply("<IMPROVED_VARIABLE>Count the letters.</IMPROVED_VARIABLE>", usage=usage)
    if system == "Count the letters.":
        return Reply("5", usage=usage)
    return Reply("It does not say what to count." if "critici" in system + asked else "many", usage=usage)


def test_a_step_of_textual_gradient_descent_improves_a_prompt() -> None:
    script = Script(replies, batched=False)
    asked = engine(script, max_tokens=50)
    tg.set_backward_engine(asked, override=True)
    prompt = tg.Variable("Count.", requires_grad=True, role_description="the instruction of a counter")
    model = tg.BlackboxLLM(asked, system_prompt=prompt)
    question = tg.Variable("apple", requires_grad=False, role_description="a word")
    assert model(question).value == "many"
    optimizer = tg.TGD(parameters=[prompt], engine=asked)
    tg.TextLoss("Say what is wrong with the answer.", engine=asked)(model(question)).backward()
    optimizer.step()
    assert prompt.value == "Count the letters."
    assert model(question).value == "5"
    assert asked.calls == len(script.requests)
    assert asked.usage.output_tokens == 5 * asked.calls
    assert {request.max_tokens for request in script.requests} == {50}


def test_a_budget_holds_and_is_raised() -> None:
    script = Script(lambda r: "a")
    asked = engine(Budgeted(script, Budget(calls=2)))
    assert [asked("q"), asked(["q", "r"])] == ["a", "a"]
    assert script.requests[1].messages[-1].content == "q\nr"
    with pytest.raises(BudgetExceeded):
        asked("q")
    assert len(script.requests) == 2


def test_pictures_are_refused() -> None:
    with pytest.raises(SetupError, match="picture"):
        engine(Script(["a"]))(["q", b"png"])
