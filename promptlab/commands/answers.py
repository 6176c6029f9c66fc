"""What `promptlab ask` shows of how an answer came about: some lines, or a page."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.program import Exchange
from promptlab.types import Answer, Message


def lines_of(trace: Any) -> Iterator[str]:
    """A chain as it was written; of a search, the way to the answer, each state with its value; an agent's turns."""
    if isinstance(trace, str):
        yield trace
    if isinstance(trace, Mapping) and trace.get("kind") == "tree":
        by_id = {node["id"]: node for node in trace["nodes"]}
        for each in trace["path"][1:]:
            value = by_id[each]["value"]
            yield str(by_id[each]["state"]) + ("" if value is None else f"   [{value:.3g}]")
        yield f"states met: {len(by_id) - 1}; {trace['ended']}"
    if isinstance(trace, tuple):
        yield from turns_of([turn for turn in trace if isinstance(turn, Message)])


def write_page(path: Path, question: str, answer: Answer, model: str, exchanges: Sequence[Exchange]) -> Path:
    """Writes the page of an answer. Raises PromptlabError where it cannot be written."""
    from promptlab.trace.answered import answer_page
    from promptlab.whole import whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as written:
            written.write(answer_page(question, answer, model=model, exchanges=exchanges))
    except OSError as error:
        raise PromptlabError(
            f"{path} cannot be written ({error.strerror}): choose another place with --out."
        ) from error
    return path


def turns_of(chat: Sequence[Message]) -> Iterator[str]:
    """What was said and done in a chat after its question, a line each."""
    first = next((i for i, turn in enumerate(chat) if turn.role == "assistant"), len(chat))
    for turn in chat[first:]:
        if turn.content:
            yield textwrap.shorten(turn.content, 500, placeholder=" …")
        for call in turn.calls:
            yield f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})"
