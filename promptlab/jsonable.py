"""Requests and replies as JSON and back: what is kept of a call, and what tells one call from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from promptlab import errors
from promptlab.errors import ModelError, SetupError
from promptlab.types import Message, Reply, Request, Token, ToolCall, ToolSpec, Usage

Json = dict[str, Any]
NOTHING = Usage()
KEPT_ERRORS = {kind.__name__: kind for kind in (errors.Refused, errors.Truncated)}  # paid for, and final
ERRORS = {kind.__name__: kind for kind in ModelError.__subclasses__()}


_encode = json.JSONEncoder(separators=(",", ":")).encode


def dumped(value: Any) -> bytes:
    """JSON in one way only, in ASCII. The order of keys is kept: it is part of what a model reads."""
    return _encode(value).encode()


def check_json(request: Request) -> None:
    """Raises SetupError for a schema, a tool's parameters or a call's arguments that JSON cannot carry."""
    told: list[tuple[str, Any]] = [("The schema", request.schema)]
    told += [(f"The schema of the tool {tool.name}", tool.parameters) for tool in request.tools]
    calls = [call for message in request.messages for call in message.calls]
    told += [(f"What {call.name} is called with", call.arguments) for call in calls]
    for what, value in told:
        try:
            _encode(dict(value) if isinstance(value, Mapping) else value)
        except (TypeError, ValueError, RecursionError) as error:
            raise SetupError(
                f"{what} cannot be told as JSON: {error}. Make it of text, numbers, lists and dicts."
            ) from None


def request_json(request: Request) -> Json:
    """All of a request that is not at its default, but for the program that asks."""
    told: Json = {"messages": [message_json(message) for message in request.messages]}
    for name in ("continuations", "stop", "branch"):
        if value := getattr(request, name):
            told[name] = list(value)
    for name in ("max_tokens", "temperature", "seed", "schema"):
        if (value := getattr(request, name)) is not None:
            told[name] = value
    if request.top_p != 1:
        told["top_p"] = request.top_p
    for name in ("logprobs", "alternatives"):
        if getattr(request, name):
            told[name] = True
    if request.to:
        told["to"] = request.to
    if request.tools:
        told["tools"] = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ]
    return told


def message_json(message: Message) -> Json:
    told: Json = {"role": message.role, "content": message.content}
    if message.calls:
        told["calls"] = [call_json(call) for call in message.calls]
    if message.call_id is not None:
        told["call_id"] = message.call_id
    if message.opaque is not None:
        told["opaque"] = message.opaque
    return told


def call_json(call: ToolCall) -> Json:
    told: Json = {"id": call.id, "name": call.name, "arguments": call.arguments}
    return {**told, "unread": call.unread} if call.unread else told


def reply_json(reply: Reply | ModelError) -> Json:
    """A reply, or an error that holds one."""
    if isinstance(reply, ModelError):
        failed = {"error": type(reply).__name__, "message": str(reply)}
        return {**failed, "reply": reply_json(reply.reply)} if reply.reply else failed
    told: Json = {"text": reply.text, "finish": reply.finish}
    if reply.calls:
        told["calls"] = [call_json(call) for call in reply.calls]
    if reply.tokens:
        told["tokens"] = [[token.text, token.logprob] for token in reply.tokens]
    if reply.scores:
        told["scores"] = list(reply.scores)
    if reply.opaque is not None:
        told["opaque"] = reply.opaque
    return {**told, "usage": usage_json(reply.usage)}


def usage_json(usage: Usage) -> Json:
    return {name: value for name in Usage.__slots__ if (value := getattr(usage, name)) != getattr(NOTHING, name)}


def request_from(told: Mapping[str, Any]) -> Request:
    """What `request_json` told."""
    made: Json = {**told, "messages": tuple(message_from(message) for message in told["messages"])}
    made["tools"] = tuple(ToolSpec(**tool) for tool in told.get("tools", ()))
    for name in ("continuations", "stop", "branch"):
        made[name] = tuple(told.get(name, ()))
    return Request(**made)


def message_from(told: Mapping[str, Any]) -> Message:
    calls = tuple(ToolCall(**call) for call in told.get("calls", ()))
    return Message(told["role"], told["content"], calls, told.get("call_id"), opaque_from(told))


def opaque_from(told: Mapping[str, Any]) -> Any:
    """Providers' blocks are a tuple of objects, which JSON tells as a list."""
    opaque = told.get("opaque")
    return tuple(opaque) if isinstance(opaque, list) else opaque


def reply_from(told: Mapping[str, Any]) -> Reply | ModelError:
    """What `reply_json` told."""
    if "error" in told:
        inner = reply_from(told["reply"]) if "reply" in told else None
        failed = ERRORS.get(told["error"], ModelError)(told["message"])
        failed.reply = inner if isinstance(inner, Reply) else None
        return failed
    return Reply(
        told["text"],
        tuple(ToolCall(**call) for call in told.get("calls", ())),
        told["finish"],
        tuple(Token(text, logprob) for text, logprob in told.get("tokens", ())),
        tuple(told.get("scores", ())),
        Usage(**told["usage"]),
        opaque_from(told),
    )


def digest(told: bytes) -> bytes:
    """What stands for something told: 16 bytes of its SHA-256."""
    return hashlib.sha256(told).digest()[:16]
