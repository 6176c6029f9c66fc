"""What a provider's response headers say of its limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from promptlab.backends.failures import zoned

OPENAI = {"requests": "requests", "tokens": "tokens"}
ANTHROPIC = {"requests": "requests", "input-tokens": "input", "output-tokens": "output"}
UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Said(NamedTuple):
    """Of one thing that is limited: how much a minute, how much is left, and seconds until all of it is there."""

    what: str  # "requests", "input", "output", or "tokens": both
    limit: float
    remaining: float
    reset_s: float


def said(headers: Mapping[str, str]) -> Iterator[Said]:
    """What headers say, their names in lower case: OpenAI's x-ratelimit-*, Anthropic's anthropic-ratelimit-*.

    Anthropic's tokens-* repeat the tightest of the others, and are left out. What cannot be read is no limit.
    """
    for name, what in OPENAI.items():
        with suppress(KeyError, ValueError):
            limit, remaining = (float(headers[f"x-ratelimit-{kind}-{name}"]) for kind in ("limit", "remaining"))
            if limit > 0:
                yield Said(what, limit, remaining, seconds(headers[f"x-ratelimit-reset-{name}"]))
    for name, what in ANTHROPIC.items():
        with suppress(KeyError, ValueError):
            limit, remaining = (float(headers[f"anthropic-ratelimit-{name}-{kind}"]) for kind in ("limit", "remaining"))
            if limit > 0:
                yield Said(what, limit, remaining, until(headers[f"anthropic-ratelimit-{name}-reset"], headers))


def seconds(told: str) -> float:
    """Of a duration as OpenAI tells it ("120ms", "1s", "6m0s"), or of a bare number. Raises ValueError."""
    if parts := re.fullmatch(r"(?:[\d.]+(?:d|h|ms|us|µs|ns|m|s))+", told.strip()):
        return sum(float(n) * UNITS_S[unit] for n, unit in re.findall(r"([\d.]+)(d|h|ms|us|µs|ns|m|s)", parts.string))
    return float(told)


def until(told: str, headers: Mapping[str, str]) -> float:
    """Seconds until a time in RFC 3339, by the server's own clock where it tells it: ours may be wrong.

    Both tell whole seconds only, so that one more is the least that is surely enough.
    """
    time = zoned(datetime.fromisoformat(told.strip()))
    there = zoned(parsedate_to_datetime(headers["date"])) if "date" in headers else datetime.now(UTC)
    return max(0.0, (time - there).total_seconds() + 1.0)
