"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from promptlab.backends.wire.common import Json, calls_from, described, part, whole
from promptlab.errors import ContextOverflow, Malformed, ModelError, Refused
from promptlab.types import Message, Reply, Request, Usage

MAX_TOKENS = 4096  # which the API wants to be told; where the request does not say
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "calls",
    "pause_turn": "stop",
}
CACHED: Json = {"cache_control": {"type": "ephemeral"}}


def body(request: Request, caches: bool = False) -> Json:
    """The parameters of a request but for the model; with `caches`, what comes before the question is to be cached."""
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    rest = [m for m in request.messages if m.role != "system"]
    question = max((i for i, m in enumerate(rest) if m.role == "user"), default=0)
    cache_at = question - 1 if caches and question else None
    given: Json = {"messages": turns(rest, cache_at), "max_tokens": request.max_tokens or MAX_TOKENS}
    if system:
        mark = CACHED if caches and cache_at is None else {}
        given["system"] = [{"type": "text", "text": system, **mark}]
    if request.stop:
        given["stop_sequences"] = list(request.stop)
    if request.tools:
        given["tools"] = [described(tool, "input_schema") for tool in request.tools]
    if request.schema is not None:
        given["output_config"] = {"format": {"type": "json_schema", "schema": request.schema}}
    return given


def turns(messages: Sequence[Message], cache_at: int | None) -> list[Json]:
    """Messages as turns; those in a row of one side become one turn, as tool results must stand together."""
    blocks: list[tuple[str, list[Json]]] = []
    for i, message in enumerate(messages):
        some = blocks_of(message)
        if i == cache_at and some:
            some = [*some[:-1], some[-1] | CACHED]
        blocks.append(("assistant" if message.role == "assistant" else "user", some))
    together = groupby(blocks, key=lambda pair: pair[0])
    return [{"role": side, "content": [block for _, some in group for block in some]} for side, group in together]


def blocks_of(message: Message) -> list[Json]:
    """A message's blocks. A model's own turn goes back as it came, its signed thinking among it."""
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.call_id, "content": message.content}]
    if message.opaque is not None:
        return list(message.opaque)
    said: list[Json] = [{"type": "text", "text": message.content}] if message.content else []
    return said + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)} for call in message.calls
    ]


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    content = part(answer, "content", list)
    wished = [block for block in content if block.get("type") == "tool_use"]
    calls = calls_from((block.get("id"), str(block.get("name") or ""), block.get("input")) for block in wished)
    for block, call in zip(wished, calls, strict=True):
        block["id"] = call.id
    said = answer.get("stop_reason")
    finish: Any = FINISH.get(str(said), "stop")
    reply = Reply(
        "".join(block.get("text") or "" for block in content if block.get("type") == "text"),
        calls,
        finish,
        usage=usage_of(answer.get("usage") or {}),
        opaque=tuple(content) if any(b.get("type") in ("thinking", "redacted_thinking") for b in content) else None,
    )
    if said is None:
        return [Malformed("the reply ended without a reason: it was cut off on its way", reply=reply)]
    if said == "refusal":
        return [Refused("the model declined", reply=reply)]
    if said == "model_context_window_exceeded":
        return [ContextOverflow("the model's context ended in the middle of the reply", reply=reply)]
    return [whole(reply, request)]


def usage_of(said: Mapping[str, Any]) -> Usage:
    """Anthropic does not count what it read from a cache, or wrote there, among the input tokens: here they are."""
    cached = said.get("cache_read_input_tokens") or 0
    return Usage(
        input_tokens=(said.get("input_tokens") or 0) + (said.get("cache_creation_input_tokens") or 0) + cached,
        cached_tokens=cached,
        output_tokens=said.get("output_tokens") or 0,
        reasoning_tokens=(said.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


async def collected(events: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that a stream adds up to. One that was cut off has no reason to stop."""
    answer: Json = {"content": [], "stop_reason": None, "usage": {}}
    pieces: list[str] = []  # of the input of a tool call
    async for event in events:
        kind = event.get("type")
        if kind == "message_start":
            answer |= {"usage": dict(event["message"].get("usage") or {})}
        elif kind == "content_block_start":
            answer["content"].append(dict(event["content_block"]))
            pieces = []
        elif kind == "content_block_delta":
            add(answer["content"][-1], event["delta"], pieces)
        elif kind == "content_block_stop" and answer["content"][-1].get("type") == "tool_use":
            answer["content"][-1]["input"] = "".join(pieces)
        elif kind == "message_delta":
            answer["stop_reason"] = event["delta"].get("stop_reason")
            answer["usage"] |= {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
        elif kind == "message_stop":
            return answer
    raise Malformed("the stream ended before the reply did: it was cut off on its way")


def add(block: Json, delta: Mapping[str, Any], pieces: list[str]) -> None:
    """Add what an event says to its block."""
    kind = delta.get("type")
    if kind == "text_delta":
        block["text"] += delta["text"]
    elif kind == "input_json_delta":
        pieces.append(delta["partial_json"])
    elif kind == "thinking_delta":
        block["thinking"] = block.get("thinking", "") + delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = block.get("signature", "") + delta["signature"]
