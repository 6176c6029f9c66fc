"""Limits of rates, enforced as providers do, for tests of what obeys them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from promptlab.testing.wire.rejections import Provider

MINUTE_S = 60.0


@dataclass(slots=True)
class Counter:
    """What is left of so much a minute: a bucket that fills steadily, or a window of a minute."""

    limit: float
    windows: bool
    left: float
    at: float

    def refill(self, now: float) -> None:
        if not self.windows:
            self.left = min(self.limit, self.left + (now - self.at) * self.limit / MINUTE_S)
            self.at = now
        elif now >= self.at + MINUTE_S:
            self.left = self.limit
            self.at += (now - self.at) // MINUTE_S * MINUTE_S

    def resets_in(self, now: float) -> float:
        """Seconds until all of it is there."""
        return self.at + MINUTE_S - now if self.windows else (self.limit - self.left) * MINUTE_S / self.limit

    def comes_in(self, need: float, now: float) -> float:
        """Seconds until so much is there."""
        short = max(0.0, need - self.left)
        return 0.0 if not short else self.resets_in(now) if self.windows else short * MINUTE_S / self.limit


class RateLimits:
    """A provider's limits a minute: `rpm` requests, `tpm` tokens (OpenAI), `input_tpm` and `output_tpm` (Anthropic).

    With `windows` they are counted afresh every minute from the first request on, else in buckets that fill steadily
    and are full at first. A request is refused with a 429 if there is not enough for it: one request, its input, and
    for `tpm` its max_tokens too; output is counted when it is there, so that only what is left of it is asked for.
    The providers' headers are told unless `headers` is False, and Retry-After unless `retry_after` is.
    `clock` gives seconds; `arrived` and `refused` count requests, `counted` holds what went through of each kind.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        input_tpm: float | None = None,
        output_tpm: float | None = None,
        windows: bool = False,
        headers: bool = True,
        retry_after: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        given = {"requests": rpm, "tokens": tpm, "input": input_tpm, "output": output_tpm}
        self._limits = {what: limit for what, limit in given.items() if limit is not None}
        self.windows, self.headers, self.retry_after, self.clock = windows, headers, retry_after, clock
        self.arrived = self.refused = 0
        self.counted = dict.fromkeys(given, 0.0)
        self._counters: dict[str, Counter] = {}
        self._lock = threading.Lock()

    def admit(self, input_tokens: float, max_tokens: float = 0.0) -> float | None:
        """None if a request may pass, which is counted; else seconds until it may."""
        with self._lock:
            now = self._refilled()
            need = {"requests": 1.0, "input": input_tokens, "output": 1.0, "tokens": input_tokens + max_tokens}
            self.arrived += 1
            waits = [counter.comes_in(need[what], now) for what, counter in self._counters.items()]
            if any(waits):
                self.refused += 1
                return max(waits)
            self._count({**need, "output": 0.0})
            return None

    def finished(self, output_tokens: float, max_tokens: float = 0.0) -> None:
        """What an admitted request wrote; of its max_tokens the rest is given back."""
        with self._lock:
            self._refilled()
            self._count({"output": output_tokens, "tokens": output_tokens - max_tokens})

    def _refilled(self) -> float:
        now = self.clock()
        if not self._counters:
            self._counters = {what: Counter(n, self.windows, n, now) for what, n in self._limits.items()}
        for counter in self._counters.values():
            counter.refill(now)
        return now

    def _count(self, amounts: dict[str, float]) -> None:
        for what, amount in amounts.items():
            self.counted[what] += amount
            if what in self._counters:
                self._counters[what].left -= amount

    def told(self, provider: Provider, wait_s: float | None = None) -> dict[str, str]:
        """The headers of a response; `wait_s` is what `admit` said."""
        with self._lock:
            now = self._refilled()
            said: dict[str, str] = {}
            if self.headers:
                tell = _openai if provider == "openai" else _anthropic
                for what, counter in self._counters.items():
                    said |= tell(what, counter.limit, max(0, math.floor(counter.left)), counter.resets_in(now))
            if wait_s is not None and self.retry_after:
                said["retry-after"] = str(math.ceil(wait_s))
            return said


def _openai(what: str, limit: float, left: int, reset_s: float) -> dict[str, str]:
    if what not in ("requests", "tokens"):
        return {}
    reset = f"{reset_s * 1000:.0f}ms" if reset_s < 1 else f"{reset_s // 60:.0f}m{reset_s % 60:.3f}s"
    return {
        f"x-ratelimit-limit-{what}": f"{limit:.0f}",
        f"x-ratelimit-remaining-{what}": str(left),
        f"x-ratelimit-reset-{what}": reset,
    }


def _anthropic(what: str, limit: float, left: int, reset_s: float) -> dict[str, str]:
    name = what if what in ("requests", "tokens") else f"{what}-tokens"
    now = datetime.now(UTC)
    reset = (now + timedelta(seconds=reset_s)).replace(microsecond=0)
    return {
        "date": format_datetime(now, usegmt=True),
        f"anthropic-ratelimit-{name}-limit": f"{limit:.0f}",
        f"anthropic-ratelimit-{name}-remaining": str(left),
        f"anthropic-ratelimit-{name}-reset": reset.isoformat().replace("+00:00", "Z"),
    }
