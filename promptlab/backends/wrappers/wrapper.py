"""What every backend around a backend is: one flow, for engines in this process and for models behind HTTP alike."""

from __future__ import annotations

import asyncio
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol, TypeVar

from promptlab.errors import ModelError, SetupError
from promptlab.options import check, name_of
from promptlab.runners.step import checked
from promptlab.types import Backend, Reply, Request

T = TypeVar("T")
Replies = list[Reply | ModelError]


class Inner(Protocol):
    """What a wrapper awaits: the backend it is around, and time. Awaiting anything else does not work in both ways."""

    def send(self, requests: Sequence[Request], within: float | None = None) -> Awaitable[Replies]:
        """What the backend answers, one for each request; SetupError for what is no such answer.

        Raises TimeoutError after `within` seconds, where a call can be cut off.
        """
        ...

    def bought(self, requests: Sequence[Request]) -> list[bool]:
        """Which of them are paid for already, so that the backend answers them for nothing: lines of batch jobs."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]: ...
    def result(self, future: Future[T]) -> Awaitable[T]: ...
    def within(self, future: Future[Any], seconds: float) -> Awaitable[None]:
        """Until the future is done or the seconds, of which there may be infinitely many, are over."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class Wrapper(ABC):
    """A backend around another, which it is in all that it does not change.

    A subclass writes `around`, once: it is awaited where the backend has `agenerate`, and else driven to its end in the
    caller's thread, of which there may be several at a time. `paces` says that all it is about is how requests are sent
    live (how fast, how often): batch jobs go around such a one, and into all others.
    """

    paces = False

    def __init__(self, backend: Backend) -> None:
        self.backend: Any = backend

    def __getattr__(self, name: str) -> Any:
        if name == "backend":  # not there yet: while it is being unpickled
            raise AttributeError(name)
        if name == "agenerate" and hasattr(self.backend, name):
            return self._agenerate
        return getattr(self.backend, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:  # noqa: B027  for those that have any
        """Make what is not taken to another process."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.backend!r})"

    @abstractmethod
    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        """The replies to requests, in their order."""

    def as_batch(self, folder: str | os.PathLike[str], *paced: Wrapper) -> Backend:
        """The same, with what it keeps, around batch jobs. Raises SetupError where there are none."""
        from promptlab.backends.wrappers.rewired import Rewired

        if not hasattr(self.backend, "as_batch"):
            raise SetupError(f"{name_of(self.backend)} has no batch jobs; models of OpenAI and Anthropic have.")
        if self.paces:
            return self.backend.as_batch(folder, *paced, self)  # type: ignore[no-any-return]
        return Rewired(self, self.backend.as_batch(folder, *paced))

    def generate(self, requests: Sequence[Request]) -> Replies:
        check(self, requests)  # all of them, before the first is sent
        return at_once(self.around(requests, Blocking(self.backend)))

    async def _agenerate(self, requests: Sequence[Request]) -> Replies:
        check(self, requests)
        return await self.around(requests, Awaiting(self.backend))


class Around:
    """The backend that a wrapper is around."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def bought(self, requests: Sequence[Request]) -> list[bool]:
        told = getattr(self._backend, "bought", None)
        return [False] * len(requests) if told is None else list(told(requests))


class Awaiting(Around):
    """In an event loop."""

    async def send(self, requests: Sequence[Request], within: float | None = None) -> Replies:
        async with asyncio.timeout(within):
            return checked(self._backend, requests, await self._backend.agenerate(requests))

    def sleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)

    def result(self, future: Future[T]) -> Awaitable[T]:
        return asyncio.shield(asyncio.wrap_future(future))  # others wait for it too

    async def within(self, future: Future[Any], seconds: float) -> None:
        await asyncio.wait([asyncio.wrap_future(future)], timeout=None if seconds == math.inf else seconds)

    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Blocking(Around):
    """In a thread that may wait."""

    async def send(self, requests: Sequence[Request], within: float | None = None) -> Replies:
        return checked(self._backend, requests, self._backend.generate(requests))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def result(self, future: Future[T]) -> T:
        return future.result()

    async def within(self, future: Future[Any], seconds: float) -> None:
        wait([future], None if seconds == math.inf else seconds)

    def now(self) -> float:
        return time.monotonic()


def at_once(flow: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to be waited for."""
    try:
        flow.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    flow.close()
    raise RuntimeError("a wrapper awaited something other than its Inner")
