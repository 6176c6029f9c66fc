"""One program for each of many items, of which only some are drawn at a time: memory stays flat."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar, overload

from promptlab.errors import ModelError, SetupError
from promptlab.program import Program, as_programs, discard
from promptlab.runners import LOOK_S, and_close, check_run, finished, in_private_loop
from promptlab.runners.concurrent import Driver, concurrent
from promptlab.runners.in_step import in_step
from promptlab.runners.senders import InFlight, cancel, ended
from promptlab.runners.step import Node, names, waiting_task
from promptlab.types import Backend

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")
CHUNK = 256  # programs that go in step together on a batched backend; as many sequences as vLLM holds in one batch
AHEAD = 4  # times max_in_flight: results at most that wait for one before them, or to be taken


@overload
def map(
    program: Callable[[I], Program[T]],
    items: Iterable[I],
    model: Backend,
    *,
    max_in_flight: int = 64,
    ordered: Literal[True] = True,
) -> Generator[T | ModelError, None, None]: ...
@overload
def map(
    program: Callable[[I], Program[T]],
    items: Iterable[I],
    model: Backend,
    *,
    max_in_flight: int = 64,
    ordered: Literal[False],
) -> Generator[tuple[int, T | ModelError], None, None]: ...
def map(
    program: Any, items: Any, model: Any, *, max_in_flight: int = 64, ordered: bool = True
) -> Generator[Any, None, None]:
    """The results of `program(item)` for each item, in order, one by one; a ModelError stands for itself.

    Items, of which there may be endlessly many, are drawn only while a result is waited for, by who waits for it. On
    a hosted model up to `max_in_flight` programs are alive, and go on while a result is looked at; up to four times as
    many are drawn and not taken. A batched backend is asked in step, 256 programs at a time.

    With `ordered=False` pairs of an item's place (0, 1, …) and its result come as they are ready. Any exception but a
    ModelError, of a program or of the items, is raised in its place, and ends it. To end it early is to close the
    iterator, as leaving a loop over it does: what is in flight is cancelled, and the programs are closed.
    """
    _check(program, items, model, max_in_flight)
    if model.batched:
        return _in_chunks(program, items, model, ordered)
    return _from_a_thread(_Flow(program, items, model, max_in_flight, ordered), model)


@overload
def amap(
    program: Callable[[I], Program[T]],
    items: Iterable[I],
    model: Backend,
    *,
    max_in_flight: int = 64,
    ordered: Literal[True] = True,
) -> AsyncGenerator[T | ModelError, None]: ...
@overload
def amap(
    program: Callable[[I], Program[T]],
    items: Iterable[I],
    model: Backend,
    *,
    max_in_flight: int = 64,
    ordered: Literal[False],
) -> AsyncGenerator[tuple[int, T | ModelError], None]: ...
def amap(
    program: Any, items: Any, model: Any, *, max_in_flight: int = 64, ordered: bool = True
) -> AsyncGenerator[Any, None]:
    """As `map`, in the caller's event loop; programs may also await anything else that asyncio knows."""
    _check(program, items, model, max_in_flight)
    return _in_this_loop(program, items, model, max_in_flight, ordered)


