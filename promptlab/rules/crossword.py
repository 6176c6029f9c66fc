"""A five by five crossword: words put in rows and columns, and what they would overwrite."""

from __future__ import annotations

import re

SIZE = 5
EMPTY = "_" * SIZE * SIZE
PLACES = tuple(f"{way}{i + 1}" for way in "hv" for i in range(SIZE))  # h1 to h5 are rows, v1 to v5 columns
ENTRY = re.compile(r"^\s*(?:[-*•]\s+)?([hv][1-5])\.\s*([A-Za-z]+)", re.MULTILINE)


def cells(place: str) -> range:
    """Where on the board, row by row, a word stands."""
    i = int(place[1]) - 1
    return range(i * SIZE, (i + 1) * SIZE) if place[0] == "h" else range(i, SIZE * SIZE, SIZE)


def word_at(board: str, place: str) -> str:
    """The letters of a word so far, "_" for those that are missing."""
    return "".join(board[cell] for cell in cells(place))


def put(board: str, place: str, word: str) -> str:
    """The board with a word of five letters in its place, whatever it overwrites."""
    letters = list(board)
    for cell, letter in zip(cells(place), word.upper(), strict=True):
        letters[cell] = letter
    return "".join(letters)


def fault(before: str, after: str) -> str | None:
    """What is wrong with going from one board to the other: letters that were there are others now, or none."""
    changed = [i for i in range(SIZE * SIZE) if before[i] not in ("_", after[i])]
    if not changed:
        return None
    places = [place for place in PLACES if changed[0] in cells(place)]
    return f"it overwrites {before[changed[0]]} where {' and '.join(places)} cross"


def rows(board: str) -> str:
    return "\n".join(board[i : i + SIZE] for i in range(0, SIZE * SIZE, SIZE))
