"""What may succeed later is asked again later."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import ModelError, SetupError, Unavailable
from promptlab.types import Backend, Reply, Request

if TYPE_CHECKING:
    from tenacity import RetryCallState

FIRST_WAIT_S = 0.5


class Retrying(Wrapper):
    """Asks again what was Unavailable, and nothing else: up to `attempts` times in all, for `patience_s` at most.

    It waits as long as the server said; if that is more than `max_wait_s`, the error is final at once, and says when to
    come back. A server that said nothing is asked again after .5 s, 1 s, 2 s … at most, where full jitter (a share of
    that, by chance) keeps programs from coming back all together; chance is the request's own, so that a run can be
    repeated. Of a batch only what failed is sent again, together. The last error says how often it was tried.
    """

    paces = True

    def __init__(
        self, backend: Backend, *, attempts: int = 6, max_wait_s: float = 60.0, patience_s: float = 600.0
    ) -> None:
        super().__init__(backend)
        if attempts < 1 or max_wait_s < 0 or patience_s < 0:
            raise SetupError(
                f"attempts are 1 or more, waits not negative; got {attempts=}, {max_wait_s=}, {patience_s=}."
            )
        self.attempts, self.max_wait_s, self.patience_s = attempts, max_wait_s, patience_s

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        start = inner.now()
        replies = list(await inner.send(requests))
        if any(isinstance(reply, Unavailable) for reply in replies):
            await self._again(requests, replies, start, inner)
        return replies

    async def _again(self, requests: Sequence[Request], replies: Replies, start: float, inner: Inner) -> None:
        """Puts better replies in the place of errors, as far as there are any."""
        from tenacity import AsyncRetrying  # here, so that it costs nothing where nothing fails

        tries = [0] * len(replies)
        failed: Sequence[int] = range(len(replies))

        async def attempt() -> None:
            nonlocal failed
            if tries[failed[0]]:  # the first has been
                for i, reply in zip(failed, await inner.send([requests[i] for i in failed]), strict=True):
                    replies[i] = reply
            for i in failed:
                tries[i] += 1
            failed = [i for i in failed if self._worth_it(replies[i])]

        def wait_s(state: RetryCallState) -> float:
            return max(self._wait_s(requests[i], replies[i], tries[i]) for i in failed)

        def in_vain(state: RetryCallState) -> bool:
            return tries[failed[0]] >= self.attempts or inner.now() - start + state.upcoming_sleep > self.patience_s

        await AsyncRetrying(
            retry=lambda state: bool(failed) and not (state.outcome and state.outcome.failed),  # cancelled is cancelled
            wait=wait_s,
            stop=in_vain,
            sleep=inner.sleep,
            retry_error_callback=lambda state: None,
        )(attempt)
        spent_s = inner.now() - start
        replies[:] = [
            self._told(reply, n, spent_s) if isinstance(reply, Unavailable) else reply
            for reply, n in zip(replies, tries, strict=True)
        ]

    def _worth_it(self, reply: Reply | ModelError) -> bool:
        return isinstance(reply, Unavailable) and (reply.retry_after_s or 0.0) <= self.max_wait_s

    def _wait_s(self, request: Request, error: Any, tried: int) -> float:
        if error.retry_after_s is not None:
            return float(error.retry_after_s)
        most: float = min(self.max_wait_s, FIRST_WAIT_S * 2 ** min(tried - 1, 20))
        return most * chance(request, tried)

    def _told(self, error: Unavailable, tries: int, spent_s: float) -> Unavailable:
        told = copy.copy(error)
        times = "once" if tries == 1 else f"{tries} times in {spent_s:.0f} s"
        when = ""
        if (error.retry_after_s or 0.0) > self.max_wait_s:
            at = datetime.now().astimezone() + timedelta(seconds=error.retry_after_s or 0.0)
            when = f"; the server says to come back in {error.retry_after_s:.0f} s, at {at:%Y-%m-%d %H:%M:%S %Z}"
        told.args = (f"{error} (asked {times}{when})",)
        return told


def chance(request: Request, tried: int) -> float:
    """A number between 0 and 1 that depends on the request, its branch, and how often it was tried."""
    digest = hashlib.sha256(repr((request, tried)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
