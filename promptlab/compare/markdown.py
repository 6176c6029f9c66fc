"""Tables in Markdown that a terminal shows in line too."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 60
MEANT = re.compile(r"[\\|`]|<(?=[\w/!?])|&(?=#?\w+;)|(?<=\])\(")  # "p < 0.05" and "[0.7, 0.8]" are neither


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its columns in line; a cell that is too long loses its end."""
    cells = [[_cell(value) for value in row] for row in (heads, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(heads))]
    lines = ["| " + " | ".join(value.ljust(w) for value, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _cell(value: str) -> str:
    value = one_line(value)
    return escaped(value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…")


def line(text: str) -> str:
    """A text that may hold names and notes of others, as one line of Markdown."""
    return escaped(one_line(text))


def escaped(text: str) -> str:
    """With a backslash before what a renderer would take for HTML, a link, code, or the end of a cell."""
    return MEANT.sub(r"\\\g<0>", text)


def one_line(text: str) -> str:
    """Without line ends, and without signs that a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))


def path_end(path: str) -> str:
    """A path that a cell holds, without its beginning where it is long: what tells files apart stands at the end."""
    return path if len(path) <= LONGEST else f"…{path[1 - LONGEST :]}"
