"""What was asked before is not asked again, and what is asked by many at once is asked once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.recorded import missing
from promptlab.backends.wrappers.recordings import Key
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import Interrupted, ModelError, SetupError
from promptlab.jsonable import KEPT_ERRORS, digest, dumped, request_json
from promptlab.options import name_of
from promptlab.types import Backend, Reply, Request

IN_MEMORY = 4_096  # answers that are also kept in memory
Asked = tuple[Request, bytes]  # and how it is told
Flight = Future[Reply | ModelError | None]


class Cached(Wrapper):
    """A backend whose answers are kept in a file, and read from there when the same is asked again.

    The same means: the backend's `identity` (provider, address, model, weights, adapter, template, options) and the
    whole request, its branch among it, so that n samples stay n different ones. Equal requests that are in flight at
    the same time in a process are one call; if that one fails, one of the others asks once more, and if it is
    cancelled, another. Replies are kept, and failures that were paid for and final (Refused, Truncated). `path` may be
    a Record that others use too. With `offline` nothing is asked: what failed when it was asked fails so again, and
    ReplayMiss, with the nearest request there is, is raised for what is not there.

    Raises SetupError for a backend that does not tell its `identity`, unless it is given here.
    """

    def __init__(
        self,
        backend: Backend,
        path: str | Path | Record,
        *,
        identity: Mapping[str, Any] | None = None,
        offline: bool = False,
    ) -> None:
        super().__init__(backend)
        told = identity if identity is not None else getattr(backend, "identity", None)
        if told is None:
            raise SetupError(
                f"{name_of(backend)} does not say what it is, so its answers cannot be told from those of others: give "
                'it an `identity`, or Cached(…, identity={"name": …}).'
            )
        self._identity, self.offline = dict(told), offline
        self.record = path if isinstance(path, Record) else Record(path)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._who = self.record.model(self._identity)
        self._flights: dict[Key, Flight] = {}
        self._recent: OrderedDict[Key, Reply | ModelError] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        state = {"backend": self.backend, "record": self.record}
        return {**state, "_identity": self._identity, "offline": self.offline}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        told = [dumped(request_json(request)) for request in requests]
        keys = [Key(self._who, digest(each)) for each in told]
        asked = {key: (request, each) for key, request, each in zip(keys, requests, told, strict=True)}
        replies: dict[Key, Reply | ModelError] = {}
        failed: set[Key] = set()
        todo = asked
        while todo:
            kept, own, others = self._sorted(todo)
            if own:
                replies |= await self._led(own, inner)
            if kept:
                self._note(kept, asked)
                replies |= kept
            for key, flight in others.items():
                reply = await inner.result(flight)
                if reply is not None and (is_kept(reply) or key in failed):
                    replies[key] = timeless(reply)
                elif reply is not None:  # another chance; then what failed for two others has failed here too
                    failed.add(key)
            todo = {key: asked[key] for key in others if key not in replies}
        return [replies[key] for key in keys]

    def keep_as(self, request: Request, reply: Reply | ModelError, how: Mapping[str, Any]) -> None:
        """Keep an answer for what was asked where another request was sent for that. `how` is a part of who answers."""
        if is_kept(reply):
            told = dumped(request_json(request))
            self.record.keep(Key(self.record.model({**self._identity, **how}), digest(told)), told, reply)

    def _note(self, kept: Mapping[Key, Reply | ModelError], asked: Mapping[Key, Asked]) -> None:
        """What the cache answered, beside what was sent."""
        ledger = getattr(self.backend, "ledger", None)
        if ledger is not None:
            programs = [asked[key][0].program for key in kept]
            calls = ledger.begin(ledger.model(self._identity), [asked[key][1] for key in kept], "kept", programs)
            ledger.end(calls, list(kept.values()), 0.0)

    def _sorted(
        self, asked: Mapping[Key, Asked]
    ) -> tuple[dict[Key, Reply | ModelError], dict[Key, Asked], dict[Key, Flight]]:
        """What is there already, what is to be asked here (and is, from now on), and what others are asking."""
        there: dict[Key, Reply | ModelError] = {}
        own: dict[Key, Asked] = {}
        others: dict[Key, Flight] = {}
        with self._lock:
            for key, request in asked.items():
                if (flight := self._flights.get(key)) is not None:
                    others[key] = flight
                elif (kept := self._kept(key)) is not None:
                    there[key] = kept
                else:
                    own[key] = request
            self._flights.update((key, Future()) for key in own)
        return there, own, others

    def _kept(self, key: Key) -> Reply | ModelError | None:
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        if (kept := self.record.answer(key)) is not None:
            self._remember(key, kept)
        return kept

    def _remember(self, key: Key, reply: Reply | ModelError) -> None:
        self._recent[key] = timeless(reply)
        if len(self._recent) > IN_MEMORY:
            self._recent.popitem(last=False)

    async def _led(self, own: Mapping[Key, Asked], inner: Inner) -> dict[Key, Reply | ModelError]:
        """Ask, and tell those who wait for the same; None tells them that nobody asked in the end."""
        found: dict[Key, Reply | ModelError] = {}
        try:
            found = self._failed(own) if self.offline else await self._sent(own, inner)
        finally:
            with self._lock:
                landed = [(self._flights.pop(key), found.get(key)) for key in own]
            for flight, reply in landed:
                flight.set_result(reply)
        return found

    async def _sent(self, asked: Mapping[Key, Asked], inner: Inner) -> dict[Key, Reply | ModelError]:
        """Ask, and keep what was answered before anybody is told, also where Ctrl-C came before the rest was."""
        try:
            replies = await inner.send([request for request, _ in asked.values()])
        except Interrupted as stop:
            self._keep(asked, stop.replies)
            raise
        return self._keep(asked, replies)

    def _keep(
        self, asked: Mapping[Key, Asked], replies: Sequence[Reply | ModelError | None]
    ) -> dict[Key, Reply | ModelError]:
        found = {key: reply for key, reply in zip(asked, replies, strict=True) if reply is not None}
        for key, reply in found.items():
            if is_kept(reply):
                found[key] = self.record.keep(key, asked[key][1], reply)
                with self._lock:
                    self._remember(key, found[key])
        return found

    def _failed(self, asked: Mapping[Key, Asked]) -> dict[Key, Reply | ModelError]:
        """What is in no cache, as it failed when it was last sent. Raises ReplayMiss."""
        found: dict[Key, Reply | ModelError] = {}
        for key, (request, _) in asked.items():
            last = [reply for who, reply in self.record.ended(key.asked) if digest(dumped(who)) == key.who]
            if not last:
                raise missing(request, self.record)
            found[key] = last[0]
        return found


def timeless(reply: Reply | ModelError) -> Reply | ModelError:
    """An answer as others get it, who did not send it: a latency is never that of a cache."""
    return replace(reply, seconds=None) if isinstance(reply, Reply) and reply.seconds is not None else reply


def is_kept(reply: Reply | ModelError) -> bool:
    """Whether it was paid for, and is final."""
    return isinstance(reply, Reply) or type(reply).__name__ in KEPT_ERRORS
