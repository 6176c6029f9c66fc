"""What a request asks beyond its messages, and whether a backend declares that it can do that (`can`, `scores`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from promptlab.errors import SetupError, Unsupported
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


def takes(backend: Any, option: str) -> bool:
    """Whether a backend honours an option; one that declares nothing is passed all."""
    return option in getattr(backend, "can", OPTIONS)


def beyond_options(backend: Any) -> frozenset[str]:
    """What a backend, or a class of them, can besides options: "scores" (of given texts), "n" (samples in one call)."""
    declared = {"scores": getattr(backend, "scores", False), "n": getattr(backend, "native_n", False)}
    return frozenset(name for name, can in declared.items() if can)


def lacking(backend: Any, request: Request) -> list[str]:
    """What a request asks that the backend cannot do: options that it does not take, and "continuations"."""
    missing = ["continuations"] if request.continuations and "scores" not in beyond_options(backend) else []
    asked = [name for name, unset in UNSET.items() if getattr(request, name) != unset]
    return missing + [name for name in asked if not takes(backend, name)]


def check(backend: Any, requests: Iterable[Request]) -> None:
    """Raises Unsupported for the first thing asked that the backend cannot do, before anything is sent.

    SetupError for options that mean nothing to any.
    """
    for request in requests:
        _refuse_nonsense(request)
        if missing := lacking(backend, request):
            raise Unsupported(f"{name_of(backend)} cannot take {said(missing)}. {_way_out(missing)}")


def _refuse_nonsense(request: Request) -> None:
    temperature: Any = 0 if request.temperature is None else request.temperature
    most: Any = 0 if request.max_tokens is None else request.max_tokens
    top_p: Any = request.top_p
    wrong = {
        "temperature": not (hasattr(temperature, "__float__") and 0 <= temperature < math.inf),
        "top_p": not (hasattr(top_p, "__float__") and 0 < top_p <= 1),
        "max_tokens": not (hasattr(most, "__index__") and most >= 0),
        "seed": not (request.seed is None or hasattr(request.seed, "__index__")),
        "stop": not all(isinstance(text, str) and text for text in request.stop),
        "schema": not isinstance(request.schema, Mapping | None),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise SetupError(
                f"{name}={getattr(request, name)!r} means nothing: temperature and max_tokens are numbers, 0 or more, "
                "top_p is in (0, 1], a seed is a whole number, a stop string is not empty, and a schema is a JSON "
                "schema as a dict."
            )


def said(missing: Sequence[str]) -> str:
    """What is lacking, in words."""
    words = {**OPTIONS, "continuations": "texts to score"}
    return " or ".join(words[name] for name in missing)


def name_of(backend: Any) -> str:
    """A backend as a message calls it, without what is around it: as it calls itself, or its class."""
    while hasattr(type(backend), "around"):
        backend = backend.backend
    if any("__repr__" in vars(kind) for kind in type(backend).__mro__[:-1]):
        return repr(backend)
    return str(getattr(backend, "name", None) or type(backend).__name__)


def _way_out(missing: Sequence[str]) -> str:
    if set(missing) <= {"stop", "schema"}:
        return 'Leave it out, or emulate it: model(…, on_unsupported="emulate").'
    if "continuations" in missing:
        return "Use a backend with `scores`; `promptlab models` lists them."
    return 'Leave it out, or have it ignored with a warning: model(…, on_unsupported="warn").'
