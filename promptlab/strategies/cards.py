"""The card of a strategy: a page that says what it asks, when it stops, how it reads, what it costs, what pins it.

It is made from the strategy's docstring. Its last paragraph is a list, each line of it `Part: text`, what does not fit
a line indented below, with the parts of PARTS in their order: what is sent (Prompt), what ends a reply and the whole
(Stop), how an answer is read (Parse), who wins among equals (Ties), calls and waves (Cost), and the files whose
failing tests would tell that it does something else (Pinned by), separated by semicolons. Before it stand the source
and what differs from it; the hyper-parameters and their defaults are those of the signature.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, getdoc, signature
from typing import Any

from promptlab.errors import SetupError

PARTS = ("Prompt", "Stop", "Parse", "Ties", "Cost", "Pinned by")
A_PART = re.compile(rf"^({'|'.join(PARTS)}): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    about: str
    parts: Mapping[str, str]
    hyper_parameters: Mapping[str, str]

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {default}" if default else name for name, default in self.hyper_parameters.items())
        told = {**self.parts, "Takes": given}
        lines = [textwrap.fill(f"{part + ':':10} {told[part]}", 100, subsequent_indent=" " * 11) for part in told]
        return "\n\n".join([self.name, self.about, "\n".join(lines)])


def card(name: str, strategy: Callable[..., Any]) -> Card:
    """The card of a strategy. Raises SetupError for a docstring that lacks a part, or has one out of order."""
    about, *rest = A_PART.split(getdoc(strategy) or "")
    parts = {part: " ".join(text.split()) for part, text in zip(rest[::2], rest[1::2], strict=True)}
    if list(parts) != list(PARTS) or len(rest) != 2 * len(PARTS):
        raise SetupError(
            f"The docstring of {name} has the parts {', '.join(rest[::2]) or 'none'}; a card takes {', '.join(PARTS)}."
        )
    return Card(name, about.strip(), parts, dict(hyper_parameters(strategy)))


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
