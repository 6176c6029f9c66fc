"""What a backend can do is declared by it as `can`, and checked before anything is sent.

Besides options of a Request, `can` may hold "scores" (log-probabilities of given texts) and "n" (samples in one call).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Protocol

from promptlab.errors import Unsupported
from promptlab.types import Request

# Options of a Request that not every backend honours, and how a message calls them.
OPTIONS = {
    "temperature": "a temperature",
    "top_p": "top_p",
    "stop": "stop strings",
    "seed": "a seed",
    "logprobs": "log-probabilities of what it writes",
    "tools": "tools",
    "schema": "a schema",
}
UNSET: dict[str, Any] = {field.name: field.default for field in fields(Request) if field.name in OPTIONS}


class Capable(Protocol):
    """A backend that says which of the OPTIONS it honours, and whether it scores given texts."""

    can: frozenset[str]
    scores: bool


def options_of(request: Request) -> list[str]:
    """The options that a request sets."""
    return [name for name in OPTIONS if getattr(request, name) != UNSET[name]]


def lacking(backend: Capable, request: Request) -> list[str]:
    """What a request asks that the backend cannot do."""
    missing = [name for name in options_of(request) if name not in backend.can]
    return ["continuations", *missing] if request.continuations and not backend.scores else missing


def check(backend: Any, requests: Iterable[Request]) -> None:
    """Raises Unsupported for the first thing asked that the backend cannot do, before anything is sent."""
    for request in requests:
        if missing := lacking(backend, request):
            raise Unsupported(f"{backend!r} cannot take {said(missing)}. {_way_out(missing)}")


def said(missing: Sequence[str]) -> str:
    words = {**OPTIONS, "continuations": "texts to score"}
    return " or ".join(words[name] for name in missing)


def _way_out(missing: Sequence[str]) -> str:
    if set(missing) <= {"stop", "schema"}:
        return 'Leave it out, or emulate it: model(…, on_unsupported="emulate").'
    if "continuations" in missing:
        return "Use a backend with `scores`; `promptlab models` lists them."
    return 'Leave it out, or have it ignored with a warning: model(…, on_unsupported="warn").'


COLUMNS = (*OPTIONS, "n", "scores")


def table() -> list[tuple[str, frozenset[str]]]:
    """Every backend by name, or name and API where there are several, and what it can do."""
    from promptlab.backends import BACKENDS, load_attribute

    rows: list[tuple[str, frozenset[str]]] = []
    for name, path in BACKENDS.items():
        made = load_attribute(path)
        apis: dict[str, frozenset[str]] = getattr(made, "apis", None) or {"": made.can}
        rows += [(f"{name} ({api})" if api else name, can) for api, can in apis.items()]
    return rows


def as_markdown() -> str:
    """The table as the README has it."""
    lines = ["| " + " | ".join(("", *COLUMNS)) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, can in table():
        lines.append("| " + " | ".join((name, *("yes" if column in can else "–" for column in COLUMNS))) + " |")
    return "\n".join(lines)
