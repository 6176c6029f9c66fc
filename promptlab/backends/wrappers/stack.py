"""What a call goes through, in the one order that is right."""

from __future__ import annotations

from pathlib import Path

from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.leader_first import LeaderFirst
from promptlab.backends.wrappers.rate_limited import RateLimited
from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.backends.wrappers.spanned import Spanned
from promptlab.backends.wrappers.traced import Traced
from promptlab.errors import SetupError
from promptlab.types import Backend


def stacked(
    backend: Backend,
    *,
    cache: str | Path | None = None,
    budget: Budget | None = None,
    attempts: int = 6,
    offline: bool = False,
    spans: bool | str = False,
) -> Backend:
    """A backend with all that its calls go through, told here from the inside out.

    Each try is noted; it waits for its turn; it is paid for, one by one; of requests that begin alike the first goes
    ahead; what is unavailable is tried again; all of that is one span; and what has been answered before comes from the
    cache, which neither waits nor pays. Engines in this process are neither paced nor asked twice. Raises SetupError
    for what is no such option, and for one that would do nothing.
    """
    if offline and cache is None:
        raise SetupError("offline answers from a cache: give cache=… too.")
    if cache is not None and (not isinstance(cache, str | Path) or not str(cache)):
        raise SetupError(f"cache is the name of a file, got {cache!r}.")
    if budget is not None and not isinstance(budget, Budget):
        raise SetupError(f"budget is a Budget(calls=…, usd=…), got {budget!r}.")
    if not isinstance(attempts, int) or attempts < 1:
        raise SetupError(f"attempts is a whole number, at least 1, got {attempts!r}.")
    if spans not in (True, False, "content"):
        raise SetupError(f'spans is True, or "content" to have prompts and replies in them, got {spans!r}.')
    record = Record(cache) if cache is not None else None
    if record is not None:
        backend = Traced(backend, record)
    hosted = not backend.batched
    if hosted:
        backend = RateLimited(backend)
    if budget is not None:
        backend = Budgeted(backend, budget)
    if hosted:
        backend = LeaderFirst(backend)
    if hosted and attempts > 1:
        backend = Retrying(backend, attempts=attempts)
    if spans:
        backend = Spanned(backend, content=spans == "content")
    return Cached(backend, record, offline=offline) if record is not None else backend
