"""How an answer came about, drawn from what its strategy left in it: one kind of trace a file."""

from __future__ import annotations

from collections.abc import Callable

from promptlab.trace.drawings.searches import search_drawn
from promptlab.trace.drawings.timelines import timeline_drawn
from promptlab.trace.drawings.votes import votes_drawn
from promptlab.trace.redacting import Redactor
from promptlab.types import Answer

Drawing = Callable[[Answer, Redactor], str]  # HTML of an answer's trace; "" for one that is none of its kind

DRAWINGS: tuple[Drawing, ...] = (search_drawn, votes_drawn, timeline_drawn)


def drawn(answer: Answer, redactor: Redactor) -> str:
    """All that can be drawn of an answer, as HTML; every text in it is escaped and redacted."""
    return "\n".join(filter(None, (drawing(answer, redactor) for drawing in DRAWINGS)))
