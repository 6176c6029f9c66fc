"""Multi-digit multiplication in steps, by several ways that all lead to the product: 23 × 47 is 20 × 47 + 3 × 47, or …

That there are several, and that each can go wrong by itself, is what lets a vote over samples win: wrong answers
scatter, right ones meet (Wang et al. 2022, arXiv 2203.11171).
"""

from __future__ import annotations

from random import Random

from promptlab.tiny.data.chat import Chat, answers
from promptlab.tiny.data.reasoning import Problem, asked


def held_out(a: int, b: int) -> bool:
    """Whether the product of two numbers of two digits, in either order, is kept for tests: one in eight is."""
    low, high = sorted((a, b))
    return (37 * low + 11 * high) % 8 == 0


def parts_of(n: int) -> list[int]:
    """Hundreds, tens and ones: 47 is 40 and 7."""
    return [int(digit) * 10**place for place, digit in reversed(list(enumerate(reversed(str(n))))) if digit != "0"]


def summed(terms: list[int]) -> list[str]:
    """The sum of numbers, one after the other."""
    steps, total = [], terms[0]
    for term in terms[1:]:
        steps.append(f"{total} + {term} = {total + term}.")
        total += term
    return steps


def times(a: int, b: int) -> list[str]:
    """a * b, where b has one digit that is not 0, by the parts of a."""
    return [*(f"{x} * {b} = {x * b}." for x in parts_of(a)), *summed([x * b for x in parts_of(a)])]


def all_parts(rng: Random, a: int, b: int) -> list[str]:
    """20 * 40, 20 * 7, 3 * 40, 3 * 7 in one of four orders, and their sum."""
    firsts, seconds = parts_of(a), parts_of(b)
    if rng.random() < 0.3:
        firsts = firsts[::-1]
    if rng.random() < 0.3:
        seconds = seconds[::-1]
    terms = [(x, y) for x in firsts for y in seconds]
    return [*(f"{x} * {y} = {x * y}." for x, y in terms), *summed([x * y for x, y in terms])]


def one_apart(a: int, b: int) -> list[str]:
    """23 * 40 and 23 * 7, each worked out, and their sum."""
    return [*(step for y in parts_of(b) for step in times(a, y)), *summed([a * y for y in parts_of(b)])]


def rounded_up(a: int, b: int) -> list[str]:
    """23 * 50 less 23 * 3."""
    up = -b % 10
    whole = b + up
    steps = [*times(a, whole), *times(a, up)] if whole < 100 else [f"{a} * 100 = {a * 100}.", *times(a, up)]
    return [*steps, f"{a * whole} - {a * up} = {a * b}."]


def derivation(rng: Random, a: int, b: int) -> list[str]:
    """One of several, with the factors in either order."""
    if rng.random() < 0.3:
        a, b = b, a
    way = rng.random()
    if way > 0.85 and b > 10 and 1 <= -b % 10 <= 3:
        return rounded_up(a, b)
    return all_parts(rng, a, b) if way < 0.55 else one_apart(a, b)


def product(rng: Random, a: int, b: int) -> Problem:
    return Problem(f"{a} * {b} = ?", derivation(rng, a, b), str(a * b))


def factors(rng: Random, kept: bool = False) -> tuple[int, int]:
    """Two factors of one or two digits; with `kept`, two of two digits that are never taught."""
    while True:
        a, b = rng.randint(2, 99), rng.randint(2, 99) if kept or rng.random() < 0.75 else rng.randint(2, 9)
        if kept == (a > 10 and b > 10 and held_out(a, b)) and (a % 10 and b % 10):
            return a, b


def multiplication(rng: Random, room: int) -> Chat:
    """Products in steps; directly where a factor is one digit and the other at most 12, and some sums."""

    def ask() -> tuple[str, str]:
        kind = rng.random()
        if kind < 0.15:
            a, b = rng.randint(2, 12), rng.randint(2, 9)
            return asked(Problem(f"{a} * {b} = ?", [], str(a * b)), direct=True)
        if kind < 0.35:
            a, b = rng.randint(1, 999), rng.randint(1, 999)
            sign = rng.choice("+-")
            low, high = sorted((a, b))
            return (f"{a} + {b} = ?", str(a + b)) if sign == "+" else (f"{high} - {low} = ?", str(high - low))
        return asked(product(rng, *factors(rng)), direct=False)

    return answers(rng, ask, most=4)
