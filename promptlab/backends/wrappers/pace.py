"""How many calls at a time, and how many a second, where no limit is known: learned from what is refused."""

from __future__ import annotations

import math
from collections import deque

START = 4.0  # calls in flight before anything is known
CUT = 0.8
COOLDOWN_S = 15.0
STEP_S = (15.0, 30.0)
NEAR, PAST = 0.95, 1.02  # of the rate that was refused: between them slowly
BURST_S = 0.5
MINUTE_S = 60.0
A_RATE_S = 5.0  # who is told to come back after so long did not come beside too many, but too fast
SEEN = 10  # calls that went through within a minute that a rate can be learned from
PAUSE_S = (1.0, 30.0)  # after a refusal that does not say how long: doubled with every further one


class Pace:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989), as inspect_ai's controller has it.

    Calls in flight double with every clean round in which all places were taken, until the first refusal; then they
    grow by 5 %. A refusal takes a fifth of them, at most once in 15 s, and never the last.

    What differs: calls a second too are limited once a refusal came that calls in flight do not explain, there being
    no more than half of those that went well before, or a long wait being told. What was too much is what went through
    in the minute before it, for a window of a minute can be used up at any speed; but no more than a fifth is taken at
    once. The first rate is what a bucket would have let through, every other .95 of what was too much. It grows by 5 %
    in 5 s, but up to 1.02 of what was last refused by 1 % in 15 s, or in 30 if that was refused before. After a pause
    calls come one by one, so that few are lost where it was too short. Reckoning is in calls, so that it holds for
    tokens on the average only.
    """

    def __init__(self, start: float = START) -> None:
        self.width = start
        self.rate = math.inf  # calls a second
        self.refused_at = math.inf  # the lowest rate known to be too much
        self._slow_start = True
        self._clean = 0  # replies since the width last changed
        self._full = False  # all places were taken in this round
        self._busy = False  # calls waited for the rate in this round
        self._most = 1  # in flight at a time, and all went well
        self._cut_at = self._narrowed_at = self._rate_at = -math.inf
        self._step_s = STEP_S[0]
        self._next_at = -math.inf
        self._in_a_row = 0
        self._sent: deque[float] = deque()  # when calls were sent, for two minutes
        self._refusals: deque[float] = deque()  # when those of them were sent that were refused

    def wait(self, in_flight: int, now: float) -> float:
        if in_flight >= int(self.width):
            self._full = True
            return math.inf
        if self._next_at - BURST_S > now:
            self._busy = True
            return self._next_at - BURST_S - now
        return 0.0

    def sent(self, now: float) -> None:
        self._sent.append(now)
        while self._sent[0] < now - 2 * MINUTE_S:
            self._sent.popleft()
        if self.rate < math.inf:
            self._next_at = max(self._next_at, now) + 1 / self.rate

    def went_well(self, sent_at: float, beside: int, now: float) -> None:
        if sent_at > self._cut_at:
            self._in_a_row = 0
        self._most = max(self._most, beside)
        self._clean += 1
        if self._clean >= self.width:
            if self._full:
                self.width = self.width * 2 if self._slow_start else self.width + max(1.0, 0.05 * self.width)
            self._clean, self._full = 0, False
        if self.rate < math.inf:
            self._grow(now)

    def _grow(self, now: float) -> None:
        near = NEAR * 0.999 <= self.rate / self.refused_at <= PAST
        if now - self._cut_at < COOLDOWN_S or now - self._rate_at < (self._step_s if near else 5.0):
            return
        if self._busy and self.rate < self.refused_at * NEAR:
            self.rate = min(self.rate * 1.05, self.refused_at * NEAR)
        elif self._busy:
            self.rate *= 1.01 if near else 1.05
        self._rate_at, self._busy = now, False

    def overloaded(self, sent_at: float, now: float) -> None:
        """The server could not: fewer at a time."""
        if sent_at > self._cut_at and now - self._narrowed_at >= COOLDOWN_S:
            self.width = max(1.0, self.width * CUT)
            self._slow_start, self._clean, self._cut_at, self._narrowed_at = False, 0, now, now

    def refused(self, sent_at: float, beside: int, told_s: float | None, now: float) -> float:
        """The server would not, and perhaps `told_s` when it will: seconds to pause where it did not."""
        self._refusals.append(sent_at)
        while self._refusals[0] < now - 2 * MINUTE_S:  # what is refused may take long
            self._refusals.popleft()
        if sent_at > self._cut_at:
            self._in_a_row += 1
            crowded = self.rate == math.inf and beside > max(1, self._most // 2) and (told_s or 0.0) < A_RATE_S
            if crowded:  # too many at a time: fewer, and no pause
                self.width, self._slow_start, self._clean = max(1.0, self.width * CUT), False, 0
                self._in_a_row, self._cut_at = 0, now
                return 0.25
            if self._in_a_row == 1 or self.rate == math.inf:  # else it is that of before: nothing went well since
                self._slow_down(sent_at, now)
            self.overloaded(sent_at, now)
            self._cut_at = now
        least, most = PAUSE_S
        pause_s = min(most, least * 2.0 ** min(max(self._in_a_row - 1, 0), 10))
        self._next_at = max(self._next_at, now + (pause_s if told_s is None else told_s) + BURST_S)  # and then no burst
        return pause_s

    def _went(self, sent_at: float) -> tuple[int, float]:
        """How many went through in the minute before that one, and since how many seconds."""
        since = sent_at - MINUTE_S
        minute = [at for at in self._sent if since <= at < sent_at]
        refused = sum(since <= at < sent_at for at in self._refusals)
        return len(minute) - refused, sent_at - minute[0] if minute else 0.0

    def _slow_down(self, sent_at: float, now: float) -> None:
        went, elapsed_s = self._went(sent_at)
        if self.rate < math.inf:
            again = abs(self.rate - self.refused_at) < 0.06 * self.refused_at
            self._step_s = STEP_S[again]
            self.refused_at = max(self.rate * CUT, min(self.rate, went / MINUTE_S))
            self.rate = max(1 / MINUTE_S, self.refused_at * NEAR)
        elif went >= SEEN:
            self.refused_at = went / MINUTE_S
            self.rate = went / (MINUTE_S + elapsed_s)
        else:
            return  # a pause is enough: so few tell of no rate
        self._rate_at = self._next_at = now
