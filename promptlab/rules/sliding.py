"""Sliding tiles on a board three wide: two rows (five tiles) as the bundled model is taught, three the 8-puzzle."""

from __future__ import annotations

from functools import cache

Board = tuple[int, ...]  # row by row; 0 is the gap
WIDTH = 3
GOAL: Board = (1, 2, 3, 4, 5, 0)
GOAL_8: Board = (1, 2, 3, 4, 5, 6, 7, 8, 0)


def slides(board: Board) -> dict[str, Board]:
    """Where the gap can go, and what becomes of the board."""
    gap = board.index(0)
    column = gap % WIDTH
    to = {"up": gap - WIDTH, "down": gap + WIDTH}
    to |= {"left": gap - 1} if column else {}
    to |= {"right": gap + 1} if column < WIDTH - 1 else {}
    found: dict[str, Board] = {}
    for name, place in to.items():
        if 0 <= place < len(board):
            new = list(board)
            new[gap], new[place] = new[place], 0
            found[name] = tuple(new)
    return found


@cache
def distances(goal: Board = GOAL) -> dict[Board, int]:
    """How many moves each board that can be solved is from the goal."""
    far, edge = {goal: 0}, [goal]
    for board in edge:  # which grows as it is gone through
        for new in slides(board).values():
            if new not in far:
                far[new] = far[board] + 1
                edge.append(new)
    return far


def shown(board: Board) -> str:
    rows = (board[i : i + WIDTH] for i in range(0, len(board), WIDTH))
    return " / ".join(" ".join("_" if n == 0 else str(n) for n in row) for row in rows)
