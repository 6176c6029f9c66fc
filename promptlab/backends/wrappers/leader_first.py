"""Requests that begin alike are sent so that what they share is read, and paid for, once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from promptlab.backends.prefixes import LEAST_TOKENS, Prefix, prefixes
from promptlab.backends.wrappers.call_by_call import CallByCall
from promptlab.backends.wrappers.wrapper import Inner, Replies
from promptlab.errors import ModelError, SetupError
from promptlab.types import Backend, Request

# Anthropic's models that keep another least: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
LEAST_OF = {"opus-5": 512, "opus-4-5": 4096, "opus-4-6": 4096, "opus-4-7": 4096, "haiku-4-5": 4096, "haiku-3": 2048}
SEEN_AFTER_S = 2.0  # what was just written may be missed before: github.com/anthropics/anthropic-sdk-python/issues/1451
KEPT_S = 300.0  # after its last use: the shorter of what OpenAI (5 to 10 minutes) and Anthropic (5) say
MOST_PREFIXES = 10_000  # that are remembered


@dataclass(slots=True, eq=False)
class Fate:
    """Of a prefix at the provider: who writes it, since when it is written, who looks whether it is found.

    `free` once there is nothing more to wait for: it was found there, or never will be.
    """

    leader: object | None
    written: float = 0.0
    prober: object | None = None
    free: bool = False
    used: float = 0.0
    change: Future[None] = field(default_factory=Future)

    def changed(self) -> Future[None]:
        """What to resolve once nobody holds the lock."""
        before, self.change = self.change, Future()
        return before


class LeaderFirst(CallByCall):
    """Of requests to a hosted model that begin alike, one goes ahead and writes the provider's cache; others follow.

    What they begin with ends with any of their turns, the last one too, as samples of one prompt share all of it, and
    is long enough to be kept (`least_tokens`, the provider's own where not given). The leader goes alone. When its
    reply has come, followers go one at a time, and all of them once a reply says that the prefix was found, or two
    seconds after the leader's, when it will be. A leader that fails or is cancelled lets the next one lead. No request
    waits longer than `wait_s` in all: the cache is written when a reply begins, so that after a while all that a slow
    leader could still bring is its end. Answers, their order and what is asked are the same without it.

    It belongs inside Retrying, so that a leader that is to be tried later makes way at once, and outside Budgeted and
    RateLimited: a request that waits holds neither money nor a place.
    """

    paces = True

    def __init__(self, backend: Backend, *, least_tokens: int | None = None, wait_s: float = 10.0) -> None:
        super().__init__(backend)
        if wait_s < 0 or (least_tokens is not None and least_tokens < 0):
            raise SetupError(f"What is waited or kept is not negative, got {least_tokens=}, {wait_s=}.")
        name = str(getattr(backend, "name", ""))
        own = next((least for part, least in LEAST_OF.items() if part in name), LEAST_TOKENS)
        self.least_tokens, self.wait_s = own if least_tokens is None else least_tokens, wait_s
        # It says how much it wrote, and writes only what is marked: nothing is to be waited for where that is nothing.
        self.says_writes = getattr(backend, "kind", "") == "anthropic"
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._fates: OrderedDict[bytes, Fate] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_fates")}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        """One call: of one request, or of equal ones that are asked together."""
        begins = [] if self.backend.batched or not requests else prefixes(requests[0], self.least_tokens)
        if not begins:
            return await inner.send(requests)
        me, latest = object(), inner.now() + self.wait_s
        replies: Replies = []
        try:
            while (waited := self._in_the_way(me, begins, inner.now())) is not None:
                fate, until = waited
                if (left := min(until, latest) - inner.now()) <= 0:
                    break
                await inner.within(fate, left)
            replies = await inner.send(requests)
        finally:
            self._tell(me, begins, replies, inner.now())
        return replies

    def _in_the_way(self, me: object, begins: Sequence[Prefix], now: float) -> tuple[Future[None], float] | None:
        """What to wait for, and until when at most; None where there is nothing. Leads wherever nobody does.

        Only who leads a longer prefix ever waits for a shorter one, so nobody waits in a circle.
        """
        with self._lock:
            for prefix in begins:
                fate = self._fates.get(prefix.key)
                if fate is None or (fate.leader is None and now - fate.used > KEPT_S):
                    self._fates[prefix.key] = Fate(me)
                    continue
                if fate.leader is me:
                    continue
                if fate.leader is not None:
                    return fate.change, float("inf")
                if fate.free or fate.prober is me or now >= fate.written + SEEN_AFTER_S:
                    return None  # with it, all that it begins with is there
                if fate.prober is None:
                    fate.prober = me
                    return None
                return fate.change, fate.written + SEEN_AFTER_S
        return None

    def _tell(self, me: object, begins: Sequence[Prefix], replies: Replies, now: float) -> None:
        """Notes what came of a call, for those who wait."""
        usages = [
            answered.usage
            for reply in replies
            if (answered := reply.reply if isinstance(reply, ModelError) else reply) is not None
        ]
        nothing = self.says_writes and not any(usage.cached_tokens or usage.cache_write_tokens for usage in usages)
        changes: list[Future[None]] = []
        with self._lock:
            for prefix in begins:
                if (fate := self._fates.get(prefix.key)) is None:
                    continue
                if me in (fate.leader, fate.prober) or (usages and fate.leader is not None):
                    changes.append(fate.changed())
                if usages:  # whoever is answered first has written it
                    if fate.leader is not None:
                        fate.leader, fate.written, fate.free = None, now, nothing
                    # Found, if half of what it was estimated at was: a shorter prefix is no proof of a longer one.
                    fate.free = fate.free or any(usage.cached_tokens * 2 >= prefix.tokens for usage in usages)
                    fate.used = now
                    self._fates.move_to_end(prefix.key)
                elif fate.leader is me:  # it failed, or was cancelled
                    del self._fates[prefix.key]
                if fate.prober is me:
                    fate.prober = None
            self._forget()
        for change in changes:
            change.set_result(None)

    def _forget(self) -> None:
        """The prefixes that were not used for longest, but for those that are being written."""
        while len(self._fates) > MOST_PREFIXES and next(iter(self._fates.values())).leader is None:
            self._fates.popitem(last=False)
