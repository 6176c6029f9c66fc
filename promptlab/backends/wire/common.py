"""What the wire formats have in common: tools and schemas out, tool calls and faults in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from promptlab.errors import Malformed, ModelError, Truncated
from promptlab.types import Reply, Request, Token, ToolCall, ToolSpec

Json = dict[str, Any]


def is_closed(schema: Any) -> bool:
    """Whether a JSON schema is one that "strict" modes take: objects with all keys required and no others allowed."""
    if isinstance(schema, list | tuple):
        return all(map(is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        keys = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != keys:
            return False
    return all(is_closed(part) for name, part in schema.items() if name not in ("enum", "const", "default", "examples"))


def described(tool: ToolSpec, parameters: str = "parameters") -> Json:
    """What a model is told of a tool; `parameters` is what the provider calls the schema of its arguments."""
    told = {"name": tool.name, "description": tool.description, parameters: tool.parameters}
    return {**told, "strict": is_closed(tool.parameters)}


def calls_from(written: Iterable[tuple[str | None, str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls of (id, name, arguments), arguments as JSON text or an object already; every id is there and unique.

    Arguments that are no JSON object are the model's doing: they stay on the call, unread, for the program to answer.
    """
    calls: list[ToolCall] = []
    for i, (given, name, arguments) in enumerate(written):
        taken = {call.id for call in calls}
        id = given if given and given not in taken else f"{given or 'call'}_{i}"
        try:
            read = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        except ValueError:
            read = None
        if isinstance(read, dict):
            calls.append(ToolCall(id, name, read))
        else:
            calls.append(ToolCall(id, name, unread=arguments if isinstance(arguments, str) else json.dumps(arguments)))
    return tuple(calls)


def without_end(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens of a text without the one that ended it, which vLLM's server counts among them and OpenAI does not.

    A token that is part of a character only reads as U+FFFD, and is kept.
    """
    if tokens and not text.endswith(tokens[-1].text) and "\ufffd" not in tokens[-1].text:
        return tuple(tokens[:-1])
    return tuple(tokens)


def whole(reply: Reply, request: Request) -> Reply | ModelError:
    """The reply, unless it ended at its most tokens in the middle of what has to be whole."""
    if reply.finish != "length":
        return reply
    if reply.calls:
        return Truncated(f"the reply ended at {request.max_tokens or 'its most'} tokens in a tool call", reply=reply)
    if request.schema is not None:
        try:
            json.loads(reply.text)
        except ValueError:
            most = request.max_tokens or "its most"
            return Truncated(f"the reply ended at {most} tokens before its JSON was whole", reply=reply)
    return reply


def parsed(text: str) -> Json:
    """An answer's JSON object. Raises Malformed for a proxy's HTML page and the like."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Malformed(f"the server's answer is no JSON object but begins {text.strip()[:80]!r}")
    return answer


def part(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    """What an answer has under a name. Raises Malformed where it is not there or of another kind."""
    value = answer.get(name)
    if not isinstance(value, kind):
        raise Malformed(f"the server's answer has no {name}: {json.dumps(answer)[:200]}")
    return value
