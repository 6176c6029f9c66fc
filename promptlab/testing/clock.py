"""A clock that jumps: what waits for minutes, limits of rates and tries again, is tested in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0 seconds; when nothing is ready its time jumps to the next timer.

    Sockets do not belong in it: an answer on its way takes no virtual time, so that every timeout comes first. The same
    goes for threads with timers beside them. Raises TimeoutError where all wait for what neither a timer nor, in
    `stuck_s` seconds of real time, a thread has brought.
    """

    def __init__(self, stuck_s: float = 10.0) -> None:
        self._virtual_s = 0.0
        super().__init__(_Jumping(self, stuck_s))

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        self._virtual_s += seconds


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]
    def __init__(self, loop: VirtualLoop, stuck_s: float) -> None:
        super().__init__()
        self._loop, self._stuck_s = loop, stuck_s

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(self._stuck_s if timeout is None else 0)
        if not ready and timeout is None:
            raise TimeoutError("all wait for something that no timer will bring: a deadlock, or a socket")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, as `asyncio.run` has it, without waiting: `run_in_virtual_time(arun(program, model))`.

    `asyncio.get_running_loop().time()` tells the seconds since its start.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
