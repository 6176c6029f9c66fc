"""The page of what an agent thought, did and saw."""

from __future__ import annotations

import re

import pytest

from promptlab import Answer, Reply, run
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.trace import answer_page
from promptlab.trace.drawings.timelines import events
from promptlab.types import ToolCall

BEDS = {"Lorn": 214}


def lookup(name: str) -> int:
    """What is known."""
    return BEDS[name]


def by_calls() -> Answer:
    first = Reply("I look.", (ToolCall("1", "lookup", {"name": "Lorn"}), ToolCall("2", "lookup", {"name": "Vask"})))
    return run(react("How many?", [lookup]), Script([first, "214"]))


def in_text() -> Answer:
    model = Script(
        ["Thought: I look.\nAction: lookup[Lorn]", "Action: lookup[Vask]", "Thought: so\nAction: finish[214]"]
    )
    return run(react("How many?", [lookup], native=False), model)


def test_both_forms_come_to_the_same_kinds_of_events():
    kinds = [(event.kind, event.tool, event.step) for event in events(by_calls().trace)]
    assert kinds == [
        ("asked", "", 0), ("thought", "", 1), ("action", "lookup", 1), ("action", "lookup", 1),
        ("observation", "lookup", 1), ("fault", "lookup", 1), ("answer", "", 2),
    ]  # fmt: skip
    kinds = [(event.kind, event.tool, event.step) for event in events(in_text().trace)]
    assert kinds == [
        ("told", "", 0), ("asked", "", 0), ("thought", "", 1), ("action", "lookup", 1), ("observation", "", 1),
        ("action", "lookup", 2), ("fault", "", 2), ("thought", "", 3), ("answer", "finish", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", [by_calls(), in_text()], ids=["by calls", "in text"])
def test_the_page_shows_all_of_it_and_needs_nothing_else(answer):
    page = answer_page("How many?", answer)
    for text in ("How many?", "I look.", "214", "KeyError", "Lorn", "<h1>How many?</h1>"):
        assert text in page
    assert len(re.findall('<li class="event', page)) == len(list(events(answer.trace)))
    assert "http" not in page.replace('http-equiv="Content', "")
    assert "<script" not in page


def test_what_tools_say_is_text_and_keys_are_cut_off():
    answer = run(react("q"), Script(["<script>alert(1)</script> sk-abcdefghijklmnopqrstuvwxyz123456"]))
    page = answer_page("q", answer)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "abcdefghijklmnop" not in page
    assert "abcdefghijklmnop" in answer_page("q", answer, redact=False)
