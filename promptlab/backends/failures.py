"""What a provider answers in place of a reply, as an error of its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from promptlab.errors import ContextOverflow, ModelError, Refused, Unavailable

OVERFLOWS = ("context_length_exceeded", "prompt is too long", "maximum context length", "context window")
YEAR_S = 365 * 86_400.0
BUSY = ("overloaded_error", "api_error")


def failure(status: int | None, headers: Mapping[str, str], text: str) -> ModelError:
    """The kind of failure that a status (None: in the middle of a reply) and a body tell of."""
    failed = _failure(told_code(text) if status is None else status, headers, text)
    failed.maybe_served |= status is None
    return failed


def told_code(text: str) -> int | None:
    """The status that an error in the middle of a reply holds, as vLLM and OpenRouter tell it."""
    code = told_error(text).get("code")
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _failure(status: int | None, headers: Mapping[str, str], text: str) -> ModelError:
    error = told_error(text)
    told, body, kind = said(status, text), text.lower(), str(error.get("type") or "")
    if any(sign in body for sign in OVERFLOWS) or status == 413:
        return ContextOverflow(told)
    if "content_filter" in body or "content_policy" in body:
        return Refused(told)
    busy = status in (408, 409, 429) or (status or 0) >= 500 or kind in BUSY
    busy = busy or (status is None and not kind.startswith("invalid"))
    if busy and "insufficient_quota" not in body:
        return Unavailable(told, retry_after_s=retry_after(headers), status=status)
    return ModelError(told)


def said(status: int | None, text: str) -> str:
    """A status and what its body says, in a line."""
    error = told_error(text)
    message = error.get("message") or text
    kind = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    where = f"HTTP {status}" if status else "in the middle of a reply"
    return f"{where}{f' ({kind})' if kind else ''}: {' '.join(str(message).split())[:500]}"


def told_error(text: str) -> dict[str, Any]:
    """The error that a body holds: under "error", as its only member, or (vLLM, once) the body itself."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {"message": inner}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What a response's headers say of when to ask again, in seconds from when it was sent; never negative.

    More than a year is a year: it is some other unit, and there may be no such date. A date is compared with the
    server's own clock, its Date header, where there is one: ours may be wrong.
    """
    told, milliseconds = headers.get("retry-after", ""), headers.get("retry-after-ms", "")
    for number, unit in ((milliseconds, 0.001), (told, 1.0)):
        with suppress(ValueError):
            return min(max(0.0, float(number) * unit), YEAR_S)
    with suppress(ValueError):
        there = zoned(parsedate_to_datetime(headers["date"])) if "date" in headers else datetime.now(UTC)
        return min(max(0.0, (zoned(parsedate_to_datetime(told)) - there).total_seconds()), YEAR_S)
    return None


def zoned(time: datetime) -> datetime:
    """A time as it was told; of no zone, in UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
