"""Prompts and replies in a file: a cell is a text, or a list of messages as in TRL's conversational files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

from promptlab.compare.data.formats import Nested
from promptlab.errors import DataError
from promptlab.types import Message, Role


def prompt_in(cell: str, where: str) -> list[Message]:
    """The chat of a cell; a text is what the user says."""
    said = chat_in(cell, where)
    return [Message("user", cell)] if said is None else said


def reply_in(cell: str, prompt: Sequence[Message], where: str) -> str:
    """The reply of a cell: its text, or what the assistant says last, of which no more may come before it than the
    prompt, once more."""
    said = chat_in(cell, where)
    if said is None:
        return cell
    *before, reply = said
    if reply.role != "assistant" or (before and before != list(prompt)):
        raise DataError(f"{where}: a reply is one message of the assistant, alone or after its prompt; got {cell[:80]}")
    return reply.content


def chat_in(cell: str, where: str) -> list[Message] | None:
    """The messages of a cell that holds a list of them, also as its JSON; None of a text's.

    Raises DataError where it holds an object or a list of anything else.
    """
    nested = isinstance(cell, Nested)
    try:
        held = json.loads(cell) if nested or cell.lstrip().startswith("[{") else None
    except ValueError:  # a text that begins so
        held = None
    if isinstance(held, list) and held and all(map(is_message, held)):
        return [Message(message["role"], message["content"]) for message in held]
    if nested:
        takes = 'a text, or messages such as [{"role": "user", "content": "…"}]'
        raise DataError(f"{where} has a cell that is neither {takes}: {cell[:80]}")
    return None


def is_message(held: object) -> bool:
    """Of a role that is known, and nothing but a text."""
    if not isinstance(held, dict) or held.get("role") not in get_args(Role):
        return False
    return isinstance(held.get("content"), str) and not any(held[key] for key in held.keys() - {"role", "content"})
