"""Wrappers that look at one call at a time, however many requests they are handed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from promptlab.backends.wrappers.wrapper import Replies, Wrapper
from promptlab.options import check
from promptlab.runners import in_private_loop
from promptlab.runners.senders import alike, ended
from promptlab.types import Request


class CallByCall(Wrapper):
    """A wrapper whose `around` gets what the backend sends together: a request, equal ones, or an engine's batch."""

    def _calls(self, requests: Sequence[Request]) -> list[Sequence[Request]]:
        together = self.backend.batched or (getattr(self.backend, "native_n", False) and alike(requests))
        return [requests] if together or len(requests) < 2 else [[request] for request in requests]

    async def _agenerate(self, requests: Sequence[Request]) -> Replies:
        check(self, requests)  # all of them, before the first is sent
        calls = self._calls(requests)
        if len(calls) == 1:
            return await super()._agenerate(requests)
        tasks = [asyncio.create_task(super(CallByCall, self)._agenerate(call)) for call in calls]
        try:
            return [reply for task in tasks for reply in await task]
        finally:
            await ended(tasks)

    def generate(self, requests: Sequence[Request]) -> Replies:
        if hasattr(self.backend, "agenerate"):  # so that many are in flight
            return in_private_loop(self._alone(requests))
        check(self, requests)
        return [reply for call in self._calls(requests) for reply in super(CallByCall, self).generate(call)]

    async def _alone(self, requests: Sequence[Request]) -> Replies:
        try:
            return await self._agenerate(requests)
        finally:
            if hasattr(self.backend, "aclose"):
                await self.backend.aclose()
