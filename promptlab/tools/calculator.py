"""Arithmetic, by walking the expression: nothing a model writes is evaluated as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from promptlab.errors import WrongCall

Number = int | float | Fraction

NUMBER = re.compile(r"(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
WORD = re.compile(r"[^\W\d]\w*")
MOST_CHARACTERS = 1_000
MOST_BITS = 4_096  # of a whole number on the way; about 1,200 digits
MOST_PLACES = 1_200  # that a number is rounded to
MOST_DEPTH = 50
MOST_DIGITS = 30  # of a decimal that is written exactly
ABOUT = "≈ "  # before a value that was rounded

OPERATIONS: dict[type[ast.AST], Callable[..., Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def within_reason(places: int) -> int:
    """The places to round to: Python makes a number of as many digits."""
    if abs(places) > MOST_PLACES:
        raise WrongCall(f"a number is rounded to {MOST_PLACES:,} places at most")
    return places


def root(x: Number) -> Number:
    """The square root, exact where it is a fraction."""
    if isinstance(x, int | Fraction) and x >= 0:
        over, under = math.isqrt(x.numerator), math.isqrt(x.denominator)
        if (over**2, under**2) == (x.numerator, x.denominator):
            return Fraction(over, under)
    return math.sqrt(x)


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "log10": math.log10,
    "max": lambda *numbers: max(numbers),
    "min": lambda *numbers: min(numbers),
    "round": lambda x, places=0: Fraction(str(round(x, within_reason(places)))),  # which is exact from there on
    "sqrt": root,
}
CONSTANTS = {"pi": math.pi, "e": math.e}


def calculator(expression: str) -> str:
    """The value of an arithmetic expression, such as 37 * 84 or (2 + 3) ** 2 / 7.

    Numbers, + - * / // % **, parentheses, abs, ceil, exp, floor, log, log10, max, min, round, sqrt, pi and e. Whole
    numbers and fractions are exact on the way, decimals too, but for fractions of more than 1,200 digits; a value that
    had to be rounded begins with ≈. × · ÷ ^ and thousands' commas (1,234) are understood.

    Args:
        expression: the expression
    """
    return written(value_of(expression))


def value_of(expression: str) -> Number:
    """The value of an expression, exact where it can be. Raises WrongCall saying what is wrong with it."""
    if len(expression) > MOST_CHARACTERS:
        raise WrongCall(f"the expression has {len(expression):,} characters; {MOST_CHARACTERS:,} is the most")
    text = _as_python(expression)
    for word in WORD.findall(NUMBER.sub(" ", text)):
        if word not in FUNCTIONS and word not in CONSTANTS:
            raise WrongCall(f"a calculator knows no {word!r}; it has numbers, + - * / // % **, {_functions()}")
    try:
        return _value(_with_decimals(ast.parse(text, mode="eval").body, text), 0)
    except (SyntaxError, MemoryError, RecursionError) as error:
        why = error.msg if isinstance(error, SyntaxError) else "it is too deeply nested"
        raise WrongCall(f"{expression!r} is no arithmetic expression: {why}") from None
    except ZeroDivisionError:
        raise WrongCall(f"{expression!r} divides by zero") from None
    except (ArithmeticError, TypeError) as error:
        raise WrongCall(f"{expression!r} cannot be calculated: {error}") from None
    except ValueError as error:
        if isinstance(error, WrongCall):
            raise
        raise WrongCall(f"{expression!r} cannot be calculated: {error}") from None


def _as_python(expression: str) -> str:
    text = expression.strip().removesuffix("=").strip()
    for sign, theirs in (("×", "*"), ("·", "*"), ("÷", "/"), ("−", "-"), ("^", "**"), (ABOUT.strip(), "")):
        text = text.replace(sign, theirs)
    return _without_thousands_commas(text.strip())


def _without_thousands_commas(text: str) -> str:
    if WORD.search(NUMBER.sub(" ", text)):  # there commas part arguments
        return text
    return THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)


def _value(node: ast.AST, depth: int) -> Number:
    if depth > MOST_DEPTH:
        raise WrongCall(f"the expression is nested more than {MOST_DEPTH} deep")
    match node:
        case ast.Constant(value=int() | float() | Fraction() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=inner) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(inner, depth + 1))
        case ast.BinOp(left=left, op=op, right=right):
            return _within(_combined(_value(left, depth), op, _value(right, depth + 1)))  # a long sum is not deep
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in FUNCTIONS:
            return _within(FUNCTIONS[name](*(_value(each, depth + 1) for each in given)))
    raise WrongCall(
        f"a calculator knows no {ast.unparse(node)[:60]!r}; it has numbers, + - * / // % **, {_functions()}"
    )


def _with_decimals(tree: ast.expr, text: str) -> ast.expr:
    """The expression, each .1 in it as one tenth, as people mean it, and with all of its digits."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            typed = ast.get_source_segment(text, node) or ""
            exponent = typed.lower().partition("e")[2].lstrip("+-0")
            if math.isfinite(node.value) and len(exponent) <= 3:  # else a number of as many digits would be made
                node.value = Fraction(typed)  # type: ignore[assignment]
    return tree


def _combined(left: Number, op: ast.operator, right: Number) -> Number:
    if isinstance(op, ast.Div):
        exact = isinstance(left, int | Fraction) and isinstance(right, int | Fraction)
        return Fraction(left) / Fraction(right) if exact else left / right
    if isinstance(op, ast.Pow):
        return _power(left, right)
    if type(op) not in OPERATIONS:
        raise WrongCall("a calculator has + - * / // % ** only")
    return OPERATIONS[type(op)](left, right)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        exponent = int(exponent)
    if isinstance(base, int | Fraction) and isinstance(exponent, int):
        if math.log2(max(abs(base.numerator), base.denominator)) * abs(exponent) <= MOST_BITS:
            return Fraction(base) ** exponent
        if base.denominator == 1:
            raise WrongCall(f"{base} ** {exponent} is too large")
    try:
        result: float | complex = float(base) ** float(exponent)
    except OverflowError:
        raise WrongCall(f"{base} ** {exponent} is too large") from None
    if isinstance(result, complex):
        raise WrongCall("the result is no real number")
    return result


def _within(value: Number) -> Number:
    """A fraction that is whole as an int, one that is too long rounded. Raises WrongCall for too long an int."""
    if isinstance(value, Fraction) and value.denominator == 1:
        value = value.numerator
    if isinstance(value, float) or max(abs(value.numerator), value.denominator).bit_length() <= MOST_BITS:
        return value
    if isinstance(value, int):
        raise WrongCall("a number on the way is too large")
    return float(value)


def _functions() -> str:
    return ", ".join([*FUNCTIONS, *CONSTANTS])


def written(value: Number) -> str:
    """A number as people write it: exactly where it is whole or a decimal of up to 30 digits, else rounded, behind ≈.

    Raises WrongCall for what is too large, or no number.
    """
    value = _within(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Fraction) and (exact := _as_decimal(value)):
        return exact
    try:
        near = float(value)
    except OverflowError:  # a fraction
        near = math.inf
    if not math.isfinite(near):
        raise WrongCall("the value is too large, or no number")
    digits = 15 if isinstance(value, Fraction) or near.is_integer() else 12  # arithmetic on floats spoils the last
    return f"{ABOUT}{near:.{digits}g}"


def _as_decimal(value: Fraction) -> str | None:
    """A fraction as a decimal of up to so many digits, if it is one."""
    places = next((n for n in range(1, MOST_DIGITS) if 10**n % value.denominator == 0), MOST_DIGITS)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if len(digits) <= MOST_DIGITS else None
