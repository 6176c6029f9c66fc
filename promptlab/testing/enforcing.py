"""A provider with limits, without a socket: for what paces itself, under `run_in_virtual_time`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import ModelError, Unavailable
from promptlab.testing.limits import RateLimits
from promptlab.testing.wire.rejections import Provider
from promptlab.types import Backend, Reply, Request

REFUSED_S = 0.05  # a 429 comes fast


class Enforcing(Wrapper):
    """A backend that answers `latency_s` later, and refuses what is beyond `limits`, on the caller's clock.

    What a request takes is the usage of the reply that it would get. `heard` is called with the provider's headers.
    """

    heard: Callable[[Mapping[str, str]], None] | None = None

    def __init__(
        self,
        backend: Backend,
        limits: RateLimits,
        latency_s: Callable[[Request], float] = lambda request: 1.0,
        provider: Provider = "anthropic",
    ) -> None:
        super().__init__(backend)
        self.limits, self.latency_s, self.provider = limits, latency_s, provider

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        self.limits.clock = inner.now
        replies = await inner.send(requests)
        return [await self._passed(*each, inner) for each in zip(requests, replies, strict=True)]

    async def _passed(self, request: Request, reply: Reply | ModelError, inner: Inner) -> Reply | ModelError:
        if isinstance(reply, ModelError):
            return reply
        most = request.max_tokens or 0
        usage = reply.usage
        wait_s = self.limits.admit(usage.input_tokens - usage.cached_tokens, most)
        if wait_s is not None:
            await inner.sleep(REFUSED_S)
            headers = self._tell(wait_s)
            after = headers.get("retry-after")
            return Unavailable("HTTP 429: too many", retry_after_s=None if after is None else float(after))
        try:
            await inner.sleep(self.latency_s(request))
        finally:
            self.limits.finished(usage.output_tokens, most)
        self._tell()
        return reply

    def _tell(self, wait_s: float | None = None) -> dict[str, str]:
        headers = self.limits.told(self.provider, wait_s)
        if self.heard is not None:
            self.heard(headers)
        return headers
