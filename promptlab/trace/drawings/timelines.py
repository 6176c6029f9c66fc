"""What an agent thought, did and saw: the chat that is the `trace` of a ReAct answer, as a timeline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from promptlab.trace.redacting import Redactor
from promptlab.trace.rendering import environment
from promptlab.types import Answer, Message

Kind = Literal["told", "asked", "thought", "action", "observation", "fault", "answer"]
ACTION = re.compile(r"^[ \t*_]*Action(?: \d+)?[*_]*:", re.MULTILINE | re.IGNORECASE)
THOUGHT = re.compile(r"^[ \t*_]*Thought(?: \d+)?[*_]*:\s*", re.IGNORECASE)
OBSERVATION = "Observation: "


class Event(NamedTuple):
    """One thing that happened: what it is, in how many words, and of which tool."""

    kind: Kind
    text: str
    tool: str = ""
    step: int = 0


def timeline_drawn(answer: Answer, redactor: Redactor) -> str:
    """What happened in the chat that is the answer's trace, in order, an item each."""
    chat = answer.trace if isinstance(answer.trace, tuple) else ()
    if not chat or not all(isinstance(turn, Message) for turn in chat):
        return ""
    drawn: str = environment(redactor).get_template("drawings/timeline.html.jinja").render(events=list(events(chat)))
    return drawn


def events(chat: Sequence[Message]) -> Iterator[Event]:
    """What happened, in order. Both forms of ReAct, by calls and in text, come to the same kinds of events."""
    tools = {call.id: call.name for turn in chat for call in turn.calls}
    step = 0
    for i, turn in enumerate(chat):
        if turn.role == "system":
            yield Event("told", turn.content)
        elif turn.role == "tool":
            yield _observed(turn.content, tools.get(turn.call_id or "", ""), step)
        elif turn.role == "user":
            seen = turn.content.removeprefix(OBSERVATION)
            yield _observed(seen, "", step) if seen != turn.content else Event("asked", turn.content)
        else:
            step += 1
            yield from _thought_and_done(turn, step, is_last=i == len(chat) - 1)


def _thought_and_done(turn: Message, step: int, is_last: bool) -> Iterator[Event]:
    action = ACTION.search(turn.content)
    thought = THOUGHT.sub("", turn.content[: action.start()] if action else turn.content).strip()
    is_answer = is_last and not turn.calls
    if thought:
        yield Event("answer" if is_answer and not action else "thought", thought, step=step)
    if action:
        done = turn.content[action.end() :].strip()
        tool = re.match(r"\w+", done)
        yield Event("answer" if is_answer else "action", done, tool[0] if tool else "", step)
    for call in turn.calls:
        said = call.unread or json.dumps(dict(call.arguments), indent=1, ensure_ascii=False, default=str)
        yield Event("action", said, call.name, step)


def _observed(text: str, tool: str, step: int) -> Event:
    return Event("fault" if text.startswith("Error: ") else "observation", text, tool, step)
