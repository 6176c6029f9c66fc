"""Puzzles as tasks of a tree search: their prompts, and how replies are read and checked. One a file."""

from collections.abc import Callable
from typing import Any

from promptlab.strategies.puzzles.countdown import Countdown
from promptlab.strategies.puzzles.crosswords import MiniCrosswords
from promptlab.strategies.puzzles.game24 import Game24
from promptlab.strategies.puzzles.sliding import SlidingPuzzle

__all__ = ["PUZZLES", "Countdown", "Game24", "MiniCrosswords", "SlidingPuzzle"]

# The tasks of `promptlab ask --strategy tree-of-thoughts --task`.
PUZZLES: dict[str, Callable[[], Any]] = {
    "game24": Game24,
    "countdown": Countdown,
    "8-puzzle": SlidingPuzzle,
    "crosswords": MiniCrosswords,
}
