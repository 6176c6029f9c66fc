"""Every call is noted: before it is sent, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.recordings import Call
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.jsonable import dumped, request_json
from promptlab.options import name_of
from promptlab.types import Backend, Request, Usage


class Traced(Wrapper):
    """A backend whose calls are noted in a file: request, reply or error, tokens, money and seconds of each.

    Put it directly around the model, so that every try is a call of its own, failed and cancelled ones among them. The
    file may be the one that Cached keeps its answers in (a Record that both are given): what comes from there is noted
    too. `ledger.calls()` reads them, `totals` adds them up. No key is in a request, so none is in the file.
    """

    def __init__(self, backend: Backend, path: str | Path | Record) -> None:
        super().__init__(backend)
        self.ledger = path if isinstance(path, Record) else Record(path)
        self._start()

    def _start(self) -> None:
        self._who = self.ledger.model(getattr(self.backend, "identity", None) or {"name": name_of(self.backend)})

    def __getstate__(self) -> dict[str, Any]:
        return {"backend": self.backend, "ledger": self.ledger}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        told = [dumped(request_json(request)) for request in requests]
        calls = self.ledger.begin(self._who, told, "sent", [request.program for request in requests])
        started = time.perf_counter()
        outcome = "failed"
        try:
            replies = await inner.send(requests)
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, asyncio.CancelledError | KeyboardInterrupt) else outcome
            self.ledger.end(calls, [outcome] * len(calls), time.perf_counter() - started)
            raise
        self.ledger.end(calls, replies, time.perf_counter() - started)
        return replies


def totals(calls: Sequence[Call]) -> tuple[int, Usage]:
    """How many calls were sent, and what they used. The money is None if the price of any that used tokens is."""
    sent = [call for call in calls if call.decision == "sent"]
    return len(sent), sum((call.usage for call in sent if call.usage != Usage()), Usage(cost_usd=0.0))
