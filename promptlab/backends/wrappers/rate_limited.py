"""Requests sent no faster than their provider takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from promptlab.backends.wrappers.call_by_call import CallByCall
from promptlab.backends.wrappers.limits import SENDING, Limits, Ticket, shared, taken
from promptlab.backends.wrappers.pace import START
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import ModelError, Unavailable
from promptlab.types import Backend, Request, Usage

LOCAL_START = 4_096.0  # calls in flight at a server of one's own, which has a queue instead of limits


class RateLimited(CallByCall):
    """Keeps to a provider's limits: requests, input, output or all tokens a minute, and calls in flight.

    What is not given is learned from response headers and from 429s (see Limits). All that use one model of one account
    in this process share their limits; `limits` are others to share. It belongs right around the provider, with
    Retrying and caches around it: a request that waits to be tried again, or is answered from a cache, holds no place.
    Where the provider asks for a pause of more than 90 s, the error is Unavailable and says how long.
    """

    paces = True

    def __init__(
        self,
        backend: Backend,
        *,
        rpm: float | None = None,
        input_tpm: float | None = None,
        output_tpm: float | None = None,
        tpm: float | None = None,
        max_in_flight: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(backend)
        self.limits = limits or limits_of(backend)
        self.limits.restrict(rpm=rpm, input_tpm=input_tpm, output_tpm=output_tpm, tpm=tpm, max_in_flight=max_in_flight)
        provider: Any = backend
        while isinstance(provider, Wrapper) and not hasattr(type(provider), "heard"):
            provider = provider.backend
        if hasattr(provider, "heard"):
            provider.heard = self.limits.heard
        self._free_cache = getattr(backend, "kind", "") == "anthropic"  # whose input limits leave out cached tokens

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        """One call: of one request, of equal ones that are asked together, or of a whole batch."""
        if not requests:
            return []
        try:
            ticket = await self.limits.admitted(self.limits.estimated(requests), inner)
        except Unavailable as error:
            return [error] * len(requests)
        replies: Replies = []
        SENDING.set(ticket)
        try:
            replies = await inner.send(requests)
        finally:
            SENDING.set(None)
            self._done(ticket, requests, replies)
        return replies

    def _done(self, ticket: Ticket, requests: Sequence[Request], replies: Replies) -> None:
        usages = [reply.reply.usage if reply.reply else Usage() for reply in replies if isinstance(reply, ModelError)]
        usages += [reply.usage for reply in replies if not isinstance(reply, ModelError)]
        used = taken(sum(usages, Usage()), self._free_cache)
        if used:
            self.limits.learn(requests[0], used["input"], used["output"], len(requests))
        error = next((reply for reply in replies if isinstance(reply, Unavailable)), None)
        self.limits.done(ticket, used, error, answered=bool(replies))


def limits_of(backend: Any) -> Limits:
    """Those of a hosted model's account, shared with all who use the same; of any other backend, its own.

    An account is a provider, a host, a key and a model, as providers limit each model by itself.
    """
    if not hasattr(backend, "kind") or not hasattr(backend, "url"):
        return Limits()
    key = hashlib.sha256(str(getattr(backend, "_key", "")).encode()).hexdigest()
    start = LOCAL_START if backend.local else START
    return shared(f"{backend.kind}:{backend.name}@{backend.url} {key}", start)
