"""Puzzles as tasks of a tree search: their prompts, and how replies are read and checked. One a file."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from promptlab.errors import SetupError
from promptlab.strategies.puzzles.countdown import Countdown
from promptlab.strategies.puzzles.crosswords import MiniCrosswords
from promptlab.strategies.puzzles.game24 import Game24
from promptlab.strategies.puzzles.sliding import SlidingPuzzle
from promptlab.types import Backend

__all__ = ["PUZZLES", "Countdown", "Game24", "MiniCrosswords", "SlidingPuzzle", "puzzle_for"]

# The tasks of `promptlab ask --strategy tree-of-thoughts --task`.
PUZZLES: dict[str, Callable[[], Any]] = {
    "game24": Game24,
    "countdown": Countdown,
    "8-puzzle": SlidingPuzzle,
    "crosswords": MiniCrosswords,
}


def puzzle_for(backend: Backend, name: str) -> Any:
    """The task of that name, asked as the backend can be. Raises SetupError for a name that is none."""
    if name not in PUZZLES:
        raise SetupError(f"There is no task {name!r}. Tasks: {', '.join(PUZZLES)}.")
    made = PUZZLES[name]
    scores = {"scored": bool(getattr(backend, "scores", False))} if "scored" in signature(made).parameters else {}
    return made(**scores)
