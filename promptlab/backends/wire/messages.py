"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from promptlab.backends.wire.common import FINISH, Json, calls_from, odd_end, part, text_in, whole
from promptlab.backends.wire.schemas import ANTHROPIC, ANTHROPIC_TOOLS, described, held
from promptlab.errors import ContextOverflow, Malformed, ModelError, Refused
from promptlab.types import Message, Reply, Request, Usage

MAX_TOKENS = 4096  # which the API wants to be told; where the request does not say
THOUGHTS = ("thinking", "redacted_thinking")
CACHED: Json = {"cache_control": {"type": "ephemeral"}}


def body(request: Request, caches: bool = False) -> Json:
    """The parameters of a request but for the model; with `caches`, what comes before the question is to be cached.

    Where requests fork at the question itself, as samples of it do, the question is to be cached too.

    Turns with nothing in them are left out, as the API refuses them. It has no way to take a schema but to hold the
    model to it, so that is adapted as `schemas.held` says. Raises Unsupported for one that it cannot be held to.
    """
    system = "\n\n".join(m.content for m in request.messages if m.role == "system")
    rest = [m for m in request.messages if m.role != "system"]
    question = max((i for i, m in enumerate(rest) if m.role == "user"), default=0)
    blocks = [blocks_of(message) for message in rest]
    marked = caches and mark(blocks[:question])
    if caches and (len(request.branch) > 1 or question + 1 < len(rest)):
        mark(blocks[question:])  # seen again: by the other samples, or in an agent's next step
    given: Json = {"messages": turns(rest, blocks), "max_tokens": request.max_tokens or MAX_TOKENS}
    if system.strip():
        given["system"] = [{"type": "text", "text": system, **(CACHED if caches and not marked else {})}]
    if request.stop:
        given["stop_sequences"] = list(request.stop)
    if request.tools:
        given["tools"] = [described(tool, ANTHROPIC_TOOLS, "input_schema") for tool in request.tools]
    if request.schema is not None:
        given["output_config"] = {"format": {"type": "json_schema", "schema": held(request.schema, ANTHROPIC)}}
    return given


def mark(blocks: Sequence[list[Json]]) -> bool:
    """Mark the last of some messages' blocks for the cache, and say whether there is one: thoughts take no mark."""
    for some in reversed(blocks):
        for i in reversed(range(len(some))):
            if some[i].get("type") not in THOUGHTS:
                some[i] = some[i] | CACHED
                return True
    return False


def turns(messages: Sequence[Message], blocks: Sequence[list[Json]]) -> list[Json]:
    """Messages as turns; those in a row of one side become one turn, as tool results must stand together."""
    sides = ["assistant" if message.role == "assistant" else "user" for message in messages]
    together = groupby((pair for pair in zip(sides, blocks, strict=True) if pair[1]), key=lambda pair: pair[0])
    return [{"role": side, "content": [block for _, some in group for block in some]} for side, group in together]


def blocks_of(message: Message) -> list[Json]:
    """A message's blocks; none where there is nothing to say.

    A model's own turn goes back as it came, its signed thinking among it, but for thoughts that nothing came of.
    """
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.call_id, "content": message.content}]
    if message.opaque is not None:
        said = [block for block in message.opaque if block.get("type") != "text" or block["text"].strip()]
        while said and said[-1].get("type") in THOUGHTS:
            said.pop()
        return said
    words: list[Json] = [{"type": "text", "text": message.content}] if message.content.strip() else []
    return words + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)} for call in message.calls
    ]


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    """The one reply. A turn that was paused (pause_turn, for tools of the provider's own) is taken as it is."""
    content = part(answer, "content", list)
    wished = [block for block in content if block.get("type") == "tool_use"]
    calls = calls_from((block.get("id"), str(block.get("name") or ""), block.get("input")) for block in wished)
    for block, call in zip(wished, calls, strict=True):
        block |= {"id": call.id, "input": dict(call.arguments)}  # as it can go back: an input has to be an object
    said = answer.get("stop_reason")
    reply = Reply(
        text_in([block for block in content if block.get("type") == "text"]),
        calls,
        FINISH.get(str(said), "stop"),
        usage=usage_of(answer.get("usage") or {}),
        opaque=tuple(content) if any(block.get("type") in THOUGHTS for block in content) else None,
    )
    if said == "refusal":
        return [Refused("the model declined", reply=reply)]
    if said == "model_context_window_exceeded":
        return [ContextOverflow("the model's context ended in the middle of the reply", reply=reply)]
    return [whole(reply, request) if said in FINISH or said == "pause_turn" else odd_end(said, reply)]


def usage_of(said: Mapping[str, Any]) -> Usage:
    """Anthropic does not count what it read from a cache, or wrote there, among the input tokens: here they are."""
    cached, written = said.get("cache_read_input_tokens") or 0, said.get("cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=(said.get("input_tokens") or 0) + written + cached,
        cached_tokens=cached,
        cache_write_tokens=written,
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
        elif kind == "content_block_stop" and pieces:
            answer["content"][-1]["input"] = written("".join(pieces))
        elif kind == "message_delta":
            answer["stop_reason"] = event["delta"].get("stop_reason")
            answer["usage"] |= {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
        elif kind == "message_stop":
            return answer
    raise Malformed("the stream ended before the reply did: it was cut off on its way")


def written(text: str) -> Any:
    """The input of a tool call, or the text where it is none; no text is an empty one."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text


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
