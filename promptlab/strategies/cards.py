"""The card of a strategy: a page that says what it asks, when it stops, how it reads, what it costs, what pins it.

It is made from the strategy's docstring. First come the source and what differs from it, last the parts, each a line
`Part: text` (what does not fit is indented below) in the order of PARTS: what is sent (Prompt), what ends a reply and
the whole (Stop), how an answer is read (Parse), what is known of good settings where there is something to say
(Hyper-parameters), who wins among equals (Ties), calls and waves (Cost), and the tests and replays that would fail if
it did something else (Pinned by), separated by semicolons. A blank line ends the parts. What can be set, and the
defaults, are read off the signature.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, getdoc, signature
from typing import Any

from promptlab.errors import SetupError

PARTS = ("Prompt", "Stop", "Parse", "Hyper-parameters", "Ties", "Cost", "Pinned by")
OPTIONAL = "Hyper-parameters"
A_PART = re.compile(rf"^({'|'.join(PARTS)}): ", re.MULTILINE)
A_FILE = re.compile(r"\b(?:tests|benchmarks)/[\w./]*\w")


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    about: str
    parts: Mapping[str, str]
    hyper_parameters: Mapping[str, str]

    @property
    def pins(self) -> list[str]:
        """The files, or folders of them, that pin it."""
        return A_FILE.findall(self.parts["Pinned by"])

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {default}" if default else name for name, default in self.hyper_parameters.items())
        told = {**self.parts, "Takes": given}
        width = max(map(len, told)) + 2
        lines = [
            textwrap.fill(f"{part + ':':{width}}{text}", 100, subsequent_indent=" " * width)
            for part, text in told.items()
        ]
        return "\n\n".join([self.name, self.about, "\n".join(lines)])


def card(name: str, strategy: Callable[..., Any]) -> Card:
    """The card of a strategy. Raises SetupError for a docstring that lacks a part, or has one out of order."""
    about, *rest = A_PART.split(getdoc(strategy) or "")
    *texts, last = rest[1::2] or [""]
    last, _, more = last.partition("\n\n")
    parts = {part: " ".join(text.split()) for part, text in zip(rest[::2], [*texts, last], strict=False)}
    if [*rest[::2]] != [part for part in PARTS if part != OPTIONAL or part in parts]:
        got, wanted = ", ".join(rest[::2]) or "none", ", ".join(PARTS)
        raise SetupError(f"The docstring of {name} has the parts {got}; a card takes {wanted} ({OPTIONAL} or not).")
    whole = "\n\n".join(text.strip() for text in (about, more) if text.strip())
    return Card(name, whole, parts, dict(hyper_parameters(strategy)))


def hyper_parameters(strategy: Callable[..., Any]) -> list[tuple[str, str]]:
    """What can be set, with its default as text; what has none is what is asked."""
    return [
        (name, "" if each.default is Parameter.empty else told(each.default))
        for name, each in signature(strategy).parameters.items()
        if each.kind is not Parameter.VAR_KEYWORD
    ]


def told(default: Any) -> str:
    """A default in a word: a function by its name, what is long by its type."""
    written = str(getattr(default, "__name__", repr(default)))
    return written if len(written) <= 60 else f"{type(default).__name__}(…)"
