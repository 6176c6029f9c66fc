"""How a tool's function is run: as it is, or within its time."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from inspect import isawaitable, iscoroutinefunction
from itertools import islice
from typing import Any

from promptlab.tool import MOST_ITEMS, Bound

Wait = Callable[[Coroutine[Any, Any, Any]], Any]


def act(job: Bound, wait: Wait) -> Any:
    """A tool's result, without an event loop where it takes none. `wait` runs a coroutine to its end."""
    if job.timeout_s is not None:
        return wait(act_async(job))
    result = job.function(**job.arguments)
    return wait(_had(result)) if isawaitable(result) or isinstance(result, AsyncIterator) else result


async def act_async(job: Bound) -> Any:
    """A tool's result. Plain functions run on a thread, so that a slow tool holds up nobody else's replies.

    Raises TimeoutError after `timeout_s`. What is async is cancelled then. A thread cannot be killed: a plain function
    goes on behind the scenes, on a thread that keeps neither the run nor the process from ending.
    """
    try:
        async with asyncio.timeout(job.timeout_s) as clock:
            return await _had(await _awaited(_begun(job)))
    except TimeoutError:
        if not clock.expired():  # the tool's own
            raise
        still = "it was stopped" if iscoroutinefunction(job.function) else "it may still be running"
        raise TimeoutError(f"no result within {job.timeout_s:g} s; {still}") from None


def _begun(job: Bound) -> Awaitable[Any]:
    if iscoroutinefunction(job.function):
        return job.function(**job.arguments)  # type: ignore[no-any-return]
    if job.timeout_s is None:
        return asyncio.to_thread(_result, job.function, job.arguments)
    return asyncio.wrap_future(_on_own_thread(job))


def _on_own_thread(job: Bound) -> Future[Any]:
    """The executor's threads are waited for when a loop and the process end; this one is not."""
    outcome: Future[Any] = Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            outcome.set_result(_result(job.function, job.arguments))
        except BaseException as error:  # raised again where the result is awaited
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return outcome


def _result(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """A plain function's result, the items of an iterator too: those that come slowly hold up this thread only."""
    try:
        result = function(**arguments)
        return list(islice(result, MOST_ITEMS)) if isinstance(result, Iterator) else result
    except StopIteration as stop:  # which a future cannot hold: whoever awaits it would wait for ever
        raise RuntimeError("StopIteration") from stop


async def _had(result: Any) -> Any:
    """What a function's result comes to: awaited, and the items of one that gives them over time."""
    if isawaitable(result):
        result = await _awaited(result)
    return await _awaited(_items(result)) if isinstance(result, AsyncIterator) else result


async def _items(giving: AsyncIterator[Any]) -> list[Any]:
    """As many as are taken of any iterator."""
    found: list[Any] = []
    try:
        async for item in giving:
            found.append(item)
            if len(found) == MOST_ITEMS:
                break
    finally:
        if isinstance(giving, AsyncGenerator):
            await giving.aclose()
    return found


async def _awaited(result: Awaitable[Any]) -> Any:
    """A result. What was cancelled in a tool, and not by who waits for it, is a failure of the tool's."""
    try:
        return await result
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("what it waited for was cancelled") from cancelled
