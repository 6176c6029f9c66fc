"""OpenAI's Responses API. Nothing is stored there: what it wants to see again is sent with every request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from promptlab.backends.wire.common import Json, arguments_of, calls_from, odd_end, part, text_in, tokens_of, whole
from promptlab.backends.wire.schemas import OPENAI, described, strict
from promptlab.errors import Malformed, ModelError, Refused, Unavailable
from promptlab.types import Message, Reply, Request, Usage


def body(request: Request, reasoning: str | None = None) -> Json:
    """The parameters of a request but for the model.

    What a model thought comes back, encrypted, only where `reasoning` is told: models that do not reason refuse to be
    asked. One that reasons of itself thinks anew in every turn, then. A schema is held to strictly where it can be, and
    then adapted as `schemas.held` says.
    """
    include: list[str] = []
    given: Json = {"input": [item for message in request.messages for item in items(message)], "store": False}
    options = {"temperature": request.temperature, "max_output_tokens": request.max_tokens}
    given |= {name: value for name, value in options.items() if value is not None}
    if request.top_p != 1:
        given["top_p"] = request.top_p
    if request.logprobs:
        include.append("message.output_text.logprobs")
        given["top_logprobs"] = 0
    if request.tools:
        given["tools"] = [{"type": "function", **described(tool)} for tool in request.tools]
    if request.schema is not None:
        schema, is_strict = strict(request.schema, OPENAI)
        given["text"] = {"format": {"type": "json_schema", "name": "reply", "schema": schema, "strict": is_strict}}
    if reasoning:
        given["reasoning"] = {"effort": reasoning}
        include.append("reasoning.encrypted_content")
    return given | ({"include": include} if include else {})


def items(message: Message) -> list[Json]:
    """A turn as items. A model's own turn goes back as it came, its encrypted reasoning among it."""
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.call_id, "output": message.content}]
    if message.opaque is not None:
        return list(message.opaque)
    said = [{"role": message.role, "content": message.content}] if message.content or not message.calls else []
    calls = (
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments_of(call),
        }
        for call in message.calls
    )
    return [*said, *calls]


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    """The one reply; which errors there are is in `status` and `incomplete_details`."""
    output = part(answer, "output", list)
    contents = [c for item in output if item.get("type") == "message" for c in item.get("content") or ()]
    texts = [c for c in contents if c.get("type") == "output_text"]
    thoughts = [item for item in output if item.get("type") == "reasoning"]
    wished = [item for item in output if item.get("type") == "function_call"]
    calls = calls_from((item.get("call_id"), str(item.get("name") or ""), item.get("arguments")) for item in wished)
    for item, call in zip(wished, calls, strict=True):
        item["call_id"] = call.id
        if call.unread:
            item["arguments"] = arguments_of(call)  # as it can go back
    status, why = answer.get("status"), (answer.get("incomplete_details") or {}).get("reason")
    text = text_in(texts)
    finish: Any = "length" if why == "max_output_tokens" else "calls" if calls else "stop"
    reply = Reply(
        text,
        calls,
        finish,
        tokens=tokens_of([t for c in texts for t in c.get("logprobs") or ()], text, finish == "stop"),
        usage=usage_of(answer.get("usage") or {}),
        # thoughts that came without their encrypted content are known by an id only, and nothing is stored there
        opaque=tuple(output) if thoughts and all(item.get("encrypted_content") for item in thoughts) else None,
    )
    if refusals := [c.get("refusal") for c in contents if c.get("type") == "refusal"]:
        return [Refused(f"the model declined: {refusals[0]}", reply=reply)]
    if why == "content_filter":
        return [Refused("the provider's content filter ended the reply", reply=reply)]
    if status == "failed":
        return [Unavailable(f"the provider failed: {(answer.get('error') or {}).get('message')}")]
    if status not in ("completed", "incomplete"):
        return [Malformed(f"the reply ended with the status {status!r}: it was cut off on its way", reply=reply)]
    if status == "incomplete" and why != "max_output_tokens":
        return [odd_end(why, reply)]
    return [whole(reply, request)]


def usage_of(said: Mapping[str, Any]) -> Usage:
    read, written = said.get("input_tokens_details") or {}, said.get("output_tokens_details") or {}
    return Usage(
        input_tokens=said.get("input_tokens") or 0,
        cached_tokens=read.get("cached_tokens") or 0,
        output_tokens=said.get("output_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
        cache_write_tokens=read.get("cache_write_tokens") or 0,
    )


async def collected(events: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that a stream ends with, which holds all that its events said."""
    async for event in events:
        if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            return part(event, "response", dict)  # type: ignore[no-any-return]
        if event.get("type") == "error":
            raise Unavailable(f"the provider failed in the middle of a reply: {event.get('message')}")
    raise Malformed("the stream ended before the reply did: it was cut off on its way")
