"""Anthropic's messages: POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from promptlab.testing.wire.reading import Body, integer, nested, objects, options, part, schema, spec, string, text
from promptlab.testing.wire.rejections import Rejected
from promptlab.testing.wire.strictness import check_marks, check_strict, check_tools, check_turns
from promptlab.testing.wire.telling import Asked, Event, declined, finish, identified, pieces
from promptlab.types import Message, Reply, Request, Role, ToolCall, ToolSpec, Usage

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
STOP = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use"}


def requests(body: Body) -> list[Request]:
    if integer(body, "max_tokens") is None:
        raise Rejected(400, "max_tokens: Field required")
    if (budget := integer(nested(body, "thinking"), "budget_tokens")) is not None:
        if budget < 1024:
            raise Rejected(400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= body["max_tokens"]:
            raise Rejected(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    check_tools(objects(body, "tools"), "anthropic", "input_schema")
    format = nested(body, "output_config", "format")
    if format.get("type") == "json_schema":
        check_strict(format.get("schema"), "anthropic", "output_config.format.schema")
    return [
        replace(
            options(body, limits=("max_tokens",), stop="stop_sequences"),
            messages=conversation(body),
            tools=tuple(map(_tool, objects(body, "tools"))),
            schema=schema(format, format),
        )
    ]


def conversation(body: Body) -> tuple[Message, ...]:
    check_turns(objects(body, "messages"))
    check_marks(body)
    turns = [message for turn in objects(body, "messages") for message in _turn(turn)]
    if not turns:
        raise Rejected(400, "messages: at least one message is required")
    return (*([Message("system", text(body, "system"))] if body.get("system") else []), *turns)


def _turn(turn: Body) -> Iterator[Message]:
    """A user's turn may hold what tools answered: those are messages of their own. Thinking is not passed on."""
    role = ROLES.get(string(turn, "role"))
    if role is None:
        raise Rejected(400, f"role is user, assistant or system, got {turn['role']!r}")
    if isinstance(turn.get("content"), str):
        yield Message(role, text(turn))
        return
    said: list[str] = []
    calls: list[ToolCall] = []
    answered = False
    for block in objects(turn, "content"):
        match block.get("type"):
            case "tool_result":
                answered = True
                yield Message("tool", text(block), call_id=string(block, "tool_use_id"))
            case "tool_use":
                calls.append(ToolCall(string(block, "id"), string(block, "name"), dict(nested(block, "input"))))
            case "thinking" | "redacted_thinking":
                pass
            case _:
                said.append(part(block))
    if said or calls or not answered:
        yield Message(role, "\n".join(said), tuple(calls))


def _tool(tool: Body) -> ToolSpec:
    if tool.get("type", "custom") != "custom":
        raise Rejected(400, f"this server knows tools of type custom only, got {tool['type']!r}")
    return spec(tool, "input_schema")


def whole(asked: Asked, replies: Sequence[Reply]) -> dict[str, Any]:
    (reply,) = replies
    return {**_message(asked), "content": _content(reply), "stop_reason": _stop(reply), "usage": _usage(reply.usage)}


def _content(reply: Reply) -> list[dict[str, Any]]:
    """Blocks. A reply's own, such as signed thinking, are told as they are."""
    if reply.opaque is not None:
        return [dict(block) for block in reply.opaque]
    wordless = reply.calls or declined(reply) is not None
    text = [{"type": "text", "text": reply.text}] if reply.text or not wordless else []
    return text + [
        {"type": "tool_use", **identified("id", made.id), "name": made.name, "input": dict(made.arguments)}
        for made in reply.calls
    ]


def _stop(reply: Reply) -> str:
    return STOP[finish(reply)] if declined(reply) is None else "refusal"


def _message(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"msg_{asked.number}",
        "type": "message",
        "role": "assistant",
        "model": asked.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Here input_tokens are those that were neither read from a cache nor written to it."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def events(asked: Asked, replies: Sequence[Reply]) -> Iterator[Event]:
    (reply,) = replies
    for kind, said in _said(asked, reply):
        yield Event(kind, {"type": kind, **said})


def _said(asked: Asked, reply: Reply) -> Iterator[tuple[str, dict[str, Any]]]:
    usage = _usage(reply.usage)
    yield "message_start", {"message": {**_message(asked), "usage": {**usage, "output_tokens": 0}}}
    yield "ping", {}
    for index, block in enumerate(_content(reply)):
        start, deltas = _streamed(asked, block)
        yield "content_block_start", {"index": index, "content_block": start}
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    stop = {"stop_reason": _stop(reply), "stop_sequence": None}
    yield "message_delta", {"delta": stop, "usage": usage}
    yield "message_stop", {}


def _streamed(asked: Asked, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block's beginning and its deltas; blocks of other kinds come whole."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        case "tool_use":
            cut = asked.cut(json.dumps(block["input"]))
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in cut]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thoughts, signed]
    return block, []
