"""Each call is answered exactly once, right after its turn and in the model's order, whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Message, Prompt, Reply, Tool, run
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.errors import BudgetExceeded, ContextOverflow, Truncated, Unavailable
from promptlab.strategies import Rules, react
from promptlab.strategies.acting.calling import CUT_OFF
from promptlab.strategies.acting.context import estimated_tokens
from promptlab.strategies.acting.pairing import LOST, paired, unanswered
from promptlab.testing import Script
from promptlab.types import ToolCall, ToolSpec, Usage

KEPT = Rules(repeats=0, malformed=0)


class Killed(BaseException):
    """As a process is: nothing after it happens."""


def wished(id, name="echo", **arguments):
    return ToolCall(id, name, arguments)


def is_paired(chat: Sequence[Message], *, open_end: bool = False) -> bool:
    ids = [call.id for message in chat for call in message.calls]
    results = sum(message.role == "tool" for message in chat)
    for i, message in enumerate(chat):
        after = [m.call_id for m in takewhile(lambda m: m.role == "tool", chat[i + 1 :])] if message.calls else []
        wanted = [call.id for call in message.calls]
        if after != (wanted[: len(after)] if open_end and i + 1 + len(after) == len(chat) else wanted):
            return False
        results -= len(after)
    return results == 0 and len(set(ids)) == len(ids) and all(ids)


ids = st.sampled_from(["", "a", "b", "call-0", "call-1"])
names = st.sampled_from(["echo", "fail", "unknown"])
turns = st.lists(st.lists(st.builds(ToolCall, ids, names), min_size=1, max_size=4), max_size=5)


@given(turns, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_after_errors_a_kill_and_taking_it_up_again_every_call_has_its_one_answer(turns, killed_at):
    ran: list[int] = []
    kept: list[Message] = [Message("user", "q")]

    def ran_once() -> str:
        ran.append(len(ran))
        if len(ran) - 1 == killed_at:
            raise Killed
        return f"ran {len(ran)}"

    def failing() -> str:
        ran_once()
        raise KeyError("no such thing")

    spec = {"type": "object"}
    tools = [Tool(ToolSpec("echo", "", spec), ran_once), Tool(ToolSpec("fail", "", spec), failing)]
    replies = iter([*(Reply(calls=tuple(calls)) for calls in turns), Reply("done")])
    model = Script(lambda request: next(replies))
    rules = Rules(repeats=0, malformed=0, watch=lambda chat: kept.__setitem__(slice(None), chat))
    try:
        answer = run(react("q", tools, rules=rules, max_steps=9), model)
    except Killed:
        assert is_paired(kept, open_end=True)
        answer = run(react(kept, tools, rules=rules, max_steps=9), model)
    assert answer.value == "done"
    assert is_paired(answer.trace)
    assert [[call.name for call in m.calls] for m in answer.trace if m.calls] == [[c.name for c in t] for t in turns]
    known = sum(call.name != "unknown" for calls in turns for call in calls)
    assert len(ran) == known + (killed_at < known)  # only the one that was under way is run again


calls = st.lists(st.builds(ToolCall, ids, names), max_size=3).map(tuple)
messages = st.one_of(
    st.just(Message("user", "x")),
    st.builds(Message, st.just("assistant"), st.just("x"), calls),
    st.builds(Message, st.just("tool"), st.just("x"), st.just(()), ids),
)
chats = st.lists(messages, max_size=12)


@given(chats)
@settings(max_examples=50, deadline=None)
def test_a_chat_from_anywhere_is_paired_and_then_left_as_it_is(chat):
    made = paired(chat)
    assert is_paired(made, open_end=True)
    assert paired(made) == made
    assert [m for m in made if m.role == "user"] == [m for m in chat if m.role == "user"]
    after = [*made, *(Message("tool", "y", call_id=call.id) for call in unanswered(made))]
    assert is_paired(after)


def test_a_result_that_was_lost_on_the_way_is_said_to_be():
    chat = [
        Message("assistant", calls=(wished("1"), wished("2"))),
        Message("tool", "b", call_id="2"),
        Message("user", "?"),
    ]
    assert [(m.call_id, m.content) for m in paired(chat) if m.role == "tool"] == [("1", LOST), ("2", "b")]


def test_what_the_provider_wants_back_stays_with_a_turn_whose_ids_are_its_own():
    signed = ({"type": "thinking", "signature": "s"},)
    replies = [Reply(calls=(wished("1"),), opaque=signed), Reply(calls=(wished("1"),), opaque=signed), Reply("done")]
    echo = Tool(ToolSpec("echo", "", {}), lambda: "x")
    first, second = (m for m in run(react("q", [echo]), Script(replies)).trace if m.calls)
    assert (first.calls[0].id, first.opaque) == ("1", signed)
    assert (second.calls[0].id, second.opaque) == ("call-1", None)


def test_a_call_that_was_cut_off_is_asked_for_again_in_other_words():
    cut = Truncated("cut", reply=Reply("I write", finish="length"))
    model = Script([cut, Reply(calls=(wished("1"),)), Reply("done")])
    answer = run(react("q", [Tool(ToolSpec("echo", "", {}), lambda: "x")]), model)
    assert answer.value == "done"
    assert [m.content for m in model.requests[1].messages[-2:]] == ["I write", CUT_OFF]
    endless = run(react("q", []), Script(lambda request: cut))
    assert endless.why == "no action that could be carried out, 3 times running"


def looking(i, name="look"):
    return Reply(f"The answer is {i}.", (ToolCall(f"c{i}", name, {"i": i}),), usage=Usage(400, output_tokens=10))


def roll(i: int) -> int:
    """Rolls."""
    return i


def look(i: int) -> str:
    """Looks."""
    return f"{i} " * 400


@pytest.mark.parametrize("limit", [BudgetExceeded("the budget is over"), ContextOverflow("too long")])
def test_a_limit_gives_the_best_so_far_and_the_reason(limit):
    answer = run(react("q", [look]), Script([looking(1), looking(2), limit, limit]))
    assert (answer.value, answer.why) == ("2", str(limit))
    assert is_paired(answer.trace)
    nought = run(react("q", [look], Prompt(output=int)), Script([looking(0), limit, limit]))
    assert (nought.value, nought.why) == (0, str(limit))
    silent = run(react("q", [look]), Script([Reply(calls=(ToolCall("1", "look", {"i": 1}),)), limit, limit]))
    assert (silent.value, silent.why) == (None, str(limit))


@pytest.mark.parametrize(
    ("budget", "told"), [({"calls": 2}, "2 calls of 2 calls"), ({"tokens": 2_500}, "of 2,500 tokens are spent")]
)
def test_a_budget_that_is_spent_ends_a_run_with_what_there_is(budget, told):
    model = Budgeted(Script(looking(i, "roll") for i in range(9)), Budget(**budget))
    answer = run(react("q", [roll], max_tokens=10), model)
    assert told in answer.why
    assert answer.value == str(len([m for m in answer.trace if m.role == "assistant"]) - 1)


def test_a_limit_before_the_first_reply_and_other_failures_are_errors():
    with pytest.raises(BudgetExceeded):
        run(react("q", [look]), Script([BudgetExceeded("over")]))
    with pytest.raises(Unavailable):
        run(react("q", [look]), Script([looking(1), Unavailable("down")]))


def test_a_chat_that_overflows_is_asked_again_shorter_and_kept_whole():
    model = Script([looking(1), looking(2), looking(3), ContextOverflow("too long"), Reply("done")])
    answer = run(react("q", [look], rules=KEPT), model)
    assert answer.value == "done"
    before, after = (estimated_tokens(request.messages) for request in model.requests[-2:])
    assert after <= before // 2 + 10
    assert is_paired(model.requests[-1].messages)
    assert [m.content for m in answer.trace if m.role == "tool"] == [look(1), look(2), look(3)]


@given(st.lists(st.integers(0, 4_000), max_size=12), st.integers(500, 3_000))
@settings(max_examples=40, deadline=None)
def test_a_chat_never_outgrows_its_context_and_no_call_is_parted_from_its_result(sizes, context):
    outputs = iter(sizes)
    fetch = Tool(ToolSpec("fetch", "", {}), lambda: "x" * next(outputs))
    model = Script([*(Reply(calls=(ToolCall(str(i), "fetch"),)) for i in range(len(sizes))), Reply("done")])
    rules = Rules(repeats=0, context_tokens=context)
    answer = run(react("q", [fetch], rules=rules, max_steps=20), model)
    assert answer.value == "done"
    for request in model.requests:
        assert estimated_tokens(request.messages) <= context
        assert is_paired(request.messages)
        assert request.messages[0] == Message("user", "q")
    assert len([m for m in answer.trace if m.role == "tool"]) == len(sizes)


@pytest.mark.parametrize("native", [True, False])
def test_each_prompt_begins_with_the_one_before(native):
    said = [looking(i) for i in range(5)] if native else [f"Thought: hm.\nAction: look[{i}]" for i in range(5)]
    model = Script([*said, "done" if native else "Action: finish[1]"])
    run(react("q", [look], native=native), model)
    for before, after in zip(model.requests, model.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
