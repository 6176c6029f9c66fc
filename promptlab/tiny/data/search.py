"""Puzzles that are hard to solve from left to right and easy to check: Countdown (Game of 24), and a sliding puzzle.

Three things are taught of each, as Tree of Thoughts asks them (Yao et al. 2023, arXiv 2305.10601): one next step, how a
state looks ("sure", "likely", "impossible"), and a whole solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from random import Random

from promptlab.tiny.data.chat import STEP_BY_STEP, Chat, assistant, user

Numbers = tuple[int, ...]  # in ascending order
MOST = 999  # no result is larger
CACHED = 1 << 14  # states whose moves are remembered


def held_out(numbers: Sequence[int], target: int) -> bool:
    """Whether a puzzle is kept for tests: one in eight is."""
    return (sum(n * n for n in numbers) * 31 + 17 * target) % 8 == 0


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


def said(step: str, result: int, left: Numbers) -> str:
    return f"{step} = {result} (left: {' '.join(map(str, left))})"


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


def solution(rng: Random, numbers: Numbers, target: int) -> list[str]:
    """The steps of one way to the target, any of those that there are. Raises IndexError where there is none."""
    steps: list[str] = []
    while len(numbers) > 1:
        step, numbers = rng.choice([move for move in moves(numbers) if target in reachable(move[1])])
        steps.append(step)
    return steps


def puzzle(rng: Random, n: int, kept: bool = False) -> tuple[Numbers, int]:
    """n numbers of 1 to 13 and a target of 10 to 60 that they can reach; `kept` are those never taught."""
    while True:
        numbers = tuple(sorted(rng.randint(1, 13) for _ in range(n)))
        targets = [t for t in sorted(reachable(numbers)) if 10 <= t <= 60 and held_out(numbers, t) == kept]
        if targets:
            return numbers, rng.choice(targets)


def state(numbers: Numbers, target: int) -> str:
    return f"Numbers: {' '.join(map(str, numbers))}\nTarget: {target}"


NEXT, CAN, ALL = "Next step?", "Can the target be reached? Say sure, likely or impossible.", "Possible next steps?"


def solved(rng: Random) -> Chat:
    """A puzzle with its whole way."""
    numbers, target = puzzle(rng, rng.choice((3, 4)))
    steps = " ".join(f"{step}." for step in solution(rng, numbers, target))
    return [user(f"{state(numbers, target)}\n{STEP_BY_STEP}"), assistant(f"{steps} The answer is {target}.")]


def proposed(rng: Random, numbers: Numbers, target: int) -> str:
    """Up to five legal steps, two of them good ones where there are any."""
    good = [step for step, left in moves(numbers) if target in reachable(left)]
    some = [step for step, _ in rng.sample(moves(numbers), min(4, len(moves(numbers))))]
    return "\n".join(list(dict.fromkeys((*rng.sample(good, min(2, len(good))), *some)))[:5])


def countdown(rng: Random, room: int) -> Chat:
    """Some questions about one puzzle: of a next step, of several, of a state's value, of the whole way."""
    numbers, target = puzzle(rng, rng.choice((2, 3, 3, 4, 4)))
    chat: Chat = []
    for _ in range(rng.choice((1, 2, 3))):
        if len(numbers) == 1:
            numbers, target = puzzle(rng, rng.choice((2, 3, 4)))
        kind = rng.random()
        if kind < 0.4:
            chat += [user(f"{state(numbers, target)}\n{CAN}"), assistant(value_of(numbers, target))]
        elif kind < 0.6:
            chat += solved(rng)
        elif kind < 0.75:
            chat += [user(f"{state(numbers, target)}\n{ALL}"), assistant(proposed(rng, numbers, target))]
        else:
            good = [move for move in moves(numbers) if target in reachable(move[1])]
            step, left = rng.choice(good if good and rng.random() < 0.6 else moves(numbers))
            chat += [user(f"{state(numbers, target)}\n{NEXT}"), assistant(step)]
            numbers = left
        if len(numbers) > 2 and rng.random() < 0.4:  # so that states in the middle of a puzzle are judged too
            _, numbers = rng.choice(moves(numbers))
    return chat


Board = tuple[int, ...]  # two rows of three; 0 is the gap
GOAL: Board = (1, 2, 3, 4, 5, 0)


def slides(board: Board) -> dict[str, Board]:
    """Where the gap can go, and what becomes of the board."""
    gap = board.index(0)
    to = {"up": gap - 3, "down": gap + 3, "left": gap - 1, "right": gap + 1}
    row = {"left": gap // 3, "right": gap // 3}
    found: dict[str, Board] = {}
    for name, place in to.items():
        if 0 <= place < 6 and row.get(name, place // 3) == place // 3:
            new = list(board)
            new[gap], new[place] = new[place], 0
            found[name] = tuple(new)
    return found


@cache
def distances() -> dict[Board, int]:
    """How many moves each board that can be solved is from the goal."""
    far, edge = {GOAL: 0}, [GOAL]
    for board in edge:  # which grows as it is gone through
        for new in slides(board).values():
            if new not in far:
                far[new] = far[board] + 1
                edge.append(new)
    return far


def shown(board: Board) -> str:
    return " / ".join(" ".join("_" if n == 0 else str(n) for n in board[i : i + 3]) for i in (0, 3))


def sliding(rng: Random, room: int) -> Chat:
    """A few moves of a puzzle of five tiles, most of them towards the goal."""
    far = distances()
    board = rng.choice([board for board, moves in far.items() if 2 <= moves <= 9])
    chat: Chat = []
    for _ in range(rng.randint(1, 4)):
        options = slides(board)
        name = min(options, key=lambda name: (far[options[name]], name))
        if rng.random() < 0.2:
            name = rng.choice(list(options))
        board_before, board = board, options[name]
        chat += [user(f"Slide: {shown(board_before)}\n{NEXT}"), assistant(f"{name}: {shown(board)}")]
        if board == GOAL:
            break
    return chat
