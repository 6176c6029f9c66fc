"""Countdown: reach a target from some numbers, each used once, in whole numbers from 0 to 999."""

from __future__ import annotations

from functools import lru_cache

Numbers = tuple[int, ...]  # in ascending order
MOST = 999  # no result is larger
CACHED = 1 << 14  # states whose moves are remembered

# How a puzzle is told and what is asked of it: the bundled model is taught in these words, and asked in them.
NEXT, CAN, ALL = "Next step?", "Can the target be reached? Say sure, likely or impossible.", "Possible next steps?"


def state(numbers: Numbers, target: int) -> str:
    return f"Numbers: {' '.join(map(str, numbers))}\nTarget: {target}"


def said(step: str, result: int, left: Numbers) -> str:
    return f"{step} = {result} (left: {' '.join(map(str, left))})"


@lru_cache(CACHED)
def results(a: int, b: int) -> tuple[tuple[str, int], ...]:
    """What two numbers can become, larger first: (step, result)."""
    a, b = max(a, b), min(a, b)
    found = [(f"{a} + {b}", a + b), (f"{a} - {b}", a - b), (f"{a} * {b}", a * b)]
    if b and a % b == 0:
        found.append((f"{a} / {b}", a // b))
    return tuple((step, result) for step, result in found if result <= MOST)


@lru_cache(CACHED)
def moves(numbers: Numbers) -> tuple[tuple[str, Numbers], ...]:
    """All legal steps from some numbers, as said, each with the numbers left."""
    found: dict[str, Numbers] = {}
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
            for step, result in results(numbers[i], numbers[j]):
                left = tuple(sorted((*rest, result)))
                found.setdefault(said(step, result, left), left)
    return tuple(found.items())


@lru_cache(CACHED)
def reachable(numbers: Numbers) -> frozenset[int]:
    """All that some numbers can be made to be, each used once."""
    if len(numbers) == 1:
        return frozenset(numbers)
    return frozenset().union(*(reachable(left) for _, left in moves(numbers)))


def value_of(numbers: Numbers, target: int) -> str:
    """ "sure" and "impossible" are certain; "likely" is said of three numbers or more that can reach the target."""
    if target not in reachable(numbers):
        return "impossible"
    return "sure" if len(numbers) <= 2 else "likely"
