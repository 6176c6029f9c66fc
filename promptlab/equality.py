"""When two answers are the same: each way is a key, a function of an answer's value; equal keys are the same answer."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Hashable
from fractions import Fraction
from typing import Any, NamedTuple

from promptlab.extraction import AROUND, LONGEST_NUMBER, NUMBER, fraction, in_digits

Key = Callable[[Any], Hashable]

MONEY = re.compile(r"\\?[$€£¥]|\\?%")


def exactly(value: Any) -> Hashable:
    """Equal values: "18" is not "18.00". A value that cannot be hashed, as most pydantic models, by how it is told."""
    try:
        hash(value)
    except TypeError:  # also of a frozen model that holds a list
        return repr(value)
    return value  # type: ignore[no-any-return]


def as_number(value: Any) -> Hashable:
    """Equal numbers: 18 = 18.00 = $18 = 1,800/100 = 18 %; what is no number by itself, exactly."""
    number = number_of(value)
    return exactly(value) if number is None else number


def as_text(value: Any) -> Hashable:
    """Equal words: without case, articles and punctuation (as SQuAD's exact match has it), numbers as numbers."""
    if not isinstance(value, str):
        return as_number(value)
    if (number := number_of(value)) is not None:
        return number
    bare = "".join(" " if sign in "-–—/" else sign for sign in value.casefold())
    words = bare.translate(str.maketrans("", "", string.punctuation + "“”‘’")).split()
    return " ".join(word for word in words if word not in ("a", "an", "the")) or value.casefold().strip()


def number_of(value: Any) -> Fraction | None:
    """The number that a value is, exactly; None for a bool, a text that holds more than a number, and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction | str):
        return None
    if isinstance(value, float):
        return Fraction(repr(float(value))) if math.isfinite(value) else None
    if not isinstance(value, str):
        return Fraction(value)
    if len(value) > LONGEST_NUMBER:
        return None
    bare = in_digits(MONEY.sub("", value)).lstrip(AROUND.replace(".", "") + "≈~").rstrip(AROUND)
    bare = re.sub(r"\s*/\s*", "/", bare)
    bare = re.sub(r"^([-+−])\s+", r"\1", bare)
    return fraction(bare) if NUMBER.fullmatch(bare) else None


class Agreement(NamedTuple):
    """Whether an answer is the one wanted: exactly, and as a number."""

    strict: bool
    numeric: bool


def agreement(value: Any, target: Any) -> Agreement:
    """Both ways to compare, to be told side by side; no answer agrees with nothing."""
    if value is None:
        return Agreement(False, False)
    return Agreement(exactly(value) == exactly(target), as_number(value) == as_number(target))