def _check(program: Any, items: Any, model: Any, max_in_flight: int) -> None:
    if not callable(program):
        discard(program)
        raise SetupError(f"map takes an async function of an item, got {type(program).__name__}. Do not call it.")
    if not isinstance(items, Iterable):
        raise SetupError(f"map takes items to go over, got {type(items).__name__}.")
    check_run(model, max_in_flight)


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a program raised, or the items did, on its way to its place."""

    error: BaseException


async def _result(program: Callable[[Any], Program[Any]], item: Any) -> Any:
    """A program made and driven to its result, a ModelError, or what it raised."""
    if isinstance(item, _Raised):
        return item
    try:
        [made] = as_programs((program(item),))
        return finished([await made])[0]
    except ModelError as error:
        return error
    except (Exception, SystemExit) as error:
        return _Raised(error)


def _outcome(task: asyncio.Task[Any]) -> Any:
    """As `_result` gives it, also where the task was ended from outside."""
    if task.cancelled():
        return _Raised(asyncio.CancelledError())
    error = task.exception()
    return _Raised(error) if error is not None else task.result()


def _drawn(items: Iterable[Any]) -> Iterator[Any]:
    """Items, and what they raise as the last of them."""
    try:
        yield from items
    except Exception as error:
        yield _Raised(error)


def _given(i: int, result: Any, ordered: bool) -> Any:
    """What the consumer gets, or sees raised."""
    if isinstance(result, _Raised):
        raise result.error
    return result if ordered else (i, result)


def _chunks(program: Callable[[Any], Program[Any]], items: Iterable[Any]) -> Iterator[tuple[int, list[Program[Any]]]]:
    rest, first = _drawn(items), 0
    while chunk := list(islice(rest, CHUNK)):
        yield first, [_result(program, item) for item in chunk]
        first += len(chunk)


def _in_chunks(program: Any, items: Any, model: Backend, ordered: bool) -> Generator[Any, None, None]:
    for first, programs in _chunks(program, items):
        for i, result in enumerate(in_step(programs, model, in_private_loop), first):
            yield _given(i, result, ordered)


async def _in_this_loop(
    program: Any, items: Any, model: Backend, max_in_flight: int, ordered: bool
) -> AsyncGenerator[Any, None]:
    if model.batched:
        for first, programs in _chunks(program, items):
            for i, result in enumerate(await concurrent(programs, model, max_in_flight, foreign=True), first):
                yield _given(i, result, ordered)
        return
    flow = _Flow(program, items, model, max_in_flight, ordered, foreign=True)
    try:
        while flow.draw():
            for i, result in await flow.some():
                yield _given(i, result, ordered)
    finally:
        await flow.end()


class _Flow:
    """Programs of a hosted model that are alive, and results that nobody has taken, in line.

    `draw` is for whoever wants results; all else happens in the event loop.
    """

    def __init__(
        self, program: Any, items: Any, model: Backend, max_in_flight: int, ordered: bool, foreign: bool = False
    ) -> None:
        self.program, self.items, self.model, self.ordered = program, _drawn(items), model, ordered
        self.max_in_flight, self.foreign = max_in_flight, foreign
        self.new: list[Any] = []
        self.alive: dict[int, asyncio.Task[Any]] = {}
        self.line: deque[tuple[int, asyncio.Task[Any]]] = deque()
        self.started = self.taken = 0
        self.over = False  # no more items, or no use for them
        [self.name] = names([None])
        self.driver: Driver | None = None

    @property
    def room(self) -> int:
        """How many items more there is room for."""
        untaken = self.started - self.taken
        return 0 if self.over else min(self.max_in_flight - len(self.alive), AHEAD * self.max_in_flight - untaken)

    def draw(self) -> bool:
        """Draws items as far as there is room; whether anything is left to wait for."""
        room = self.room
        self.new = list(islice(self.items, room))
        if len(self.new) < room:
            self.over = True
        return bool(self.new) or self.started > self.taken

    async def some(self) -> list[tuple[int, Any]]:
        """Starts what was drawn; the results that are ready, if only by then there is not room for more."""
        if self.driver is None:
            self.news = asyncio.Event()
            self.driver = Driver(self.model, InFlight(self.model, self.max_in_flight), self.foreign)
        new, self.new = self.new, []
        for item in new:
            self.start(self.driver, item)
        while not self.ready and self.room <= 0:
            self.news.clear()
            await self.news.wait()
        found: list[tuple[int, Any]] = []
        while self.ready and len(found) < self.max_in_flight:
            i, task = self.line.popleft()
            self.taken += 1
            found.append((i, _outcome(task)))
            if isinstance(found[-1][1], _Raised):
                break  # those after it were cancelled
        return found

    @property
    def ready(self) -> bool:
        return bool(self.line) and self.line[0][1].done()

    def start(self, driver: Driver, item: Any) -> None:
        i = self.started
        self.started += 1
        node = Node(_result(self.program, item), root=i, name=f"{self.name}.{i}")
        task = self.alive[i] = asyncio.create_task(driver.live(node))
        if self.ordered:
            self.line.append((i, task))
        task.add_done_callback(partial(self.ended, i, node))

    def ended(self, i: int, node: Node, task: asyncio.Task[Any]) -> None:
        del self.alive[i]
        discard(node.program)  # it never started, if it was cancelled before
        if not self.ordered:
            self.line.append((i, task))
        if isinstance(_outcome(task), _Raised):
            self.over = True  # those after it never count
            cancel([other for j, other in self.alive.items() if j > i or not self.ordered])
        self.news.set()

    async def end(self) -> None:
        """Cancels all that still runs. Threads that are still asking are not waited for."""
        self.over = True
        await ended(list(self.alive.values()))
        if self.driver is not None:
            self.driver.sender.abandon()


def _from_a_thread(flow: _Flow, model: Backend) -> Generator[Any, None, None]:
    """The results of a flow in an event loop on a thread of its own, where replies come in while results are used."""
    loop = asyncio.new_event_loop()
    over: Future[None] = Future()  # when all that was in flight has ended
    enough = asyncio.Event()

    async def alive() -> None:
        try:
            await enough.wait()
        finally:
            await flow.end()

    async def to_the_end() -> None:
        try:
            await and_close(alive(), model)
        finally:
            over.set_result(None)

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(to_the_end())

    def leave() -> None:
        with suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(enough.set)
        if threading.current_thread() is not thread:  # where a forgotten iterator may be collected
            over.result()

    # A daemon, as it would keep an interpreter waiting in which nobody ends the iteration: at its exit it ends here.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    atexit.register(leave)
    try:
        while flow.draw():
            for i, result in _answered(asyncio.run_coroutine_threadsafe(flow.some(), loop), over):
                yield _given(i, result, flow.ordered)
    finally:
        atexit.unregister(leave)
        leave()


def _answered(future: Future[T], over: Future[None]) -> T:
    """What comes of a coroutine in a loop that may end before it does."""
    caller = waiting_task()
    either: list[Future[Any]] = [future, over]
    while not wait(either, LOOK_S if caller else None, FIRST_COMPLETED).done:
        if caller is not None and caller.cancelling():  # all that Ctrl-C does first under asyncio.run
            raise asyncio.CancelledError
    if not future.done():
        future.cancel()
    return future.result()
