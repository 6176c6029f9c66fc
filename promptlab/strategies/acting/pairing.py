"""Calls and their results in a chat: each is answered exactly once, right after its turn, in the model's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from promptlab.types import Message, ToolCall

LOST = "Error: what came of this call is not known; it may or may not have been run."


def with_own_ids(turn: Message, chat: Iterable[Message]) -> Message:
    """A model's turn whose calls have ids, of which no other call of the chat has any.

    What the provider wants back with the turn names the ids as they were, and is left out where one changes.
    """
    taken = {call.id for message in chat for call in message.calls}
    calls: list[ToolCall] = []
    for call in turn.calls:
        id, i = call.id, len(taken)
        while not id or id in taken:
            id, i = f"call-{i}", i + 1
        taken.add(id)
        calls.append(call if id == call.id else replace(call, id=id))
    return turn if tuple(calls) == turn.calls else replace(turn, calls=tuple(calls), opaque=None)


def unanswered(chat: Sequence[Message]) -> list[ToolCall]:
    """The calls of the last turn that nothing answers yet."""
    answered: set[str | None] = set()
    for message in reversed(chat):
        if message.role != "tool":
            return [call for call in message.calls if call.id not in answered]
        answered.add(message.call_id)
    return []


def paired(chat: Sequence[Message]) -> list[Message]:
    """A chat, however it was kept or cut, with each call answered exactly once; the last turn's may be open.

    Results of no call, and second results of one, are left out; a result that is lost is said to be.
    """
    made: list[Message] = []
    for i, message in enumerate(chat):
        if message.role == "tool":
            continue
        after = list(takewhile(lambda each: each.role == "tool", chat[i + 1 :]))
        is_last = i + 1 + len(after) == len(chat)
        found: list[Message | None] = []
        for call in message.calls:
            result = next((each for each in after if each.call_id == call.id), None)
            if result is not None:
                after.remove(result)
            found.append(result)
        while is_last and found and found[-1] is None:  # calls are run in order: these were not yet
            found.pop()
        turn = with_own_ids(message, made)
        made.append(turn)
        for call, result in zip(turn.calls, found, strict=False):
            made.append(Message("tool", result.content if result else LOST, call_id=call.id))
    return made
