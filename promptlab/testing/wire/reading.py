"""Reading what all formats have in common out of a request's JSON. What cannot be read is a 400 that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from promptlab.testing.wire.rejections import Rejected
from promptlab.types import Request, ToolCall, ToolSpec

Body: TypeAlias = Mapping[str, Any]


def options(body: Body, *, limits: tuple[str, ...], stop: str = "stop") -> Request:
    """A request without messages; `limits` are the names that max_tokens goes by, `stop` that of the stop strings."""
    top_p = number(body, "top_p")
    return Request(
        messages=(),
        max_tokens=next((n for name in limits if (n := integer(body, name)) is not None), None),
        temperature=number(body, "temperature"),
        top_p=1.0 if top_p is None else top_p,
        stop=strings(body, stop),
        seed=integer(body, "seed"),
    )


def branches(body: Body, request: Request) -> list[Request]:
    """One request for each of the n choices asked for."""
    n = how_many(body)
    return [request] if n == 1 else [replace(request, branch=(i,)) for i in range(n)]


def how_many(body: Body) -> int:
    n = integer(body, "n")
    if n is not None and n < 1:
        raise Rejected(400, f"n is at least 1, got {n}")
    return n or 1


def integer(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Rejected(400, f"{name} is a whole number, got {value!r}")
    return value


def number(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Rejected(400, f"{name} is a number, got {value!r}")
    return value


def strings(body: Body, name: str) -> tuple[str, ...]:
    """A string, a list of strings, or nothing."""
    value = body.get(name)
    several = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in several):
        raise Rejected(400, f"{name} is a string or a list of strings, got {value!r}")
    return tuple(several)


def string(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Rejected(400, f"{name} is a string, got {value!r}")
    return value


def nested(body: Body, *names: str) -> Body:
    """What a path of names leads to; an empty mapping where there is nothing."""
    for name in names:
        inner = body.get(name)
        if inner is not None and not isinstance(inner, Mapping):
            raise Rejected(400, f"{name} is an object, got {inner!r}")
        body = inner or {}
    return body


def objects(body: Body, name: str) -> list[Body]:
    """A list of JSON objects, or nothing."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise Rejected(400, f"{name} is a list of objects, got {value!r}")
    return value


def text(body: Body, name: str = "content") -> str:
    """A string, or the text of its parts, a line each; nothing is an empty text."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    return "\n".join(map(part, objects(body, name)))


def part(part: Body) -> str:
    if part.get("type") in ("text", "input_text", "output_text"):
        return string(part, "text")
    if part.get("type") == "refusal":
        return string(part, "refusal")
    raise Rejected(400, f"this server reads text only, got a part of type {part.get('type')!r}")


def call(id: str, name: str, arguments: str) -> ToolCall:
    """A call whose arguments are a JSON string; a provider does not mind if they are no JSON object."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = None
    return ToolCall(id, name, parsed) if isinstance(parsed, dict) else ToolCall(id, name, unread=arguments)


def spec(tool: Body, parameters: str = "parameters") -> ToolSpec:
    return ToolSpec(string(tool, "name"), tool.get("description") or "", nested(tool, parameters))


def schema(wanted: Body, place: Body) -> Body | None:
    """The JSON schema asked for by a format of type `wanted`; `place` is what holds it. Plain JSON is any object."""
    match wanted.get("type"):
        case None | "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            return nested(place, "schema")
        case other:
            raise Rejected(400, f"this server knows no format of type {other!r}")
