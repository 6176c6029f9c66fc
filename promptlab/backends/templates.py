"""What engines that load `transformers` checkpoints share: chats as tokens, and seeds of one's own for every branch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from promptlab.backends.wire.completions import text_of
from promptlab.types import Message, Request

MAX_NEW_TOKENS = 256  # where the request does not say


def encode(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """A chat as the model's template has it, up to where its reply begins; special tokens in texts are text.

    Without a template it is plain text to go on with.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer.encode(text_of(messages)))
    chat = [{"role": message.role, "content": message.content} for message in messages]
    ids: Any = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
    )
    return list(ids)


def seed_of(request: Request, seed: int) -> int:
    """The seed of a request's draws, of 63 bits: its own or the backend's, and its branch."""
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def room_for(request: Request, used: int, context: int) -> int:
    """The most tokens of a reply behind a prompt of so many."""
    return min(MAX_NEW_TOKENS if request.max_tokens is None else request.max_tokens, context - used)
