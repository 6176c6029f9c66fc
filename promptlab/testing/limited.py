"""A server's answers within limits: 429s beyond them, and the provider's headers with every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from promptlab.testing.answering import Answering, Page, Received, Stream
from promptlab.testing.faults import Fault
from promptlab.testing.limits import RateLimits
from promptlab.testing.wire import FORMATS
from promptlab.testing.wire.rejections import Rejected
from promptlab.types import Request


@dataclass(frozen=True, slots=True)
class Limited:
    """Input tokens are the backend's own count, or words; output tokens are those of the usage that is told."""

    answering: Answering
    limits: RateLimits

    def __call__(self, received: Received, number: int, fault: Fault) -> Page | Stream:
        asked = _asked(received)
        if not asked:
            return self.answering(received, number, fault)
        format = FORMATS[received.path]
        most = sum(request.max_tokens or 0 for request in asked)
        wait_s = self.limits.admit(self.answering.count(asked[0].messages), most)
        if wait_s is None:
            answer = self.answering(received, number, fault)
            self.limits.finished(max(_written(answer), default=0), most)
        else:
            full = Rejected(429, "this server was told to let no more pass")
            body = json.dumps(full.body(format.provider, number)).encode()
            answer = Page(429, {"content-type": "application/json", **full.headers(format.provider, number)}, body)
        return replace(answer, headers={**answer.headers, **self.limits.told(format.provider, wait_s)})


def _asked(received: Received) -> list[Request]:
    """What a model is asked; nothing where it is something else, or cannot be read."""
    if received.method != "POST" or received.path not in FORMATS or not isinstance(received.body, dict):
        return []
    try:
        return FORMATS[received.path].requests(received.body)
    except Rejected:
        return []


def _written(answer: Page | Stream) -> Iterator[int]:
    """Every count of output tokens in an answer; in a stream they grow."""
    if isinstance(answer, Page):
        yield from _counts(json.loads(answer.content) if answer.status == 200 and answer.content[:1] == b"{" else None)
    else:
        for event in answer.events:
            yield from _counts(event.data)


def _counts(told: Any) -> Iterator[int]:
    for name, value in told.items() if isinstance(told, dict) else ():
        if name in ("completion_tokens", "output_tokens") and isinstance(value, int):
            yield value
        elif name in ("usage", "response", "message"):
            yield from _counts(value)
