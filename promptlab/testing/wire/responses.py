"""OpenAI's responses: POST /v1/responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from promptlab.testing.wire.reading import Body, call, integer, nested, objects, options, schema, spec, string, text
from promptlab.testing.wire.rejections import Rejected
from promptlab.testing.wire.strictness import check_strict, check_tools
from promptlab.testing.wire.telling import (
    Asked,
    Event,
    declined,
    deltas,
    finish,
    identified,
    pieces,
    token_logprobs,
    written,
)
from promptlab.types import Message, Reply, Request, Role, Token, ToolSpec

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
Said = tuple[str, dict[str, Any]]  # an event's name and what it says


def requests(body: Body) -> list[Request]:
    for kept in ("previous_response_id", "conversation"):
        if body.get(kept):
            raise Rejected(400, f"this server keeps no conversations, got {kept}; send all of it as input")
    if "reasoning.encrypted_content" in (body.get("include") or ()) and not body.get("reasoning"):
        raise Rejected(400, "Encrypted content is not supported with this model.")  # as to one that does not reason
    check_tools(objects(body, "tools"), "openai", "parameters")
    format = nested(body, "text", "format")
    if format.get("strict"):
        check_strict(format.get("schema"), "openai", f"response_format {format.get('name')!r}")
    request = replace(
        options(body, limits=("max_output_tokens",)),
        messages=tuple(_messages(body)),
        logprobs=_told(body),
        tools=tuple(map(_tool, objects(body, "tools"))),
        schema=schema(format, format),
    )
    if not request.messages:
        raise Rejected(400, "input is empty")
    return [request]


def _told(body: Body) -> bool:
    return "message.output_text.logprobs" in (body.get("include") or ())


def _messages(body: Body) -> Iterator[Message]:
    if body.get("instructions"):
        yield Message("system", text(body, "instructions"))
    if isinstance(body.get("input"), str):
        yield Message("user", text(body, "input"))
        return
    turn: Message | None = None  # the assistant's, which may be followed by its calls
    called: set[str] = set()
    for item in objects(body, "input"):
        match item.get("type", "message"):
            case "function_call":
                made = call(string(item, "call_id"), string(item, "name"), string(item, "arguments"))
                called.add(made.id)
                turn = turn or Message("assistant")
                turn = replace(turn, calls=(*turn.calls, made))
                continue
            case "reasoning":
                if not item.get("encrypted_content") and item.get("id") and body.get("store") is False:
                    kept = "Items are not persisted when `store` is set to false."
                    raise Rejected(404, f"Item with id '{item['id']}' not found. {kept}")
                continue
            case "function_call_output" if item.get("call_id") not in called:
                raise Rejected(400, f"No tool call found for function call output with call_id {item.get('call_id')}.")
        if turn:
            yield turn
        said = _message(item)
        turn = said if said.role == "assistant" else None
        if not turn:
            yield said
    if turn:
        yield turn


def _message(item: Body) -> Message:
    match item.get("type", "message"):
        case "message" if (role := ROLES.get(item.get("role", ""))) is not None:
            return Message(role, text(item))
        case "function_call_output":
            return Message("tool", text(item, "output"), call_id=string(item, "call_id"))
        case other:
            raise Rejected(400, f"this server knows no input of type {other!r} and role {item.get('role')!r}")


def _tool(tool: Body) -> ToolSpec:
    if tool.get("type") != "function":
        raise Rejected(400, f"this server knows tools of type function only, got {tool.get('type')!r}")
    return spec(tool)


def whole(asked: Asked, replies: Sequence[Reply]) -> dict[str, Any]:
    (reply,) = replies
    return _response(asked, _status(reply), _output(asked, reply), reply)


def _status(reply: Reply) -> str:
    return "incomplete" if finish(reply) == "length" else "completed"


def _response(asked: Asked, status: str, output: list[dict[str, Any]], reply: Reply | None = None) -> dict[str, Any]:
    body, usage = asked.body, reply and reply.usage
    return {
        "id": f"resp_{asked.number}",
        "object": "response",
        "created_at": 0,
        "model": body["model"],
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "temperature": body.get("temperature"),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p"),
        "usage": usage
        and {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
            },
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }


def _output(asked: Asked, reply: Reply) -> list[dict[str, Any]]:
    """A message, if anything was said or nothing called; then the calls. A reply's own items are told as they are."""
    if reply.opaque is not None:
        return [dict(item) for item in reply.opaque]
    status, output, refusal = _status(reply), [], declined(reply)
    if reply.text or refusal is not None or not reply.calls:
        part = _part(reply.text, _logprobs(asked, reply.tokens))
        if refusal is not None:
            part = {"type": "refusal", "refusal": refusal}
        message = {"type": "message", "id": f"msg_{asked.number}", "role": "assistant"}
        output.append({**message, "status": status, "content": [part]})
    for i, made in enumerate(reply.calls):
        item = {"type": "function_call", "id": f"fc_{asked.number}_{i}", **identified("call_id", made.id)}
        output.append({**item, "name": made.name, "arguments": written(made), "status": status})
    return output


