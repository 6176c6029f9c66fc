"""Who decides which calls are run, and taking up a run that waited for it."""

from __future__ import annotations

import asyncio
import json

import pytest

from promptlab import Reply, arun, run
from promptlab.errors import SetupError
from promptlab.jsonable import message_from, message_json
from promptlab.strategies import Decision, react
from promptlab.testing import Script
from promptlab.types import ToolCall


@pytest.fixture
def sent():
    return []


@pytest.fixture
def tools(sent):
    def send(to: str) -> str:
        """Sends it."""
        sent.append(to)
        return f"sent to {to}"

    def look() -> str:
        """Looks."""
        return "seen"

    return [look, send]


BOTH = Reply(calls=(ToolCall("1", "look"), ToolCall("2", "send", {"to": "all"})))
DONE = Reply("done")


def results(answer):
    return [(m.call_id, m.content) for m in answer.trace if m.role == "tool"]


def test_what_no_rule_names_is_run(sent, tools):
    answer = run(react("q", tools), Script([BOTH, DONE]))
    assert (answer.value, sent) == ("done", ["all"])
    run(react("q", tools, approval={"*": "reject", "send": "approve"}), Script([BOTH, DONE]))
    assert sent == ["all", "all"]


def test_a_rejected_call_is_answered_by_why_and_those_beside_it_are_run(sent, tools):
    answer = run(react("q", tools, approval={"send": Decision("reject", "not on Sundays")}), Script([BOTH, DONE]))
    assert (answer.value, sent) == ("done", [])
    assert results(answer) == [("1", "seen"), ("2", "Error: not run; the call was rejected: not on Sundays.")]


def test_an_edited_call_is_run_as_edited_and_the_model_is_told(sent, tools):
    answer = run(react("q", tools, approval={"send": Decision("edit", arguments={"to": "me"})}), Script([BOTH, DONE]))
    assert sent == ["me"]
    assert results(answer)[1][1] == "Run with other arguments, {'to': 'me'}.\nsent to me"


def test_a_run_that_is_ended_runs_nothing_more_and_answers_every_call(sent, tools):
    model = Script([BOTH])
    answer = run(react("q", tools, approval={"send": Decision("terminate", "enough")}), model)
    assert (answer.value, answer.why, sent) == (None, "ended before send was run: enough", [])
    assert [id for id, _ in results(answer)] == ["1", "2"]


def test_a_function_decides_by_what_the_call_says_and_may_wait_itself(sent, tools):
    def only_me(asked: ToolCall) -> Decision | str:
        return "approve" if asked.arguments["to"] == "me" else Decision("edit", arguments={"to": "me"})

    async def later(asked: ToolCall) -> Decision | str:
        await asyncio.sleep(0)
        return only_me(asked)

    for rule in (only_me, later):
        run(react("q", tools, approval={"send": rule}), Script([BOTH, DONE]))
        asyncio.run(arun(react("q", tools, approval={"send": rule}), Script([BOTH, DONE], batched=False)))
    assert sent == ["me"] * 4


def test_where_the_approval_fails_the_call_is_rejected(sent, tools):
    def broken(asked: ToolCall) -> str:
        raise OSError("no terminal")

    for rule in (broken, lambda asked: "perhaps", lambda asked: None):
        answer = run(react("q", tools, approval={"send": rule}), Script([BOTH, DONE]))
        assert (answer.value, sent) == ("done", [])
        assert "rejected: the approval failed" in results(answer)[1][1]


@pytest.mark.parametrize("native", [True, False])
def test_a_run_that_waits_for_a_decision_is_saved_as_json_and_gone_on_with(sent, tools, native):
    first = BOTH if native else "Thought: hm.\nAction: send[all]"
    last = DONE if native else "Action: finish[done]"
    waiting = run(react("q", tools, native=native, approval={"send": "wait"}), Script([first]))
    assert (waiting.value, waiting.why, sent) == (None, "waiting for a decision on send", [])
    saved = json.dumps([message_json(turn) for turn in waiting.trace])
    chat = [message_from(turn) for turn in json.loads(saved)]
    answer = run(react(chat, tools, native=native), Script([last]))
    assert (answer.value, sent) == ("done", ["all"])
    assert answer.trace[: len(chat)] == waiting.trace
    again = run(react(answer.trace, tools, native=native), Script([]))
    assert again.value == "done"  # of a finished run the answer is read, and nothing asked


def test_in_text_a_rejection_is_what_the_model_observes(sent, tools):
    model = Script(["Action: send[all]", "Action: finish[no]"])
    answer = run(react("q", tools, native=False, approval={"send": "reject"}), model)
    assert (answer.value, sent) == ("no", [])
    assert answer.trace[-2].content == "Observation: Error: not run; the call was rejected."


@pytest.mark.parametrize(("do", "given"), [("perhaps", None), ("edit", None), ("approve", {})])
def test_a_decision_is_one_of_five(do, given):
    with pytest.raises(SetupError, match="approve, edit, reject, terminate, wait"):
        Decision(do, arguments=given)


@pytest.mark.parametrize("approval", [{"send": "ask"}, {"*": "edit"}, {"send": None}, "reject"])
def test_a_table_of_what_is_no_decision_is_refused_before_anything_is_asked(sent, tools, approval):
    script = Script([BOTH, DONE])
    with pytest.raises(SetupError, match=r"A decision is one of|approval is a table"):
        run(react("q", tools, approval=approval), script)
    assert (script.requests, sent) == ([], [])


@pytest.mark.parametrize("native", [True, False])
def test_a_table_that_names_no_tool_is_refused_before_anything_is_asked(sent, tools, native):
    script = Script([BOTH, DONE])
    with pytest.raises(SetupError, match=r"approval names 'sned', but the tools are: look, send\. “\*” is for all"):
        run(react("q", tools, native=native, approval={"*": "approve", "sned": "reject"}), script)
    with pytest.raises(SetupError, match="approval names 'send', but the tools are: none"):
        run(react("q", native=native, approval={"send": "reject"}), script)
    assert (script.requests, sent) == ([], [])
