"""OpenAI's Responses API. Nothing is stored there: what it wants to see again is sent with every request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from promptlab.backends.wire.common import Json, calls_from, described, is_closed, part, whole, without_end
from promptlab.errors import Malformed, ModelError, Refused, Unavailable
from promptlab.types import Message, Reply, Request, Token, Usage


def body(request: Request, reasoning: str | None = None) -> Json:
    """The parameters of a request but for the model."""
    include = ["reasoning.encrypted_content"]
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
        form = {"type": "json_schema", "name": "reply", "schema": request.schema, "strict": is_closed(request.schema)}
        given["text"] = {"format": form}
    if reasoning:
        given["reasoning"] = {"effort": reasoning}
    return given | {"include": include}


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
            "arguments": call.unread or json.dumps(dict(call.arguments)),
        }
        for call in message.calls
    )
    return [*said, *calls]


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    """The one reply; which errors there are is in `status` and `incomplete_details`."""
    output = part(answer, "output", list)
    contents = [c for item in output if item.get("type") == "message" for c in item.get("content") or ()]
    texts = [c for c in contents if c.get("type") == "output_text"]
    wished = [item for item in output if item.get("type") == "function_call"]
    calls = calls_from((item.get("call_id"), str(item.get("name") or ""), item.get("arguments")) for item in wished)
    for item, call in zip(wished, calls, strict=True):
        item["call_id"] = call.id
    tokens = tuple(Token(t["token"], t["logprob"]) for c in texts for t in c.get("logprobs") or ())
    status, why = answer.get("status"), (answer.get("incomplete_details") or {}).get("reason")
    text = "".join(c.get("text") or "" for c in texts)
    finish: Any = "length" if why == "max_output_tokens" else "calls" if calls else "stop"
    reply = Reply(
        text,
        calls,
        finish,
        tokens=without_end(tokens, text) if finish == "stop" else tokens,
        usage=usage_of(answer.get("usage") or {}),
        opaque=tuple(output) if any(item.get("type") == "reasoning" for item in output) else None,
    )
    if refusals := [c.get("refusal") for c in contents if c.get("type") == "refusal"]:
        return [Refused(f"the model declined: {refusals[0]}", reply=reply)]
    if why == "content_filter":
        return [Refused("the provider's content filter ended the reply", reply=reply)]
    if status == "failed":
        return [Unavailable(f"the provider failed: {(answer.get('error') or {}).get('message')}")]
    if status not in ("completed", "incomplete"):
        return [Malformed(f"the reply ended with the status {status!r}: it was cut off on its way", reply=reply)]
    return [whole(reply, request)]


def usage_of(said: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=said.get("input_tokens") or 0,
        cached_tokens=(said.get("input_tokens_details") or {}).get("cached_tokens") or 0,
        output_tokens=said.get("output_tokens") or 0,
        reasoning_tokens=(said.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


async def collected(events: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that a stream ends with, which holds all that its events said."""
    async for event in events:
        if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            return part(event, "response", dict)  # type: ignore[no-any-return]
        if event.get("type") == "error":
            raise Unavailable(f"the provider failed in the middle of a reply: {event.get('message')}")
    raise Malformed("the stream ended before the reply did: it was cut off on its way")
