"""Text as characters, which is all that a tokenizer takes."""

from __future__ import annotations


def whole_text(text: str) -> str:
    """A text in which half a surrogate pair is the sign for an unreadable character, U+FFFD.

    JSON can escape one alone, and a file's name can hold one. Both halves of a pair become their character.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
