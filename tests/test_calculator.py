"""The calculator: exact where it can be, and no way in."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import run
from promptlab.errors import WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.calculator import ABOUT, calculator, value_of


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("37 * 84", "3108"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("-2 ** 2", "-4"),
        ("2 ** 3 ** 2", "512"),
        ("7 / 2", "3.5"),
        ("6 / 3", "2"),
        ("1 / 3", "≈ 0.333333333333333"),
        ("1 / 3 * 3", "1"),
        ("0.1 + 0.2", "0.3"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("1,234 + 1", "1235"),
        ("12,345,678 * 2", "24691356"),
        ("3 × 4 ÷ 6", "2"),
        ("2^10", "1024"),
        ("37 * 84 =", "3108"),
        ("sqrt(16)", "4"),
        ("sqrt(2)", "≈ 1.41421356237"),
        ("max(3, 1,234, 2)", "234"),  # commas part arguments there
        ("round(2.567, 2)", "2.57"),
        ("abs(-3) + floor(2.9) + ceil(2.1)", "8"),
        ("2 ** -2", "0.25"),
        ("2 ** 0.5", "≈ 1.41421356237"),
        ("98765432109.87 + 0.01", "98765432109.88"),
        ("12345678901234567.89 * 10", "123456789012345678.9"),
        ("10 ** 12 / 7", "≈ 142857142857.143"),
        ("-1 / 8 ** 5", "-0.000030517578125"),
        ("0.1 ** 29 + 1", "1.00000000000000000000000000001"),
        ("0.1 ** 30 + 1", "≈ 1"),
        ("2 ** -100", "≈ 7.88860905221012e-31"),
        ("1.1 ** 50", "≈ 117.390852879695"),
        ("1e-400 * 1e300 * 1e101", "10"),
        ("1e-4000000000", "≈ 0"),
        ("round(pi, 2) * 2", "6.28"),
        ("sqrt(6.25)", "2.5"),
        ("≈ 0.5 * 3", "1.5"),  # as it was told to the model
        ("10 ** 20 + 1", "100000000000000000001"),
        ("pi", "≈ 3.14159265359"),
        ("1e3 + 1", "1001"),
        ("(1 + 0.0425 / 12) ** 360", "≈ 3.57064947254"),  # a mortgage: exactly 1,326 digits by 1,326
        ("(241 / 240) ** 500 + (7 / 9) ** 1200", "≈ 7.99650902312"),
        ("1 ** 10000 + (-1) ** 5001", "0"),
        ("+".join(map(str, range(200))), "19900"),
        ("10 ** 1100 // 10 ** 1099", "10"),
    ],
)
def test_an_expression_has_its_value(expression, value):
    assert calculator(expression) == value


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "no arithmetic expression"),
        ("2 +", "no arithmetic expression"),
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("(10 ** 1000) * (10 ** 1000)", "too large"),
        ("10 ** 10000", "too large"),
        ("2.5 ** 1e9", "too large"),
        ("10 ** 400 / 7", "too large"),  # exact on the way, but no decimal is as large
        ("1" * 2_000, "2,000 characters"),
        ("(" * 400 + "1" + ")" * 400, "no arithmetic expression"),
        ("1e400 - 1", "too large"),
        ("-" * 100 + "1", "nested"),
        ("round(1.5, 10 ** 9)", "1,200 places"),  # of which Python would make a number of a billion digits
        ("round(5, -10 ** 9)", "1,200 places"),
        ("(-8) ** 0.5", "no real number"),
        ("exp(10000)", "cannot be calculated"),
        ("log(-1)", "cannot be calculated"),
        ("True + 1", "knows no"),
        ("x + 1", "knows no 'x'"),
        ("'a' * 3", "knows no"),
        ("__import__('os').system('id')", "knows no"),
        ("(1).__class__", "knows no"),
        ("[1 for _ in range(9)]", "knows no"),
        ("max(*[1])", "knows no"),
        ("round(1, ndigits=2)", "knows no"),
        ("1 if 1 else 2", "knows no"),
        ("1 << 1000", "only"),
        ("lambda: 1", "knows no"),
        ("max()", "cannot be calculated"),
        ("1\n2", "no arithmetic expression"),
    ],
)
def test_what_is_no_arithmetic_is_told_and_not_done(expression, told):
    with pytest.raises(WrongCall, match=told):
        calculator(expression)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from("+-*"))
def test_whole_numbers_are_exact(a, b, sign):
    expected = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert calculator(f"{a} {sign} ({b})") == str(expected)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_are_exact(a, b):
    assert value_of(f"({a}) + ({b})") == a + b
    assert Fraction(value_of(f"({a}) * ({b})")) == a * b


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, max_value=10**20, min_value=-(10**20)))
def test_decimals_are_written_with_all_their_digits(a):
    assert Fraction(calculator(f"({a:f}) + 0.25")) == Fraction(a) + Fraction(1, 4)


@given(st.text(alphabet="0123456789+-*/%(). e,^_ab", max_size=40))
def test_any_text_has_a_value_or_is_refused(text):
    try:
        found = calculator(text)
    except WrongCall:
        return
    assert float(found.removeprefix(ABOUT)) == float(found.removeprefix(ABOUT))


def test_a_model_calculates_in_the_text_form():
    model = Script(["Thought: hm.\nAction: calculator[37 * 84]", "Thought: so.\nAction: finish[3108]"])
    answer = run(react("What is 37 * 84?", [calculator], native=False), model)
    assert answer.value == "3108"
    assert [m.content for m in answer.trace if m.role == "user"][1:] == ["Observation: 3108"]
