"""Game of 24 and its like, in exact fractions: steps as they are written, what is wrong with one, and a solver."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import combinations
from typing import NamedTuple

Numbers = tuple[Fraction, ...]  # in ascending order
OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
NUMBER = r"-?\d+(?:\.\d+|/\d+)?"
STEP = re.compile(rf"\(?({NUMBER})\)?\s*([-+*/])\s*\(?({NUMBER})\)?\s*=\s*\(?({NUMBER})\)?\s*\(left: ([^)]*)\)")
CACHED = 1 << 14  # lines and steps that are remembered: a search meets most of them several times
MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")  # of a list


class Step(NamedTuple):
    """A step as it was written: two numbers become a third, and the numbers said to be left."""

    a: Fraction
    sign: str
    b: Fraction
    result: Fraction
    left: Numbers


def numbers_of(text: str) -> Numbers:
    """The numbers in a text, sorted."""
    return tuple(sorted(Fraction(each) for each in re.findall(NUMBER, text)))


def told(numbers: Iterable[Fraction]) -> str:
    return " ".join(map(str, numbers))


@lru_cache(CACHED)
def read(line: str) -> Step | None:
    """A line like "10 - 4 = 6 (left: 5 6 6)"; None for anything else."""
    found = STEP.fullmatch(MARK.sub("", line).strip())
    if found is None:
        return None
    try:
        a, b, result = (Fraction(found[i]) for i in (1, 3, 4))
        left = tuple(sorted(Fraction(each) for each in found[5].split()))
    except (ValueError, ZeroDivisionError):  # "(left: none)", "3/0"
        return None
    return Step(a, found[2], b, result, left)


@lru_cache(CACHED)
def fault(numbers: Numbers, step: Step) -> str | None:
    """What is wrong with a step from some numbers; None where nothing is."""
    rest = Counter(numbers)
    rest.subtract((step.a, step.b))
    if missing := [number for number, count in rest.items() if count < 0]:
        return f"{missing[0]} is not among the numbers"
    if step.sign == "/" and step.b == 0:
        return "it divides by 0"
    if (result := OPERATORS[step.sign](step.a, step.b)) != step.result:
        return f"{step.a} {step.sign} {step.b} is {result}"
    rest[result] += 1
    left = tuple(sorted(rest.elements()))
    return None if left == step.left else f"what is left is {told(left)}"


def composed(steps: Sequence[Step]) -> str:
    """One expression of all steps, each of which takes up what those before it left."""
    made: list[tuple[Fraction, str]] = []

    def part(number: Fraction) -> str:
        """The latest result of that value, if there is one not used yet, else the number itself."""
        place = next((i for i in reversed(range(len(made))) if made[i][0] == number), None)
        return str(number) if place is None else made.pop(place)[1]

    for step in steps:
        a, b = part(step.a), part(step.b)
        made.append((step.result, f"({a} {step.sign} {b})"))
    return made[-1][1][1:-1]


def value_of(expression: str) -> tuple[Fraction, Numbers] | None:
    """What an expression of whole numbers comes to, and the numbers in it; None where it is none. Nothing is run."""
    used: list[Fraction] = []
    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}

    def of(node: ast.AST) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            used.append(Fraction(node.value))
            return used[-1]
        if isinstance(node, ast.BinOp) and type(node.op) in signs:
            return OPERATORS[signs[type(node.op)]](of(node.left), of(node.right))
        raise ValueError(f"{ast.dump(node)} is no arithmetic")

    try:
        value = of(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None
    return value, tuple(sorted(used))


def is_solution(expression: str, numbers: Numbers, target: int = 24) -> bool:
    """Whether an expression uses each number once and comes to the target; "… = 24" behind it is left out."""
    return value_of(expression.split("=")[0]) == (Fraction(target), numbers)


@cache
def solve(numbers: Numbers, target: int = 24) -> tuple[Step, ...] | None:
    """The steps to the target, found by trying all; None where there are none."""
    if len(numbers) == 1:
        return () if numbers[0] == target else None
    for i, j in combinations(range(len(numbers)), 2):
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        for a, b in ((numbers[i], numbers[j]), (numbers[j], numbers[i])):
            for sign, apply in OPERATORS.items():
                if sign == "/" and b == 0:
                    continue
                result = apply(a, b)
                left = tuple(sorted([*rest, result]))
                if (others := solve(left, target)) is not None:
                    return (Step(a, sign, b, result, left), *others)
    return None
