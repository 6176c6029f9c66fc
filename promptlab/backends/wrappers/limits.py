"""What an account may ask of a provider: one object for all programs, event loops and threads of a process."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from promptlab.backends.wrappers.meters import SlidingMinute, Told
from promptlab.backends.wrappers.pace import START, Pace
from promptlab.backends.wrappers.rate_headers import said
from promptlab.backends.wrappers.wrapper import Inner
from promptlab.errors import SetupError, Unavailable
from promptlab.types import Request, Usage

KINDS = ("requests", "input", "output", "tokens")
AT_THE_END = ("output",)  # counted by providers when it is there; until then it is held
LONGEST_PAUSE_S = 90.0  # a window of a minute and some more; who would have to wait longer is told so instead
Amounts = Mapping[str, float]


@dataclass(slots=True, eq=False)
class Ticket:
    """A call, of one request or of several samples, on its way: what it takes of each kind, as far as one can tell."""

    amounts: Amounts
    clock: Callable[[], float]
    woken: Future[None] = field(default_factory=Future)
    sent_at: float = math.inf
    beside: int = 0  # calls in flight then, itself included
    sent_before: dict[str, float] = field(default_factory=dict)  # by all, up to and with it
    entries: dict[str, list[float]] = field(default_factory=dict)
    explained: bool = False  # by headers: there was not enough left


SENDING: ContextVar[Ticket | None] = ContextVar("SENDING", default=None)  # whose response is heard


class Limits:
    """Requests, input tokens, output tokens and both together a minute, and calls in flight: given, heard and learned.

    Calls go in the order they came. What is given is kept to in any 60 s; what response headers say (`heard`) is kept
    to as it is told; where a call is refused and neither explains it, fewer go (Pace). Retry-After holds for all.
    Tokens are estimated, and put right when a reply says how many there were: input by characters and how many made a
    token so far, output by the mean so far, at most max_tokens. It never comes to less than one call in flight; where
    nothing is known yet there are `start`.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        input_tpm: float | None = None,
        output_tpm: float | None = None,
        tpm: float | None = None,
        max_in_flight: int | None = None,
        start: float = START,
    ) -> None:
        self.account = ""  # whose they are, where all who use it share them
        self._lock = threading.Lock()
        self._given: dict[str, SlidingMinute] = {}
        self._told = {what: Told(counts_requests=what == "requests") for what in KINDS}
        self._sent = dict.fromkeys(KINDS, 0.0)
        self._held = dict.fromkeys(AT_THE_END, 0.0)
        self._queue: deque[Ticket] = deque()
        self._start = start
        self._pace = Pace(start)
        self._paused_until = -math.inf
        self._chars, self._chars_tokens = 4.0, 1.0
        self._written, self._replies = 0.0, 0.0
        self.in_flight = 0
        self.max_in_flight = math.inf
        self.restrict(rpm=rpm, input_tpm=input_tpm, output_tpm=output_tpm, tpm=tpm, max_in_flight=max_in_flight)

    def restrict(self, **given: float | None) -> None:
        """Keep to these too; of two limits of a kind to the lower. Raises SetupError for one that is not above 0."""
        names = {"rpm": "requests", "input_tpm": "input", "output_tpm": "output", "tpm": "tokens"}
        for name, limit in given.items():
            if limit is None:
                continue
            if not limit > 0:
                raise SetupError(f"{name} is a number above 0, got {limit!r}.")
            with self._lock:
                if name == "max_in_flight":
                    self.max_in_flight = min(self.max_in_flight, max(1, int(limit)))
                elif (known := self._given.get(names[name])) is None:
                    self._given[names[name]] = SlidingMinute(limit)
                else:
                    known.limit = min(known.limit, limit)

    def __reduce__(self) -> Any:
        """In another process they begin anew, with what was given; those of an account are still shared by all."""
        names = {"requests": "rpm", "input": "input_tpm", "output": "output_tpm", "tokens": "tpm"}
        given = {names[what]: minute.limit for what, minute in self._given.items()}
        if self.max_in_flight < math.inf:
            given["max_in_flight"] = self.max_in_flight
        return _made, (self.account, self._start, given)

    def estimated(self, requests: Sequence[Request]) -> Amounts:
        """What one call for all of them, equal but for their branch, will take."""
        first, n = requests[0], len(requests)
        with self._lock:
            input = characters(first) * self._chars_tokens / self._chars
            mean = self._written / self._replies if self._replies else 256.0
        most = first.max_tokens
        output = n * (mean if most is None else min(most, mean))
        return {"requests": 1.0, "input": input, "output": output, "tokens": input + n * (most or mean)}

    async def admitted(self, amounts: Amounts, inner: Inner) -> Ticket:
        """A place among the calls in flight, in the order asked. Raises Unavailable if there is a long pause."""
        ticket = Ticket(amounts, inner.now)
        with self._lock:
            self._queue.append(ticket)
        try:
            while wait_s := self._turn(ticket):
                await inner.within(ticket.woken, wait_s)
        except BaseException:
            with self._lock:
                self._queue.remove(ticket)
                self._wake()
            raise
        return ticket

    def _turn(self, ticket: Ticket) -> float:
        """0 if the ticket is on its way now, else the seconds after which, or if woken before, to ask again."""
        now = ticket.clock()
        with self._lock:
            if (pause_s := self._paused_until - now) > LONGEST_PAUSE_S:
                told = f"the provider asked for a pause; {pause_s:.0f} s are left"
                raise Unavailable(told, retry_after_s=pause_s, status=429)  # it is what it would say again
            wait_s = math.inf if self._queue[0] is not ticket else max(pause_s, self._wait(ticket, now))
            if wait_s > 0:
                if ticket.woken.done():
                    ticket.woken = Future()
                return max(wait_s, 0.001)  # less, and a clock may not have moved
            self._queue.popleft()
            self._send(ticket, now)
            self._wake()
            return 0.0

    def _wait(self, ticket: Ticket, now: float) -> float:
        if self.in_flight >= self.max_in_flight:
            return math.inf
        waits = [self._pace.wait(self.in_flight, now)]
        for what, need in ticket.amounts.items():
            held = self._held.get(what, 0.0)
            waits.append(self._told[what].wait(need, held, self.in_flight == 0, now))
            if what in self._given:
                waits.append(self._given[what].wait(need, held, now))
        return max(waits)

    def _send(self, ticket: Ticket, now: float) -> None:
        self.in_flight += 1
        ticket.sent_at, ticket.beside = now, self.in_flight
        self._pace.sent(now)
        for what, amount in ticket.amounts.items():
            self._sent[what] += amount
            if what in AT_THE_END:
                self._held[what] += amount
            else:
                self._charge(ticket, what, amount, now)
        ticket.sent_before = dict(self._sent)

    def _charge(self, ticket: Ticket, what: str, amount: float, now: float) -> None:
        self._told[what].charge(amount, now)
        if what in self._given:
            ticket.entries[what] = self._given[what].charge(amount, now)

    def _wake(self) -> None:
        """Whoever is next looks whether it is its turn."""
        if self._queue and not self._queue[0].woken.done():
            self._queue[0].woken.set_result(None)

    def heard(self, headers: Mapping[str, str]) -> None:
        """The headers of a response, their names in lower case."""
        ticket = SENDING.get()
        now = ticket.clock() if ticket else time.monotonic()
        with self._lock:
            for each in said(headers):
                told, what = self._told[each.what], each.what
                if ticket and what not in AT_THE_END:
                    told.hear(each, ticket.sent_at, self._sent[what] - ticket.sent_before[what], now)
                else:  # of what is in flight nothing is counted, unless it is held anyway
                    told.hear(each, now, 0.0, now)
                if ticket:
                    ticket.explained |= each.remaining < ticket.amounts[what] * 1.2 + 1
            self._wake()

    def done(self, ticket: Ticket, used: Amounts, error: Unavailable | None, answered: bool) -> None:
        """A call is at its end: what it really took (empty where nobody said), and whether there was an answer."""
        now = ticket.clock()
        with self._lock:
            self.in_flight -= 1
            try:
                self._settle(ticket, used, error, answered, now)
            finally:
                self._wake()

    def _settle(self, ticket: Ticket, used: Amounts, error: Unavailable | None, answered: bool, now: float) -> None:
        refused = error is not None and says_too_many(error)
        for what, guess in ticket.amounts.items():
            amount = 0.0 if refused and what != "requests" else used.get(what, guess)
            if what in AT_THE_END:
                self._held[what] = max(0.0, self._held[what] - guess) if self.in_flight else 0.0
                self._charge(ticket, what, amount, now)
            else:
                self._told[what].amend(amount - guess, ticket.sent_at)
                if what in ticket.entries:
                    self._given[what].amend(ticket.entries[what], amount)
        if error is not None:
            self._failed(ticket, error, refused, now)
        elif answered:
            self._pace.went_well(ticket.sent_at, ticket.beside, now)

    def _failed(self, ticket: Ticket, error: Unavailable, refused: bool, now: float) -> None:
        pause_s = error.retry_after_s
        if not refused:
            self._pace.overloaded(ticket.sent_at, now)
        elif not ticket.explained:
            learned_s = self._pace.refused(ticket.sent_at, ticket.beside, pause_s, now)
            pause_s = learned_s if pause_s is None else pause_s
        if pause_s:
            self._paused_until = max(self._paused_until, now + pause_s)
            if pause_s > LONGEST_PAUSE_S:
                for waiting in self._queue:
                    if not waiting.woken.done():
                        waiting.woken.set_result(None)

    def learn(self, request: Request, input_tokens: float, output_tokens: float, replies: int) -> None:
        """How long requests and replies are, the recent ones above all."""
        with self._lock:
            if input_tokens > 0:
                self._chars = 0.98 * self._chars + characters(request)
                self._chars_tokens = 0.98 * self._chars_tokens + input_tokens
            self._written = 0.98 * self._written + output_tokens
            self._replies = 0.98 * self._replies + replies

    def state(self) -> dict[str, Any]:
        """What is known now, for people to look at: limits a minute, calls in flight and allowed, and who waits."""
        with self._lock:
            limits = {what: told.limit for what, told in self._told.items() if told.known}
            for what, minute in self._given.items():
                limits[what] = min(minute.limit, limits.get(what, math.inf))
            allowed = min(self._pace.width, self.max_in_flight)
            return {
                "a_minute": limits,
                "learned_rpm": None if self._pace.rate == math.inf else self._pace.rate * 60,
                "in_flight": self.in_flight,
                "allowed": int(allowed),
                "waiting": len(self._queue),
            }


