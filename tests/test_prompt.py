"""Prompts: what is sent, and what is read from replies of the kinds models write."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from promptlab import Example, Message, Prompt
from promptlab.errors import SetupError


def choice(*labels: str) -> Prompt:
    return Prompt(output=Literal[labels])  # type: ignore[valid-type]


COLOURS = choice("red", "blue")


class Case(BaseModel):
    disease: str
    cases: int


# ---- rendering


def test_a_chat_is_what_is_wanted_then_the_shots_then_the_question():
    prompt = Prompt("Sort by colour.", Literal["red", "blue"], (Example("sky", "blue"), Example("blood", "red")))
    assert prompt.render("sea") == [
        Message("system", "Sort by colour.\nAnswer with one of: red, blue."),
        Message("user", "sky"),
        Message("assistant", "blue"),
        Message("user", "blood"),
        Message("assistant", "red"),
        Message("user", "sea"),
    ]


def test_nothing_wanted_is_no_system_message():
    assert Prompt().render("Why?") == [Message("user", "Why?")]


def test_fields_are_shown_one_a_line():
    assert Prompt().render({"title": "Measles", "year": "2024"})[0].content == "title: Measles\nyear: 2024"


@pytest.mark.parametrize(
    ("output", "target", "said"),
    [(bool, True, "yes"), (bool, False, "no"), (int, 7, "7"), (float, 0.5, "0.5"), (str, "so", "so")],
)
def test_what_a_shot_says_is_read_as_its_target(output, target, said):
    prompt = Prompt(output=output, shots=(Example("q", target),))
    assert prompt.render("r")[-2].content == said
    assert prompt.parse(said).value == target


def test_a_shot_of_a_pydantic_model_is_its_json():
    prompt = Prompt(output=Case, shots=(Example("q", Case(disease="measles", cases=3)),))
    system, _, said, _ = prompt.render("r")
    assert json.loads(said.content) == {"disease": "measles", "cases": 3}
    assert prompt.parse(said.content).value == Case(disease="measles", cases=3)
    assert '"cases"' in system.content


class Renamed(BaseModel):
    disease: str = Field(alias="theDisease")


@pytest.mark.parametrize("target", [Renamed(theDisease="measles"), {"theDisease": "measles"}], ids=["model", "dict"])
def test_a_shot_has_the_names_that_the_schema_asks_for(target):
    prompt = Prompt(output=Renamed, shots=(Example("q", target),))
    system, _, said, _ = prompt.render("r")
    assert '"theDisease"' in system.content
    assert json.loads(said.content) == {"theDisease": "measles"}
    assert prompt.parse(said.content).value == Renamed(theDisease="measles")


@pytest.mark.parametrize("output", [list, dict, Literal[1, 2], bytes, None])
def test_an_output_that_cannot_be_read_is_refused(output):
    with pytest.raises(SetupError, match="Literal of strings"):
        Prompt(output=output)


def test_a_prompt_is_a_value():
    assert Prompt("a").with_shots([Example("x", "y")]) == Prompt("a", shots=(Example("x", "y"),))


# ---- labels


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(deadline=None, max_examples=300)
@given(st.lists(printable, min_size=1, max_size=6, unique=True), st.data())
def test_a_label_is_read_as_itself_whatever_the_others_are(labels, data):
    label = data.draw(st.sampled_from(labels))
    assert choice(*labels).parse(label).value == label


words = st.text("abcdefgh", min_size=2, max_size=6)


@settings(deadline=None, max_examples=200)
@given(st.lists(words, min_size=2, max_size=5, unique=True), st.data())
def test_a_label_is_read_from_what_models_put_around_it(labels, data):
    label = data.draw(st.sampled_from(labels))
    around = data.draw(
        st.sampled_from(["**{}**", '"{}"', "{}.", "Label: {}.", " {}\n", "The answer is {}.", "It's “{}”!", "`{}`"])
    )
    assert choice(*labels).parse(around.format(label)).value == label
    assert choice(*labels).parse(around.format(label.upper())).value == label


@pytest.mark.parametrize(
    "reply",
    [
        "blue",
        "Blue",
        "BLUE.",
        "**Blue**",
        '"blue"',
        "'blue',",
        "_blue_",
        "(blue)",
        "Label: blue.",
        "**Label**: Blue",
        "I'd say blue, I think.",
        "Blue - because of the sky",
        "The answer is blue.",
        "The answer is: **Blue**",
        "**Answer:** blue",
        "**Answer**: blue",
        "Red is tempting, but the answer is blue.",
        "The answer is red. No wait, the answer is blue.",
        "The answer is blue. It is not red.",
        "blue\n\nBecause the text says sky, and nothing in it is red.",
        "Could be red or blue.\n\n**Blue**",
    ],
)
def test_replies_that_say_blue(reply):
    assert COLOURS.parse(reply).value == "blue"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("It is not red, it is blue", "not"),
        ("It is not red", "not"),
        ("It isn't red.", "not"),
        ("Definitely not the red one", "not"),
        ("red or blue", "2 labels"),
        ("red\nblue", "2 labels"),
        ("bluish", "none of the labels"),
        ("non-red", "none of the labels"),
        ("infrared-blueprint", "none of the labels"),
        ("I cannot tell.", "none of the labels"),
        ("", "empty"),
        (" \n", "empty"),
        ("I do not know what the answer is", "nothing follows"),
    ],
)
def test_replies_that_say_no_one_label_say_why(reply, why):
    answer = COLOURS.parse(reply)
    assert answer.value is None
    assert why in answer.why
    assert answer.text == reply


@pytest.mark.parametrize(
    ("labels", "reply", "value"),
    [
        (("weak", "weak advice"), "weak", "weak"),
        (("weak", "weak advice"), "weak advice", "weak advice"),
        (("weak", "weak advice"), "This is weak advice.", "weak advice"),
        (("weak", "weak advice"), "The advice is weak.", "weak"),
        (("1", "10"), "10", "10"),
        (("1", "10"), "It is 1.", "1"),
        (("1", "10"), "I give it a 10.", "10"),
        (("0", "1"), "10", None),
        (("0", "1"), "Score: 1.5", None),
        (("0", "1"), "-1", None),
        (("-1", "0", "1"), "It is -1.", "-1"),
        (("0", "1"), "1,000", None),
        (("US", "us"), "us", "us"),
        (("US", "us"), "Us", None),
        (("US", "us"), "It is US", "US"),
        (("A", "B"), "B.", "B"),
        (("A", "B"), "b)", "B"),
        (("A", "B"), "It is a case of B", "B"),
        (("A", "B"), "This is a tumour", None),
        (("A", "B", "S"), "It's B", "B"),
        (("smoker", "non-smoker"), "a non-smoker", "non-smoker"),
        (("a+", "a"), "Grade: a+", "a+"),
        (("no", "yes"), "No, there is none.", "no"),
    ],
)
def test_labels_that_are_like_each_other_are_told_apart(labels, reply, value):
    assert choice(*labels).parse(reply).value == value


# ---- numbers, yes and no, JSON, text


@given(st.integers())
def test_an_integer_is_read_as_itself(n):
    assert Prompt(output=int).parse(str(n)).value == n
    assert Prompt(output=int).parse(f"The answer is {n:,}.").value == n


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_as_itself(x):
    assert Prompt(output=float).parse(str(x)).value == x


@pytest.mark.parametrize(
    ("output", "reply", "value"),
    [
        (int, "5 + 3 = 8.", 8),
        (int, "The answer is 5 + 3 = 8.", 8),
        (int, "The answer is 7. I used 3 steps.", 7),
        (int, "Answer: **42**", 42),
        (int, "about 12, or so", 12),
        (int, "7.0", 7),
        (int, "between 3-4", 4),
        (int, "2.5", None),
        (int, "none", None),
        (int, "9" * 5000, None),
        (float, "$1,234.50", 1234.5),
        (float, "p = .05", 0.05),
        (float, "1e-3", 0.001),
        (float, "1e999", None),
        (float, "The answer is 2.5. That is 1 more.", 2.5),
        (bool, "Yes.", True),
        (bool, "**No**, although it is true that …", False),
        (bool, "It is false", False),
        (bool, "That is not true", None),
        (bool, "It may be true or false", None),
        (bool, "The answer is yes", True),
        (bool, "perhaps", None),
        (str, "  as it is \n", "as it is"),
        (str, "Well, the answer is Paris", "Paris"),
        (str, "", None),
    ],
)
def test_replies_of_other_types(output, reply, value):
    answer = Prompt(output=output).parse(reply)
    assert (answer.value, type(answer.value)) == (value, type(value))
    assert (answer.why is None) == (value is not None)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"disease": "measles", "cases": 3}', Case(disease="measles", cases=3)),
        ('Here it is:\n```json\n{"disease": "measles", "cases": 3}\n```', Case(disease="measles", cases=3)),
        ('{"disease": "measles"}', "does not fit Case"),
        ('{"disease": "measles", ', "ends before its JSON is whole"),
        ('{"disease": }', "does not fit Case"),
        ("measles, 3", "no JSON"),
        ('{"a":' * 5000 + "}", "ends before its JSON is whole"),
    ],
)
def test_json_is_read_as_the_model_or_says_what_is_wrong(reply, value):
    answer = Prompt(output=Case).parse(reply)
    if isinstance(value, str):
        assert answer.value is None
        assert value in answer.why
    else:
        assert answer.value == value


class Note(BaseModel):
    note: str = ""
    level: str = "low"
    parts: list[Note] = []


class Table(RootModel[list[list[int]]]):
    """Rows of numbers."""


@pytest.mark.parametrize(
    "reply",
    [
        '{"note": "2 + 2 = 4, so the answer is 4.", "level": "urgent"}',
        '```json\n{"note": "She asked what the answer is.", "level": "urgent", "parts": [{"note": "n"}],}\n```',
        'Here it is: {"note": "The answer is {}.", "level": "urgent", "parts": [{"note": "n"}]}',
        '{"note": "Answer: \\\\boxed{4}", "level": "urgent"}',
        'Of {these} it is one. The answer is {"note": "Call Dr. Smith now", "level": "urgent"}',
        'The answer is:\n{"note": "x",\n "level": "urgent",\n}',
        '{"note": "draft", } or so. So the answer is {"note": "x", "level": "urgent",}',
        'With x in [0, 1), a 5" pipe, the answer is {"note": "x", "level": "urgent",}',
        "{'note': 'so the answer is this', 'level': 'urgent', 'parts': [{'note': 'n'}]}",
        'The answer is in the record. {"note": "x", "level": "urgent"}',
        '```\n{"level": "urgent",}\n```\nThe answer is above.',
    ],
)
def test_what_a_text_within_the_json_says_announces_nothing(reply):
    assert Prompt(output=Note).parse(reply).value.level == "urgent"


def test_json_of_several_lines_or_sentences_is_not_read_by_the_first():
    assert Prompt(output=Table).parse("The answer is:\n[[1, 2],\n [3, 4],\n [5, 6]]").value.root == [
        [1, 2],
        [3, 4],
        [5, 6],
    ]


@pytest.mark.parametrize(
    "end", ['{"note": "b"', '{"note": "b", "parts": [{}', '{"note": "b}', '{"note": "b"}', '{"note": "b"}, {"not']
)
def test_json_that_was_cut_off_is_not_mended(end):
    """The last part would be lost without a word."""
    answer = Prompt(output=Note).parse('{"note": "all", "parts": [{"note": "a"}, ' + end)
    assert (answer.value, answer.why) == (None, "the reply ends before its JSON is whole")


OUTPUTS: list[Any] = [str, int, float, bool, Case, Literal["red", "blue"], Literal["A", "B", "-1"]]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(OUTPUTS),
    st.text()
    | st.lists(st.sampled_from(["answer is ", "red", "A", "not ", "{", "}", "1", ".", "\n", ",", "e9", "-"])).map(
        "".join
    ),
)
def test_no_reply_is_an_error(output, reply):
    answer = Prompt(output=output).parse(reply)
    assert (answer.value is None) == (answer.why is not None)
