"""Which calls a page shows, where there are more than it can hold: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from promptlab.backends.wrappers.recordings import Call
from promptlab.trace.tree import Line, by_program
from promptlab.types import Message

MOST_CALLS = 1_000
MOST_BYTES = 8_000_000  # of text, before anything is folded
LONGEST_TEXT = 20_000
FAILED, SLOWEST, DEAREST = 20, 5, 5  # so many are listed


class Notable(NamedTuple):
    """The calls one looks for first."""

    failed: list[Line]
    slowest: list[Line]
    dearest: list[Line]


def line_of(call: Call) -> Line:
    """What is kept of a call while the others are read."""
    request, reply = call.request, call.reply
    size = sum(map(_size, request.messages)) + len(str(request.tools)) + len(str(request.schema or ""))
    size += min(LONGEST_TEXT, len(str(reply.get("text", "")))) + min(LONGEST_TEXT, len(str(reply.get("calls", ""))))
    model, outcome = name_of_model(call.identity), call.outcome
    told = (call.decision, outcome, call.seconds, call.usage, size)
    return Line(call.id, call.at, request.program, request.branch, model, *told)


def _size(message: Message) -> int:
    return 100 + min(LONGEST_TEXT, len(message.content)) + sum(len(str(call.arguments)) for call in message.calls)


def name_of_model(identity: Any) -> str:
    """A model in a word: "openai:gpt-5-mini", with its address where it is not at home."""
    if not isinstance(identity, dict):
        return "not known"
    kind, name = identity.get("kind"), identity.get("name") or str(identity.get("sha256", ""))[:12]
    at = f"@{identity['url']}" if identity.get("url") else ""
    return ":".join(str(part) for part in (kind, name) if part) + at or "not known"


def notable(lines: Sequence[Line]) -> Notable:
    """The first that failed, those that took longest, and those that cost most: in dollars, else in tokens."""
    sent = [line for line in lines if line.decision == "sent"]
    costs = any(line.usage.cost_usd for line in sent)

    def cost(line: Line) -> float:
        return (line.usage.cost_usd or 0.0) if costs else line.usage.input_tokens + line.usage.output_tokens

    return Notable(
        [line for line in sent if line.failed][:FAILED],
        sorted((line for line in sent if line.seconds > 0), key=lambda line: -line.seconds)[:SLOWEST],
        sorted((line for line in sent if cost(line) > 0), key=lambda line: -cost(line))[:DEAREST],
    )


def chosen(lines: Sequence[Line], found: Notable, most_calls: int, most_bytes: int = MOST_BYTES) -> set[int]:
    """The ids of the calls to show: the notable, then their programs, then the others from the first on."""
    programs = by_program(lines)
    first = [line for several in found for line in several]
    theirs = [line for name in dict.fromkeys(line.program for line in first) for line in programs[name]]
    rest: Iterable[Line] = (line for several in programs.values() for line in several)
    ids = {line.id for line in first}
    size = sum(line.size for line in {line.id: line for line in first}.values())
    for line in chain(theirs, rest):
        if line.id not in ids:
            size += line.size
            if len(ids) >= most_calls or size > most_bytes:
                break
            ids.add(line.id)
    return ids