def _made(account: str, start: float, given: dict[str, Any]) -> Limits:
    limits = shared(account, start) if account else Limits(start=start)
    limits.restrict(**given)
    return limits


@cache
def shared(account: str, start: float = START) -> Limits:
    """The limits of an account, which all who use it in this process share."""
    limits = Limits(start=start)
    limits.account = account
    return limits


def says_too_many(error: Unavailable) -> bool:
    """Whether it is a rate that was too high, rather than a server that is down: by what it says."""
    said = str(error).lower()
    return error.retry_after_s is not None or "429" in said or "rate limit" in said or "rate_limit" in said


def characters(request: Request) -> int:
    """How long a request is, with its tools and schema: never 0."""
    n = sum(len(message.content) for message in request.messages)
    n += sum(len(json.dumps(dict(c.arguments), default=str)) for m in request.messages if m.calls for c in m.calls)
    n += sum(len(text) for text in request.continuations)
    n += sum(len(tool.description) + len(json.dumps(tool.parameters, default=str)) for tool in request.tools)
    return max(1, n + (len(json.dumps(request.schema, default=str)) if request.schema is not None else 0))


def taken(usage: Usage, free_cache: bool) -> Amounts:
    """What a reply took of each kind; empty if it does not say. With `free_cache` what was read from one is free."""
    if not usage.input_tokens and not usage.output_tokens:
        return {}
    input = float(usage.input_tokens - (usage.cached_tokens if free_cache else 0))
    return {"input": input, "output": float(usage.output_tokens), "tokens": input + usage.output_tokens}
