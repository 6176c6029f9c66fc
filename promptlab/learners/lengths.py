"""What to do with a text that is far longer than a model's context, before anything is paid for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# No tokenizer packs more characters than this into a token on average: a text of more a token is too long uncounted.
CHARACTERS_A_TOKEN = 64


def hopeless(text: str, backend: Any) -> bool:
    """Whether a text alone is longer than the backend's context, seen without reading it."""
    context = getattr(backend, "context_tokens", None)
    return context is not None and len(text) > CHARACTERS_A_TOKEN * int(context)


def end_of(text: str, fits: Callable[[str], bool], context: int) -> str:
    """The text, or as much of its end as fits: what the oldest tokens said is lost."""
    text = text[-CHARACTERS_A_TOKEN * context :]
    if fits(text):
        return text
    cut, fitting = 0, len(text)
    while fitting - cut > 1:  # by bisection: text[cut:] is too long, text[fitting:] is not
        middle = (cut + fitting) // 2
        if fits(text[middle:]):
            fitting = middle
        else:
            cut = middle
    return text[fitting:]
