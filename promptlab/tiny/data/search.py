"""Puzzles that are hard to solve from left to right and easy to check: Countdown (Game of 24), and a sliding puzzle.

Three things are taught of each, as Tree of Thoughts asks them (Yao et al. 2023, arXiv 2305.10601): one next step, how a
state looks ("sure", "likely", "impossible"), and a whole solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from promptlab.rules.countdown import ALL, CAN, NEXT, Numbers, moves, reachable, state, value_of
from promptlab.rules.sliding import GOAL, distances, shown, slides
from promptlab.tiny.data.chat import STEP_BY_STEP, Chat, assistant, user


def held_out(numbers: Sequence[int], target: int) -> bool:
    """Whether a puzzle is kept for tests: one in eight is."""
    return (sum(n * n for n in numbers) * 31 + 17 * target) % 8 == 0


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
