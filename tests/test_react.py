"""ReAct, in both its forms, on scripted replies."""

import asyncio
from contextlib import suppress
from random import Random
from typing import Literal

import pytest

from promptlab import Prompt, Reply, arun, run, tool
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.types import ToolCall

BEDS = {"Lorn": 214, "Vask": 31}


def lookup(name: str) -> int:
    """What is known of a place."""
    return BEDS[name]


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def thinking(*actions):
    return Script([f"Thought: hm.\nAction: {action}" for action in actions])


def test_thoughts_and_actions_are_answered_by_observations_until_there_is_an_answer():
    model = thinking("lookup[Lorn]", "lookup[Vask]", 'add[{"a": 214, "b": 31}]', "finish[245]")
    answer = run(react("How many beds?", [lookup, add], native=False), model)
    assert answer.value == "245"
    said = [message.content for message in answer.trace if message.role == "user"]
    assert said == ["Question: How many beds?", "Observation: 214", "Observation: 31", "Observation: 245"]
    assert answer.trace[0].content.startswith("Use tools: lookup[name], add[a, b]. End with finish[answer].")
    assert all(request.stop == ("\nObservation:",) for request in model.requests)


def test_the_native_form_hands_the_tools_to_the_model_and_its_calls_to_the_tools():
    first = Reply(calls=(ToolCall("1", "lookup", {"name": "Lorn"}), ToolCall("2", "lookup", {"name": "Vask"})))
    model = Script([first, Reply(text="245")])
    answer = run(react("How many beds?", [lookup, add]), model)
    assert answer.value == "245"
    assert [m.content for m in answer.trace if m.role == "tool"] == ["214", "31"]
    assert [spec.name for spec in model.requests[0].tools] == ["lookup", "add"]


async def both(calls, parallel):
    """A turn of two calls of a tool of which each waits until the other has begun, or a little while."""
    begun, other = [], asyncio.Event()

    async def fetch(page: str) -> str:
        """A page."""
        begun.append(page)
        if len(begun) == 2:
            other.set()
        if page == "a":  # answered last
            with suppress(TimeoutError):
                await asyncio.wait_for(other.wait(), 0.05 if not parallel else 5)
        return f"{page} after {len(begun)}"

    turn = Reply(calls=tuple(ToolCall(str(i), "fetch", {"page": page}) for i, page in enumerate(calls)))
    answer = await arun(react("?", [tool(fetch, parallel=parallel)]), Script([turn, Reply(text="done")]))
    return [(m.call_id, m.content) for m in answer.trace if m.role == "tool"]


def test_the_calls_of_a_turn_run_together_and_are_answered_in_the_models_order():
    assert asyncio.run(both("ab", parallel=True)) == [("0", "a after 2"), ("1", "b after 2")]


def test_the_calls_of_a_tool_that_is_not_parallel_run_one_after_the_other():
    assert asyncio.run(both("ab", parallel=False)) == [("0", "a after 1"), ("1", "b after 2")]


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("lookup[Mork]", "KeyError"),
        ("fly[away]", "there is no tool fly"),
        ("lookup[]", "wrong arguments for lookup"),
        ("add[1, 2]", "wrong arguments for add"),
        ("nothing of the kind", "there is no action"),
    ],
)
def test_what_goes_wrong_in_an_action_is_what_the_model_observes_next(action, told):
    answer = run(react("q", [lookup, add], native=False), thinking(action, "finish[5]"))
    assert answer.value == "5"
    assert told in answer.trace[-2].content


def test_without_an_answer_in_time_there_is_none_and_the_reason():
    for native, model in (
        (False, thinking(*["lookup[Lorn]"] * 3)),
        (True, Script([Reply(calls=(ToolCall("1", "add"),))] * 3)),
    ):
        answer = run(react("q", [lookup, add], max_steps=3, native=native), model)
        assert (answer.value, answer.why) == (None, "no answer in 3 steps")
        assert len(model.requests) == 3


def test_the_answer_is_of_the_prompts_type_and_its_instruction_and_shots_are_kept():
    prompt = Prompt(instruction="Judge.", output=Literal["yes", "no"])
    answer = run(react("q", [lookup], prompt, native=False), thinking("finish[Yes]"))
    assert answer.value == "yes"
    assert "Judge." in answer.trace[0].content
    assert [message.role for message in answer.trace].count("system") == 1
    assert run(react("q", [lookup], prompt, native=False), thinking("finish[maybe]")).value is None


def test_tools_may_wait():
    async def slow(name: str) -> int:
        """What is known, after a while."""
        await asyncio.sleep(0)
        return BEDS[name]

    model = thinking("slow[Lorn]", "finish[214]")
    assert asyncio.run(arun(react("q", [slow], native=False), model)).value == "214"


@pytest.mark.parametrize("seed", range(20))
def test_the_text_form_is_to_the_letter_that_which_the_bundled_model_was_taught(seed):
    from promptlab.tiny.data.tools import BOTH, FORMAT, USE, act, known

    question = known(Random(seed))
    done = [*question.done, ("I know the answer.", f"finish[{question.answer}]", "")]
    observed = iter([seen for _, _, seen in question.done])

    def calculator(expression: str) -> str:
        """Calculates."""
        return next(observed)

    def lookup(name: str) -> str:
        """Looks up."""
        return next(observed)

    model = Script([act(thought, action) for thought, action, _ in done])
    answer = run(react(question.text, [calculator, lookup], native=False), model)
    assert answer.value == question.answer
    told = [("system", f"{USE[BOTH]} {FORMAT}"), ("user", f"Question: {question.text}")]
    for thought, action, seen in question.done:
        told += [("assistant", act(thought, action)), ("user", f"Observation: {seen}")]
    assert [(turn.role, turn.content) for turn in model.requests[-1].messages] == told
