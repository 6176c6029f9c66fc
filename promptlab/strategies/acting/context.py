"""Keeping a chat with tools within a model's context: outputs are capped, old ones are cleared, the rest only grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from promptlab.types import Message

CLEARED = "[an old result, left out here: {:,} characters]"
BYTES_PER_TOKEN = 3  # of English it is 4; of code and of other languages fewer
TOKENS_A_MESSAGE = 8

Count = Callable[[Sequence[Message]], int]
IsResult = Callable[[Sequence[Message], int], bool]  # whether the i-th message is the result of an action


def estimated_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens messages have, rather too many: a backend's own `count_tokens` knows."""
    sizes = (
        len(m.content.encode(errors="replace")) + sum(len(str(dict(c.arguments))) + len(c.name) for c in m.calls)
        for m in messages
    )
    return sum(size // BYTES_PER_TOKEN + TOKENS_A_MESSAGE for size in sizes)


def capped(text: str, most_chars: int) -> str:
    """The head and the tail of a text that is too long, and how much is left out between them."""
    if len(text) <= most_chars:
        return text
    half = most_chars // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[… {left_out:,} characters left out …]\n{text[len(text) - half :]}"


def shortened(chat: Sequence[Message], most_tokens: int, count: Count, is_result: IsResult) -> list[Message]:
    """A chat of at most so many tokens, if that can be had: first old results are cleared, then old steps go.

    A call and its result stay or go together. Neither the system's and the user's own turns go, nor the last step.
    Clearing changes what a provider has cached of the prompt, so ask for much less than fits: it is then rarely done.
    """
    short = list(chat)
    last = max((i for i, message in enumerate(chat) if message.role == "assistant"), default=len(chat))
    results = [i for i in range(last) if is_result(chat, i)]
    for i in results:
        if count(short) <= most_tokens:
            return short
        cleared = CLEARED.format(len(chat[i].content))
        if len(cleared) < len(chat[i].content):
            short[i] = replace(chat[i], content=cleared)
    gone: set[int] = set()
    for start in range(last):
        if count([message for i, message in enumerate(short) if i not in gone]) <= most_tokens:
            break
        end = start + 1
        while end < last and end in results:
            end += 1
        if chat[start].role == "assistant" and end > start + 1:
            gone.update(range(start, end))
    return [message for i, message in enumerate(short) if i not in gone]
