"""Agents that go round in circles."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Reply, run
from promptlab.strategies import Rules, react
from promptlab.strategies.acting.loop_guard import NUDGE, Guard
from promptlab.testing import Script
from promptlab.types import ToolCall


def lookup(name: str) -> str:
    """What is known of a place."""
    return f"nothing of {name}"


def looking(*names):
    return [f"Thought: hm.\nAction: lookup[{name}]" for name in names]


def calling(*names):
    return [Reply(calls=(ToolCall(f"c{i}", "lookup", {"name": name}),)) for i, name in enumerate(names)]


def nudges(answer):
    return [message.role for message in answer.trace if NUDGE in message.content]


def test_a_model_that_repeats_itself_is_told_once_and_stopped_the_next_time():
    for native, replies in ((False, looking(*"aaaaaaa")), (True, calling(*"aaaaaaa"))):
        model = Script(replies)
        answer = run(react("q", [lookup], native=native), model)
        assert (answer.value, answer.why) == (None, "the same action had the same result again and again")
        assert len(model.requests) == 4
        assert nudges(answer) == ["user"]


def test_two_actions_that_take_turns_are_a_circle_too():
    for native, replies in ((False, looking(*"ababab")), (True, calling(*"ababab"))):
        model = Script(replies)
        answer = run(react("q", [lookup], native=native), model)
        assert answer.why == "the same two actions took turns, with the same results"
        assert len(model.requests) == 5


def test_a_model_that_heeds_the_nudge_goes_on():
    answer = run(react("q", [lookup], native=False), Script([*looking(*"aaab"), "Action: finish[7]"]))
    assert (answer.value, answer.why, nudges(answer)) == ("7", None, ["user"])


def test_the_same_action_with_another_result_is_no_circle():
    seen = iter(range(9))

    def roll() -> int:
        """A number."""
        return next(seen)

    answer = run(react("q", [roll], native=False), Script(["Action: roll[]"] * 6 + ["Action: finish[5]"]))
    assert (answer.value, nudges(answer)) == ("5", [])


def test_the_guard_can_be_left_off():
    answer = run(react("q", [lookup], native=False, rules=Rules(repeats=0)), Script(looking(*"aaaaaaaa")))
    assert answer.why == "no answer in 8 steps"
    assert nudges(answer) == []


def test_what_cannot_be_carried_out_three_times_running_ends_the_run():
    for native, replies in (
        (False, ["Action: fly[away]", "hm", "Action: Login", "Action: finish[1]"]),
        (True, [Reply(calls=(ToolCall("1", name),)) for name in "abc"]),
    ):
        answer = run(react("q", [lookup], native=native), Script(replies))
        assert answer.why == "no action that could be carried out, 3 times running"
    fine = ["hm", "hm", *looking("a"), "hm", "hm", "Action: finish[1]"]
    assert run(react("q", [lookup], native=False, rules=Rules(repeats=0)), Script(fine)).value == "1"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=30), st.integers(2, 4))
@settings(deadline=None)
def test_a_stop_follows_a_nudge_and_both_follow_a_circle(steps, repeats):
    guard, nudged = Guard(repeats, 0), 0
    for i, step in enumerate(steps):
        verdict = guard.note(*step)
        past = steps[: i + 1]
        alternating = len(past) >= 4 and past[-4:-2] == past[-2:] and past[-1] != past[-2]
        circle = alternating or (len(past) >= repeats and len(set(past[-repeats:])) == 1)
        assert bool(verdict.nudge or verdict.stop) == circle
        assert not (verdict.stop and not nudged)
        nudged += verdict.nudge
        assert nudged <= 1
