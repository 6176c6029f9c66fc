"""OpenAI's chat completions: POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from promptlab.testing.wire.reading import (
    Body,
    branches,
    call,
    integer,
    nested,
    objects,
    options,
    schema,
    spec,
    string,
    text,
)
from promptlab.testing.wire.rejections import Rejected
from promptlab.testing.wire.strictness import check_answered, check_strict, check_tools
from promptlab.testing.wire.telling import (
    DONE,
    Asked,
    Event,
    declined,
    deltas,
    finish,
    identified,
    in_total,
    in_turn,
    openai_usage,
    pieces,
    token_logprobs,
    written,
)
from promptlab.types import Message, Reply, Request, Token, ToolCall, ToolSpec

FINISH = {"stop": "stop", "length": "length", "calls": "tool_calls"}


def requests(body: Body) -> list[Request]:
    check_answered(objects(body, "messages"))
    check_tools([nested(tool, "function") for tool in objects(body, "tools")], "openai", "parameters")
    format = nested(body, "response_format", "json_schema")
    if format.get("strict"):
        check_strict(format.get("schema"), "openai", f"response_format {format.get('name')!r}")
    request = replace(
        options(body, limits=("max_completion_tokens", "max_tokens")),
        messages=tuple(map(_message, objects(body, "messages"))),
        logprobs=bool(body.get("logprobs")),
        tools=tuple(map(_tool, objects(body, "tools"))),
        schema=schema(nested(body, "response_format"), format),
    )
    if not request.messages:
        raise Rejected(400, "messages is empty")
    return branches(body, request)


def _message(turn: Body) -> Message:
    match turn.get("role"):
        case "system" | "developer":
            return Message("system", text(turn))
        case "user":
            return Message("user", text(turn))
        case "assistant":
            calls = [(string(c, "id"), nested(c, "function")) for c in objects(turn, "tool_calls")]
            return Message(
                "assistant",
                text(turn),
                tuple(call(id, string(function, "name"), string(function, "arguments")) for id, function in calls),
            )
        case "tool":
            return Message("tool", text(turn), call_id=string(turn, "tool_call_id"))
        case other:
            raise Rejected(400, f"role is system, developer, user, assistant or tool, got {other!r}")


def _tool(tool: Body) -> ToolSpec:
    if tool.get("type") != "function":
        raise Rejected(400, f"this server knows tools of type function only, got {tool.get('type')!r}")
    return spec(nested(tool, "function"))


def whole(asked: Asked, replies: Sequence[Reply]) -> dict[str, Any]:
    return {
        **_head(asked, "chat.completion"),
        "choices": [_choice(asked.body, i, reply) for i, reply in enumerate(replies)],
        "usage": openai_usage(in_total(replies, len(replies))),
    }


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.number}", "object": kind, "created": 0, "model": asked.body["model"]}


def _choice(body: Body, i: int, reply: Reply) -> dict[str, Any]:
    said = None if _silent(reply) else reply.text
    message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": declined(reply)}
    if reply.calls:
        message["tool_calls"] = [_call(made, written(made)) for made in reply.calls]
    logprobs = _logprobs(body, reply.tokens) if body.get("logprobs") else None
    return {"index": i, "message": message, "finish_reason": FINISH[finish(reply)], "logprobs": logprobs}


def _silent(reply: Reply) -> bool:
    """The content is null, not empty, where something else is there instead."""
    return not reply.text and bool(reply.calls or declined(reply))


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {**identified("id", call.id), "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _logprobs(body: Body, tokens: Sequence[Token]) -> dict[str, Any] | None:
    return {"content": token_logprobs(tokens, integer(body, "top_logprobs")), "refusal": None} if tokens else None


def events(asked: Asked, replies: Sequence[Reply]) -> Iterator[Event]:
    """Choices arrive together; the token counts, where asked for, in a last chunk without choices."""
    head = _head(asked, "chat.completion.chunk")
    with_usage = nested(asked.body, "stream_options").get("include_usage")
    none_yet = {"usage": None} if with_usage else {}
    for choice in in_turn(_deltas(asked, i, reply) for i, reply in enumerate(replies)):
        yield Event(None, {**head, "choices": [choice], **none_yet})
    if with_usage:
        yield Event(None, {**head, "choices": [], "usage": openai_usage(in_total(replies, len(replies)))})
    yield DONE


def _deltas(asked: Asked, i: int, reply: Reply) -> Iterator[dict[str, Any]]:
    def choice(delta: Body, finish: str | None = None, tokens: Sequence[Token] = ()) -> dict[str, Any]:
        logprobs = _logprobs(asked.body, tokens)
        return {"index": i, "delta": delta, "finish_reason": finish, "logprobs": logprobs}

    yield choice({"role": "assistant", "content": None if _silent(reply) else ""})
    for piece in pieces(declined(reply) or ""):
        yield choice({"refusal": piece})
    for piece, tokens in deltas(reply, bool(asked.body.get("logprobs"))):
        yield choice({"content": piece}, None, tokens)
    for k, made in enumerate(reply.calls):
        yield choice({"tool_calls": [{"index": k, **_call(made, "")}]})
        for piece in asked.cut(written(made)):
            yield choice({"tool_calls": [{"index": k, "function": {"arguments": piece}}]})
    yield choice({}, FINISH[finish(reply)])
