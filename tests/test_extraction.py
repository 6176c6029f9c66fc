"""Reading answers, where they were found, and when two are the same."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import RootModel

from promptlab import Prompt
from promptlab.equality import agreement, as_number, as_text, exactly, number_of
from promptlab.extraction import Rule, boxed, read_choice, read_number

LETTERS = Prompt(output=Literal["A", "B", "C"])


@pytest.mark.parametrize(
    ("prompt", "reply", "value", "found"),
    [
        (Prompt(output=int), "I add. The answer is 7. Or 8?", 7, "after “answer is”, the only number"),
        (Prompt(output=int), "the answer is 6, no, the answer is 7", 7, "after the last “answer is”, the only number"),
        (Prompt(output=int), "3 + 4 = 7", 7, "the last of 3 numbers"),
        (Prompt(output=int), "so \\boxed{7}, and not 8", 7, "in a box, the only number"),
        (Prompt(output=int), "The answer is \\boxed{7}. I used 3 steps.", 7, "in a box, the only number"),
        (Prompt(output=bool), "Yes, it is", True, "the first word"),
        (LETTERS, "B", "B", "all of it"),
        (LETTERS, "Either.\n(B)\n", "B", "a line by itself"),
        (LETTERS, "I choose B.", "B", "the only label named"),
    ],
)
def test_an_answer_says_where_it_was_found(prompt, reply, value, found):
    answer = prompt.parse(reply)
    assert (answer.value, answer.found, answer.why) == (value, found, None)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Rule(), 4),
        (Rule(of_markers="first"), 2),
        (Rule(of_markers="first", of_numbers="first"), 1),
        (Rule(of_numbers="first"), 3),
        (Rule(marker=re.compile("####")), 4),
        (Rule(marker=re.compile("####"), of_numbers="first"), 1),
        (Rule(marker=re.compile("####"), required=True), None),
    ],
)
def test_which_marker_and_which_number_count_is_said_by_the_rule(rule, value):
    assert Prompt(output=int, rule=rule).parse("The answer is 1 or 2. No: the answer is 3 or 4").value == value


@pytest.mark.parametrize(
    "reply",
    [
        "This isn't really positive.",
        "It is not at all positive.",
        "It cannot be called positive.",
        "I don't think it is positive.",
        "The answer is not very positive.",
        "There is no evidence that it is positive.",
        "Not positive.",
    ],
)
def test_a_label_that_its_clause_denies_is_not_the_answer(reply):
    answer = Prompt(output=Literal["positive", "negative"]).parse(reply)
    assert answer.value is None
    assert "says what the label is not" in (answer.why or "")


@pytest.mark.parametrize(
    "reply",
    [
        "The patient is positive.",
        "I am not sure, but positive.",
        "Not only good but positive.",
        "No doubt positive.",
        "She did not die and was positive.",
        "It is not clear at first. It is positive.",
    ],
)
def test_a_label_is_not_denied_by_what_is_said_of_something_else(reply):
    assert Prompt(output=Literal["positive", "negative"]).parse(reply).value == "positive"


@pytest.mark.parametrize("reply", ["Answer: unclear", "A man walks in.", "“A man”, it says", "I do not know", "Abc"])
def test_a_letter_that_is_a_word_or_part_of_one_is_no_choice(reply):
    assert Prompt(output=Literal["A", "B", "I"]).parse(reply).value is None


@pytest.mark.parametrize("reply", ["A is right", "A", "(A)", "Answer: A", "It can only be A here", "A because of it"])
def test_a_letter_that_is_said_as_one_is_a_choice(reply):
    assert Prompt(output=Literal["A", "B", "I"]).parse(reply).value == "A"


def test_options_are_chosen_by_letter_or_else_by_what_they_say():
    options = {"A": "red", "B": "blue"}
    assert read_choice("It is (B), red herrings aside", options).value == "B"
    assert read_choice("I pick blue", options) == ("B", "the only label named, by its text", None)
    assert read_choice("reddish", options).why == "the reply names none of the labels"
    assert read_choice("not blue", options).why == "the reply says what the label is not"


def test_zero_is_an_answer():
    assert Prompt(output=int).parse("The answer is 0.").value == 0
    assert Prompt(output=float).parse("0.0").why is None


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("\\boxed{7}", "7"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{}", ""),
        ("\\boxed{7", None),
        ("7", None),
    ],
)
def test_a_box_is_read_with_its_braces_balanced(text, inside):
    assert boxed(text) == inside


def test_an_empty_box_is_no_answer():
    assert Prompt().parse("\\boxed{}").value is None


# ---- numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/2", 0.5),
        ("on 5/12/2020", 2020),
        ("1,2,3", 3),
        ("65,960", 65960),
        ("1,00,000", 100000),
        ("−3", -3),
        ("5-3", 3),
        ("1e5", 100000),
        ("1e-400", 0),
        ("0." + "3" * 1000, 1 / 3),
        ("2/0", 0),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert read_number(text, float).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["9" * 5000, "1e999", "1e9999", "1e99999999999"])
def test_numbers_too_large_for_a_float_are_refused_in_no_time(text):
    number = read_number(text, float)
    assert number.value is None
    assert "is too large a number" in (number.why or "")


def test_a_fraction_of_thousands_of_digits_is_read_in_no_time_or_not_at_all():
    assert (read_number("9" * 4200 + "/3", float).value or 0) < 1e308


class Rows(RootModel[list[list[str]]]):
    """JSON of any depth."""


@pytest.mark.parametrize(
    "unit",
    [
        *("1,", "22,", "1/", "9", "answer is ", "\\boxed{", "A ", " ", "1,000,", "e9", "1 000 ", "3 1/2 ", "½"),
        *("10^", "1 x ", "5 × 10³", "\\frac{1}{", "1{,}", "3   ", '"', '\\"', '{"', '["a",', "[ ", '{"answer is '),
    ],
)
def test_endless_replies_are_read_in_linear_time(unit):
    endless = unit * (200_000 // len(unit))  # quadratic time would be minutes
    for output in (int, str, bool, Literal["A", "B"], Rows):
        Prompt(output=output).parse(endless)
    assert number_of(endless) is None


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("It takes 3 1/2 hours.", 3.5),
        ("−2½", -2.5),
        ("about ¾ of them", 0.75),
        ("1 000 000", 1e6),
        ("It is 1 234 567 people.", 1234567),
        ("12\u202f345", 12345),
        ("100 200 300", 300),  # rather a list
        ("in groups of 5 120", 120),
        ("2024 11/30", 11 / 30),
        ("It is 1/2.", 0.5),
        ("It takes 3 1/2.", 3.5),
        ("1/2.5", 2.5),
        ("8 12", 12),
    ],
)
def test_parts_and_thousands_apart_are_one_number(said, value):
    assert read_number(said, float).value == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (r"It is -\frac{1}{2}.", -0.5),
        (r"\dfrac{-3}{4}", -0.75),
        (r"\tfrac {1,000} {8}", 125),
        (r"\frac{1.5}{2}", 0.75),
        (r"it is \frac{3}{0} or 7", 7),
        (r"1{,}234 and 2\frac{1}{2}", 2.5),
        (r"2\frac{1}{2}", 2.5),
        (r"x = 1{,}234 or so", 1234),
        (r"1\,234\,567", 1234567),
        ("5 × 10^3", 5000),
        ("2.5 x 10^-4 mol", 0.00025),
        ("1.2 × 10⁶ cells", 1.2e6),
        (r"3 \cdot 10^{-2}", 0.03),
        (r"1.2\times10^5", 120000),
        ("10⁻³", 0.001),
        ("10^5 to 10^6", 1e6),
        ("3 x 10 tablets", 10),
        ("v10^2", 2),
        ("H2O at 37", 37),
    ],
)
def test_numbers_as_latex_and_science_write_them_are_one_number(said, value):
    assert read_number(said, float).value == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("The answer is -$1,200.", -1200),
        ("−€5", -5),
        (r"-\$5", -5),
        ("$3-$5", 5),
        ("–5", -5),
        ("pp. 5–9", 9),
        ("0,5", 0.5),
        ("0,125 mg", 0.125),
        ("1,5 km", 1.5),
        ("12\u202f345,5", 12345.5),
        ("€1.234,56", 1234.56),
        ("(€1,50)", 1.5),
        ("1.000.000", 1e6),
        ("1.000", 1),
        ("1'000 or 1_000", 1000),
        ("(1,5)", 5),  # lists
        ("[0,1)", 1),
        ("3,4,5", 5),
        ("1.5e−3", 0.0015),
        (r"\frac12", 0.5),
        ("1 / 2", 0.5),
        ("1 / 2 / 2020", 2020),
    ],
)
def test_numbers_are_read_as_other_countries_write_them_and_with_their_sign(said, value):
    assert read_number(said, float).value == value


def test_a_number_with_a_decimal_comma_is_no_whole_one():
    assert read_number("1,5", int).why == "1.5 is not a whole number"


EIGHTEEN = [
    "≈ 18",
    18,
    18.0,
    "18",
    "18.00",
    "$18",
    "18 %",
    "1,800/100",
    "1,800 / 100",
    "**18**.",
    "\\$18",
    "+18",
    "€ 18.0",
    r"\frac{36}{2}",
    "1.8 × 10^1",
]


@pytest.mark.parametrize("form", EIGHTEEN)
def test_forms_of_one_number_are_equal_as_numbers(form):
    assert as_number(form) == as_number("18") == Fraction(18)
    assert agreement(form, "18") == (form == "18", True)


@pytest.mark.parametrize("form", ["18 or 19", "18 eggs", "x = 18", "", "eighteen", True, None, float("inf"), "1/0"])
def test_what_is_more_than_a_number_is_none(form):
    assert number_of(form) is None


def test_fractions_in_latex_are_numbers():
    assert number_of("\\frac{1}{2}") == number_of("0.5") == number_of(0.5)


def test_texts_are_equal_as_words():
    assert as_text("The New-York  city.") == as_text("new york City")
    assert as_text("18.0") == as_text(18)
    assert as_text("The The") == as_text("the the") != as_text("a")
    assert exactly("New York") != exactly("new york")


@settings(deadline=None)
@given(st.integers(), st.integers(1, 10**6))
def test_a_fraction_written_out_is_that_fraction(a, b):
    assert number_of(f"{a}/{b}") == Fraction(a, b)
    assert as_number(f"{a:,}") == a
    assert agreement(None, a) == (False, False)


@settings(deadline=None)
@given(st.text(alphabet="0123456789,./-+eE$% (){}\\x×^³frac", max_size=40))
def test_no_text_is_an_error(text):
    for value in (read_number(text, float).value, read_number(text, int).value):
        assert value is None or as_number(value) == number_of(value)
    assert hash(as_number(text)) == hash(as_number(text))
    boxed(text)
