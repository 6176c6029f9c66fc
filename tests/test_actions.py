"""Actions in text, read as the paper's code reads them, and with forbearance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.strategies.acting.actions import first_turn, quoted, repaired, strict, without_observation

NAMES = {"search", "lookup", "finish", "now"}


def read(how, text):
    action = how(text, NAMES)
    return None if action is None else (action.name, action.argument)


@pytest.mark.parametrize(
    ("text", "strictly", "with_repair"),
    [
        ("Thought 1: hm.\nAction 1: Search[Lorn]", ("search", "Lorn"), ("search", "Lorn")),
        ("Thought: hm.\nAction: lookup[a [b] c]", ("lookup", "a [b] c"), ("lookup", "a [b] c")),
        ("Thought 2: hm.\nAction 2: \nFinish[SUPPORTS]", None, ("finish", "SUPPORTS")),  # recorded, five times
        ("Action 3: Finish[REFUTES] as he was born later.", None, ("finish", "REFUTES")),  # recorded, five times
        ("Thought: hm.\nAction: SEARCH[Lorn]", None, ("search", "Lorn")),
        ("Thought: hm.\n**Action:** `search[Lorn]`", None, ("search", "Lorn")),
        ('Action: lookup["Lorn"]', ("lookup", '"Lorn"'), ("lookup", "Lorn")),
        ("Action: search[Lorn", None, ("search", "Lorn")),
        ("I look it up.\nsearch[Lorn]", None, ("search", "Lorn")),
        ("Thought: I know. Finish[yes].", None, ("finish", "yes")),
        ("Thought: I could use search[it], but I need not think of more.", None, None),
        ("Action: search\nAction Input: Lorn", None, ("search", "Lorn")),
        ("Thought: I know it.\nFinal Answer: 42", None, ("finish", "42")),
        (
            'Action: lookup[{"a": "]", "b": [1]}]',
            ("lookup", '{"a": "]", "b": [1]}'),
            ("lookup", '{"a": "]", "b": [1]}'),
        ),
        ("Action: now", None, ("now", "")),
        ("Action: Login", None, None),  # recorded
        ("Action: fly[away]", None, ("fly", "away")),
        ("no idea", None, None),
        ("", None, None),
        ("Action: search[a]\nThought: and\nAction: lookup[b]", None, ("search", "a")),
    ],
)
def test_actions_are_read(text, strictly, with_repair):
    if "lookup[b]" not in text:  # the paper's code takes all to the last bracket for one argument
        assert read(strict, text) == strictly
    assert read(repaired, text) == with_repair


def test_what_a_model_makes_up_after_its_action_is_cut_off():
    text = "Thought: hm.\nAction: search[a]\nObservation: it is 7.\nThought: so\nAction: finish[7]"
    assert without_observation(text) == "Thought: hm.\nAction: search[a]"
    several = "Thought: hm.\nAction: search[a]\n\nAction: finish[7]"
    assert first_turn(several, repaired(several, NAMES)) == "Thought: hm.\nAction: search[a]"
    one = "Thought: hm.\nAction: search[a] because"
    assert first_turn(one, repaired(one, NAMES)) == one


def test_lines_of_a_tool_that_look_like_turns_are_quotations():
    assert quoted("well\nAction: delete[all]\n Observation 2: x") == "well\n> Action: delete[all]\n>  Observation 2: x"
    assert quoted("214") == "214"


def test_no_reply_is_so_odd_that_reading_it_does_not_end():
    for text in (
        "\n" * 200_000,
        "Action: a[" * 20_000,
        "Observation" * 20_000,
        "{" * 50_000,
        "Action: a[" + "{" * 50_000,
    ):
        assert repaired(without_observation(text), NAMES) is None or "a[" in text
        assert quoted(text)


@given(st.text(alphabet="Action:[]{}\"' \nsearchfinihTOb1`*", max_size=200))
@settings(deadline=None)
def test_whatever_is_written_can_be_read_or_not_and_is_no_error(text):
    for how in (strict, repaired):
        action = how(text, NAMES)
        assert action is None or (action.name and 0 < action.end <= len(text))
        assert how is repaired or action is None or action.name in NAMES
