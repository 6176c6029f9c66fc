"""What has changed from one prompt to another, word by word, as data that a page or a terminal can show."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Any, Literal

from promptlab.optimizers.candidate import as_text
from promptlab.prompt import Prompt, shown
from promptlab.types import Example

Mark = Literal["same", "out", "in"]
PIECE = re.compile(r"\w+|\s+|[^\w\s]")  # words, blanks and signs: a changed comma is not a changed word
SHORT = 2  # pieces between two changes, below which they are shown as one


def difference(before: Prompt, after: Prompt) -> dict[str, Any]:
    """The instruction's words, each kept, taken out or put in; demonstrations likewise; what else has changed."""
    old, new = [_shot(shot) for shot in before.shots], [_shot(shot) for shot in after.shots]
    settings = {
        name: [getattr(before, name), getattr(after, name)]
        for name in ("frame", "says_format")
        if getattr(before, name) != getattr(after, name)
    }
    return {
        "instruction": words(before.instruction, after.instruction),
        "shots": {
            "out": [shot for shot in old if shot not in new],
            "in": [shot for shot in new if shot not in old],
            "same": [shot for shot in new if shot in old],
            "reordered": old != new and sorted(old) == sorted(new),
        },
        "settings": settings,
    }


def words(before: str, after: str) -> list[tuple[Mark, str]]:
    """One text become another: runs of what stayed, what went and what came, in the order to read them."""
    a, b = PIECE.findall(before), PIECE.findall(after)
    runs: list[tuple[Mark, str]] = []
    gone, come = "", ""
    for op, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if op == "equal" and (j - i > SHORT or not (gone or come)):
            runs += [("out", gone), ("in", come), ("same", "".join(a[i:j]))]
            gone, come = "", ""
        else:
            gone, come = gone + "".join(a[i:j]), come + "".join(b[k:m])
    return [(mark, text) for mark, text in [*runs, ("out", gone), ("in", come)] if text]


def _shot(shot: Example) -> tuple[str, str]:
    return shown(shot.input), as_text(shot.target)
