"""How many requests or tokens may be sent now: by a limit that was given, or by what the server says."""

from __future__ import annotations

import math
from collections import deque

from promptlab.backends.wrappers.rate_headers import Said

MINUTE_S = 60.0
GUARD_S = 0.25  # what was sent a minute apart may arrive a little less than that apart
ABOUT_S = 2.5  # some servers tell whole seconds only
UNHEARD_S = 60.0  # after so long without any news, one goes, and brings some
NEXT_TO_NOTHING = 1e-9


class SlidingMinute:
    """At most `limit` in any 60 s: neither a provider's fixed windows nor its bucket refuse that."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._log: deque[list[float]] = deque()  # [when, how much]
        self._used = 0.0

    def wait(self, need: float, held: float, now: float) -> float:
        """Seconds until there is room; infinite if only what is in flight can make some."""
        while self._log and self._log[0][0] <= now - MINUTE_S - GUARD_S:
            self._used -= self._log[0][1]
            self._log.popleft()[0] = -math.inf
        if not self._log:
            self._used = 0.0  # and no rounding errors
        over = self._used + held + min(need, self.limit) - self.limit
        if over <= NEXT_TO_NOTHING:
            return 0.0
        for when, amount in self._log:
            over -= amount
            if over <= NEXT_TO_NOTHING:
                return when + MINUTE_S + GUARD_S - now
        return math.inf

    def charge(self, amount: float, now: float) -> list[float]:
        self._log.append([now, amount])
        self._used += amount
        return self._log[-1]

    def amend(self, entry: list[float], amount: float) -> None:
        """It was another amount."""
        if entry[0] > -math.inf:
            self._used += amount - entry[1]
            entry[1] = amount


class Told:
    """What is left at the server, by its headers and what was sent since.

    A server refills steadily (a bucket), or all at once when a window ends; which one shows in how "reset" goes with
    "remaining": a bucket is full again after (1 - remaining / limit) minutes, a window's end stays where it is.
    What a header says holds for the moment when its request was sent, with all that was sent before.
    """

    def __init__(self, counts_requests: bool) -> None:
        self.counts_requests = counts_requests
        self.limit = math.inf
        self.windows = False
        self.level = math.inf
        self.period_s = MINUTE_S
        self._at = self._as_of = self._heard_at = -math.inf
        self._ends = self._ends_after = -math.inf  # a window, between the two

    @property
    def known(self) -> bool:
        return self.limit < math.inf

    @property
    def spare(self) -> float:
        """What is left untouched, for estimates are estimates. In a bucket it costs nothing: it is filled once."""
        return (
            self.limit * (0.0 if self.counts_requests else 0.01)
            if self.windows
            else self.limit * (0.02 if self.counts_requests else 0.04)
        )

    def hear(self, said: Said, as_of: float, uncounted: float, now: float) -> None:
        """`uncounted` is what was sent after `as_of`, when the request was sent that brought the news."""
        self._refill(now)
        if as_of < self._as_of:
            return
        self._tell_apart(said, as_of, now)
        self._as_of, self._heard_at = as_of, now
        self.level = min(said.remaining, said.limit) - uncounted
        if not self.windows:
            self.level = min(self.level + (now - as_of) * self.limit / self.period_s, self.limit)

    def _tell_apart(self, said: Said, as_of: float, now: float) -> None:
        """A window ends between `as_of` + reset and `now` + reset, whichever says so; a bucket's moves on."""
        first, self.limit = not self.known, said.limit
        fills_in = (1 - said.remaining / said.limit) * MINUTE_S
        if said.reset_s > MINUTE_S * 1.1:  # not a minute's limit: a day's, which fills up as steadily
            self.windows = False
            self.period_s = said.reset_s * said.limit / max(said.limit - said.remaining, 1.0)
            return
        self.period_s = MINUTE_S
        low, high = as_of + said.reset_s, now + said.reset_s + GUARD_S
        same = low - ABOUT_S <= self._ends and high + ABOUT_S >= self._ends_after
        if abs(said.reset_s - fills_in) > ABOUT_S + MINUTE_S / said.limit:
            self.windows = True
        elif first or not same:
            self.windows = False
        self._ends = min(self._ends, high) if same else high
        self._ends_after = max(self._ends_after, low) if same else low

    def _refill(self, now: float) -> None:
        if not self.known:
            return
        if not self.windows:
            self.level = min(self.limit, self.level + max(0.0, now - self._at) * self.limit / self.period_s)
        elif now >= self._ends:
            self.level, self._as_of = self.limit, self._ends
            self._ends_after = -math.inf
            self._ends += MINUTE_S * (1 + (now - self._ends) // MINUTE_S)
        self._at = now

    def wait(self, need: float, held: float, idle: bool, now: float) -> float:
        """Seconds until there is room for `need` beside what is `held` for others. `idle` if nothing is in flight."""
        if not self.known:
            return 0.0
        self._refill(now)
        short = min(need, self.limit - self.spare) + self.spare + held - self.level
        if short <= NEXT_TO_NOTHING:
            return 0.0
        unheard = max(0.0, self._heard_at + UNHEARD_S - now) if idle else math.inf
        return min(unheard, self._ends - now if self.windows else short * self.period_s / self.limit)

    def charge(self, amount: float, now: float) -> None:
        self._refill(now)
        self.level -= amount

    def amend(self, by: float, sent_at: float) -> None:
        """What was sent then was so much more than thought, unless the server has said so already."""
        if sent_at > self._as_of:
            self.level -= by
