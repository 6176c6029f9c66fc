"""The most that a request can come to, before it is sent."""

from __future__ import annotations

import json
from typing import Any

from promptlab.types import Message, Request, Usage

A_MESSAGE, WITH_TOOLS = 16, 1_024  # tokens that a chat template, and a provider's words on tools, may add


def most_read(backend: Any, request: Request) -> int:
    """Tokens of what is sent: as the backend counts them, else the bytes, of which no tokenizer makes more tokens."""
    count = getattr(backend, "count_tokens", None)
    if count is not None and backend.batched:
        context = int(count(request.messages))
    else:
        told = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
        context = sum(map(_size, request.messages)) + (WITH_TOOLS + len(json.dumps(told)) if told else 0)
        context += len(json.dumps(request.schema)) if request.schema is not None else 0
    if not request.continuations:
        return context
    return context * len(request.continuations) + sum(_bytes(text) for text in request.continuations)


def most_written(backend: Any, request: Request) -> int | None:
    """Tokens of what may come back; None where nothing bounds them."""
    if request.continuations:
        return 0
    if (most := getattr(backend, "most_written", None)) is not None:
        return int(most(request))
    return getattr(backend, "max_new_tokens", None) if request.max_tokens is None else request.max_tokens


def most_usd(backend: Any, read: int, written: int) -> float | None:
    """What so many tokens cost at most, which is where all that is read is also written to the provider's cache."""
    costs = [usd_of(backend, Usage(read, 0, written, cache_write_tokens=kept)) for kept in (0, read)]
    return max((cost for cost in costs if cost is not None), default=None)


def usd_of(backend: Any, usage: Usage) -> float | None:
    """What tokens cost: nothing for an engine in this process, None where it is not known."""
    price = getattr(backend, "price", None)
    if price is not None:
        return float(price.cost_usd(usage))
    return 0.0 if backend.batched and getattr(backend, "local", False) else None


def _size(message: Message) -> int:
    """A turn with its calls, and with what its provider wants back."""
    calls = [[call.id, call.name, dict(call.arguments), call.unread] for call in message.calls]
    extra = [calls, message.call_id, message.opaque]
    return A_MESSAGE + _bytes(message.content) + (len(json.dumps(extra, default=str)) if any(extra) else 0)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
