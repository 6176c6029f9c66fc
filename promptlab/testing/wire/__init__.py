"""The providers' wire formats, a file each: requests read from JSON, replies told as JSON or as events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.testing.wire import chat, completions, messages, responses
from promptlab.testing.wire.reading import Body
from promptlab.testing.wire.rejections import Provider
from promptlab.testing.wire.telling import Asked, Event
from promptlab.types import Reply, Request


@dataclass(frozen=True, slots=True)
class Format:
    """`requests` reads what is asked; `whole` tells replies as one JSON, `events` as a stream. Raise Rejected."""

    provider: Provider
    requests: Callable[[Body], list[Request]]
    whole: Callable[[Asked, Sequence[Reply]], dict[str, Any]]
    events: Callable[[Asked, Sequence[Reply]], Iterator[Event]]


FORMATS = {
    "/v1/chat/completions": Format("openai", chat.requests, chat.whole, chat.events),
    "/v1/completions": Format("openai", completions.requests, completions.whole, completions.events),
    "/v1/responses": Format("openai", responses.requests, responses.whole, responses.events),
    "/v1/messages": Format("anthropic", messages.requests, messages.whole, messages.events),
}
