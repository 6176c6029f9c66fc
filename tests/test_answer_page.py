"""The page of an answer: a search and votes as they were, offline, with nothing of the model's taken for HTML."""

import re

from promptlab import Answer, run, traced
from promptlab.strategies import self_consistency, tree_of_thoughts
from promptlab.strategies.puzzles import Game24
from promptlab.testing import Script
from promptlab.trace import answer_page
from promptlab.trace.drawings.searches import MOST, places

STEPS = {
    "4 6 7 12": "4 + 6 = 10 (left: 7 10 12)\n7 + 12 = 20 (left: 4 6 20)\n12 / 4 = 3 (left: 3 6 7)",
    "7 10 12": "12 - 10 = 2 (left: 2 7)",
    "3 6 7": "7 - 3 = 4 (left: 4 6)",
    "4 6": "4 * 6 = 24 (left: 24)",
    "2 7": "2 * 7 = 14 (left: 14)",
}


def reply(request):
    numbers = request.messages[-1].content.removeprefix("Numbers: ")
    return "likely" if "Can 24 be made" in request.messages[0].content else STEPS[numbers]


def page_of(answer, **more):
    return answer_page("4 6 7 12", answer, **more)


def test_a_search_is_drawn_with_its_values_its_dead_ends_and_the_way_to_the_answer():
    answer, exchanges = run(traced(tree_of_thoughts("4 6 7 12", Game24())), Script(reply))
    html = page_of(answer, model="a model", exchanges=exchanges)
    boxes = re.findall(r'<g class="([^"]*)"><title>([^<]*)</title>', html)
    assert [kind for kind, state in boxes if state.startswith("4 * 6 = 24")] == ["solved path"]
    assert [kind for kind, state in boxes if state.startswith("2 * 7 = 14")] == ["dead-end"]
    assert [kind for kind, state in boxes if state.startswith("7 + 12 = 20")] == ["invalid"]
    assert "7 + 12 is 19" in html
    assert html.count('<path class="way"') == 3
    assert len(boxes) == len(answer.trace["nodes"])
    assert "It ended: a solution was found." in html
    assert f"<dd>{len(exchanges)}</dd>" in html


def test_states_that_two_led_to_have_a_dashed_line():
    trace = {
        "kind": "tree",
        "strategy": "breadth first",
        "ended": "",
        "path": [0, 1, 3],
        "nodes": [node(0, []), node(1, [0]), node(2, [0]), node(3, [1, 2])],
    }
    html = page_of(Answer("x", trace=trace))
    assert html.count('<path class="more"') == 1
    assert html.count('<path class="way"') == 2


def node(i, parents, depth=1, state="s"):
    about = {"value": None, "fate": "kept", "why": "", "order": i}
    return {"id": i, "parents": parents, "depth": depth, "state": state, **about}


def test_no_two_states_stand_in_one_place():
    nodes = [node(0, [], 0)] + [node(i, [(i - 1) // 3], 1 + len(bin(i))) for i in range(1, 100)]
    at = places(nodes)
    assert len({(place.x, place.y) for place in at.values()}) == 100


def test_of_a_search_that_is_too_large_a_part_is_drawn_and_that_is_said():
    nodes = [node(0, [], 0), *(node(i, [0]) for i in range(1, 2000))]
    trace = {"kind": "tree", "strategy": "breadth first", "ended": "", "path": [0, 1999], "nodes": nodes}
    html = page_of(Answer(None, trace=trace))
    assert html.count("<g class=") == MOST
    assert f"{2000 - MOST:,} of 2,000 states are not drawn." in html
    assert html.count('<path class="way"') == 1


def test_votes_are_bars():
    model = Script(["The answer is 7."] * 6 + ["The answer is 8."] * 3 + ["The answer is <b>.", "none"])
    html = answer_page("q", run(self_consistency("q", n=11), model))
    assert re.findall(r'<tr class="won"><th scope="row">([^<]*)</th><td>([^<]*)', html) == [("7", "6")]
    assert "width:60.0%" in html
    assert "&lt;b&gt;" in html


def test_a_page_is_offline_and_takes_nothing_for_html_nor_shows_a_key():
    hostile = "<script>alert(1)</script> sk-0123456789abcdef"
    nodes = [node(0, [], 0, hostile), node(1, [0], 1, hostile)]
    trace = {"kind": "tree", "strategy": hostile, "ended": hostile, "path": [0, 1], "nodes": nodes}
    html = answer_page(hostile, Answer(hostile, why=hostile, trace=trace, votes={hostile: 1}), model=hostile)
    assert "<script" not in html
    assert "0123456789abcdef" not in html
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)=|url\(|http", html.replace("http-equiv", ""))


def test_an_answer_without_a_drawing_has_a_page_all_the_same():
    html = answer_page("q", Answer(None, why="the model said nothing", trace="a chain"))
    assert "No answer" in html
    assert "a chain" in html