def _part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _logprobs(asked: Asked, tokens: Sequence[Token]) -> list[dict[str, Any]]:
    return token_logprobs(tokens, integer(asked.body, "top_logprobs")) if _told(asked.body) else []


def events(asked: Asked, replies: Sequence[Reply]) -> Iterator[Event]:
    for number, (kind, said) in enumerate(_said(asked, *replies)):
        yield Event(kind, {"type": kind, "sequence_number": number, **said})


def _said(asked: Asked, reply: Reply) -> Iterator[Said]:
    for kind in ("created", "in_progress"):
        yield f"response.{kind}", {"response": _response(asked, "in_progress", [])}
    output = _output(asked, reply)
    for i, item in enumerate(output):
        at = {"item_id": item["id"], "output_index": i}
        match item["type"]:
            case "message":
                yield _added(i, {**item, "content": []})
                for k, part in enumerate(item["content"]):
                    told = _refusal if part["type"] == "refusal" else _text
                    yield from told({**at, "content_index": k}, part, asked, reply)
            case "function_call":
                yield _added(i, {**item, "arguments": ""})
                yield from _arguments(at, item, asked)
            case _:  # reasoning, and whatever else comes whole
                yield _added(i, item)
        yield "response.output_item.done", {"output_index": i, "item": item}
    yield f"response.{_status(reply)}", {"response": _response(asked, _status(reply), output, reply)}


def _added(i: int, item: dict[str, Any]) -> Said:
    return "response.output_item.added", {"output_index": i, "item": {**item, "status": "in_progress"}}


def _refusal(at: dict[str, Any], part: dict[str, Any], asked: Asked, reply: Reply) -> Iterator[Said]:
    yield "response.content_part.added", {**at, "part": {**part, "refusal": ""}}
    for piece in pieces(part["refusal"]):
        yield "response.refusal.delta", {**at, "delta": piece}
    yield "response.refusal.done", {**at, "refusal": part["refusal"]}
    yield "response.content_part.done", {**at, "part": part}


def _text(at: dict[str, Any], part: dict[str, Any], asked: Asked, reply: Reply) -> Iterator[Said]:
    yield "response.content_part.added", {**at, "part": _part("", [])}
    for piece, tokens in deltas(reply, _told(asked.body)):
        yield "response.output_text.delta", {**at, "delta": piece, "logprobs": _logprobs(asked, tokens)}
    yield "response.output_text.done", {**at, "text": part["text"], "logprobs": part.get("logprobs", [])}
    yield "response.content_part.done", {**at, "part": part}


def _arguments(at: dict[str, Any], item: dict[str, Any], asked: Asked) -> Iterator[Said]:
    for piece in asked.cut(item["arguments"]):
        yield "response.function_call_arguments.delta", {**at, "delta": piece}
    yield "response.function_call_arguments.done", {**at, "name": item["name"], "arguments": item["arguments"]}
