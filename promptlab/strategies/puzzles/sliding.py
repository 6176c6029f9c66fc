"""The 8-puzzle, and the smaller one of five tiles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from promptlab.errors import SetupError
from promptlab.program import sample
from promptlab.rules.sliding import GOAL, GOAL_8, Board, distances, shown, slides
from promptlab.strategies.search.judging import mean_verdict
from promptlab.strategies.search.task import Hooks
from promptlab.types import Answer, Message

PROPOSE = """\
Tiles slide on a board: "_" is the gap, "/" ends a row, and a move (up, down, left or right) is where the gap goes, the
tile there taking its place. You are shown a board and the goal. Write the moves that can be made, the best first, one
a line, each with the board after it, as in this example, and nothing else.

Board: 1 2 3 / 4 _ 5 / 7 8 6
Goal: 1 2 3 / 4 5 6 / 7 8 _
right: 1 2 3 / 4 5 _ / 7 8 6
down: 1 2 3 / 4 8 5 / 7 _ 6
left: 1 2 3 / _ 4 5 / 7 8 6
up: 1 _ 3 / 4 2 5 / 7 8 6"""

VALUE = """\
Tiles slide on a board: "_" is the gap, "/" ends a row. How many moves are needed from a board to the goal, at least?
Count for each tile how many rows and columns it is away from its place. Then write the number alone in a last line.

Board: 1 2 3 / 4 _ 5 / 7 8 6
Goal: 1 2 3 / 4 5 6 / 7 8 _
5 is one column away, 6 is one row away, the others are in place
2"""

MOVE = re.compile(r"^\W*(up|down|left|right)\s*:\s*([\d_ /]+?)\s*$", re.IGNORECASE)


class State(NamedTuple):
    """A board, the goal, and the moves so far."""

    board: Board
    goal: Board
    moves: tuple[str, ...] = ()


class SlidingPuzzle(Hooks):
    """Put tiles in order by sliding them into the gap: the 8-puzzle, or five tiles in two rows.

    Prompt: what is asked and an example, the same in every request and first; then board and goal. One reply proposes;
    a state's value is minus the moves that `samples` replies think are needed, averaged over those that can be read.
    A move that leads to another board than it says breaks the rules; a board met before is not judged again.
    """

    def __init__(self, steps: int = 12, samples: int = 1, temperature: float | None = 0.7) -> None:
        self.steps, self.samples, self.temperature = steps, samples, temperature

    def start(self, question: Any) -> State:
        """A question is a board, as "1 2 3 / 4 _ 5 / 7 8 6". Raises SetupError for one that cannot be solved."""
        board = board_in(question) if isinstance(question, str) else tuple(question)
        goal = {len(each): each for each in (GOAL, GOAL_8)}.get(len(board))
        if goal is None or sorted(board) != sorted(goal):
            raise SetupError(f"A board is written as {shown(GOAL_8)}, with all tiles from 1 on; got {question!r}.")
        if not solvable(board):
            raise SetupError(
                f"No moves lead from {shown(board)} to {shown(goal)}: two tiles would have to change places."
            )
        return State(board, goal)

    async def propose(self, state: State, **options: Any) -> list[State]:
        [reply] = await sample(asked(PROPOSE, state), 1, **self.sampling(options))
        found = [move for line in reply.text.splitlines() if (move := MOVE.match(line))]
        return [State(board_in(each[2]), state.goal, (*state.moves, each[1].lower())) for each in found]

    def validate(self, before: State, after: State) -> str | None:
        board = slides(before.board).get(after.moves[-1])
        if board is None:
            return f"the gap cannot go {after.moves[-1]}"
        return None if board == after.board else f"that move leads to {shown(board)}"

    def canonical_key(self, state: State) -> Board:
        return state.board

    def verify(self, state: State) -> bool | None:
        return True if state.board == state.goal else None

    async def value(self, state: State, **options: Any) -> float | None:
        return await mean_verdict(asked(VALUE, state), self.samples, needed, **self.sampling(options))

    def answer(self, state: State) -> Answer:
        if state.board != state.goal:
            return Answer(None, why=f"after {len(state.moves)} moves the board is {shown(state.board)}")
        return Answer(" ".join(state.moves))

    def show(self, state: State) -> str:
        return f"{state.moves[-1]}: {shown(state.board)}" if state.moves else shown(state.board)

    def sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"temperature": self.temperature, **options}


def needed(text: str) -> float | None:
    """Minus the number in the last line."""
    found = re.findall(r"\d+", (text.strip().splitlines() or [""])[-1])
    return -float(found[-1]) if found else None


def board_in(text: str) -> Board:
    return tuple(0 if tile == "_" else int(tile) for tile in re.findall(r"_|\d+", text))


def solvable(board: Sequence[int]) -> bool:
    """Whether moves lead to the goal: by parity where three rows are odd in width, by looking where there are two."""
    if len(board) == len(GOAL):
        return tuple(board) in distances()
    tiles = [tile for tile in board if tile]
    return sum(a > b for i, a in enumerate(tiles) for b in tiles[i + 1 :]) % 2 == 0


def asked(told_first: str, state: State) -> list[Message]:
    """What never changes comes first, so that providers and engines read it once."""
    return [Message("system", told_first), Message("user", f"Board: {shown(state.board)}\nGoal: {shown(state.goal)}")]
