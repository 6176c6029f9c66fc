"""What looks like a key is not shown: a prompt may hold one that somebody pasted, or that a tool has read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Not within a longer word, but also behind a line break that JSON has escaped.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
# How a key begins, which is shown; and the rest of it, which is not.
SHAPES = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----", r".*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    (r"(?i:Bearer )", r"\s*(?:(?=[A-Za-z._~+/=-]{0,200}\d)[A-Za-z0-9._~+/=-]{8,}|[A-Za-z._~+/=-]{20,})"),
    (r"sk-", r"[A-Za-z0-9_-]{12,}"),  # OpenAI's, Anthropic's, OpenRouter's
    (r"hf_", r"[A-Za-z0-9]{12,}"),
    (r"(?:AKIA|ASIA)", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (r"eyJ", r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),  # a JSON web token
    (r"gh[pousr]_", r"[A-Za-z0-9]{20,}"),
    (r"github_pat_", r"[A-Za-z0-9_]{20,}"),
    (r"AIza", r"[A-Za-z0-9_-]{30,}"),
    (r"xox[abeoprs]-", r"[A-Za-z0-9-]{10,}"),
)
KEY = re.compile("|".join(f"{_START}({begins}){rest}" for begins, rest in SHAPES), re.DOTALL)


class Redactor:
    """Takes out what looks like a key: of "sk-0123456789abcdef" it leaves "sk-…". `count` is how many there were."""

    def __init__(self, on: bool = True) -> None:
        self.on, self.count = on, 0

    def text(self, text: str) -> str:
        if not self.on:
            return text
        text, count = KEY.subn(lambda found: f"{found[found.lastindex or 0]}…", text)
        self.count += count
        return text

    def value(self, value: Any) -> Any:
        """The same of all texts in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list | tuple) else value
