"""How the requests of concurrent programs reach a backend: each by itself, or in waves."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from promptlab.errors import ModelError
from promptlab.runners.step import checked
from promptlab.types import Backend, Reply, Request

Replies = list[Reply | ModelError]


class Sender(Protocol):
    """`moved` says that a program came to work (+1) or now waits (-1), so that a sender can know when all wait."""

    async def send(self, root: int, requests: list[Request]) -> Replies: ...
    def moved(self, by: int) -> None: ...
    async def finish(self) -> None: ...
    def abandon(self) -> None: ...


class InFlight:
    """Each call by itself, so many of them in flight; on threads where the backend has no `agenerate`."""

    def __init__(self, model: Backend, max_in_flight: int) -> None:
        self.model = model
        self.agenerate: Any = getattr(model, "agenerate", None)
        self.together = getattr(model, "native_n", False)  # samples of one prompt are one call there
        self.slots = asyncio.Semaphore(max_in_flight)
        # As many threads as slots: a cancelled request frees its slot at once, but its thread only when it is answered.
        self.threads = None if self.agenerate else ThreadPoolExecutor(max_in_flight)

    async def send(self, root: int, requests: list[Request]) -> Replies:
        if len(requests) == 1 or (self.together and alike(requests)):
            return await self._call(requests)
        calls = [[request] for request in requests]
        tasks = [asyncio.create_task(self._call(call)) for call in calls]
        try:
            return [reply for task in tasks for reply in await task]
        finally:
            await ended(tasks)

    async def _call(self, requests: list[Request]) -> Replies:
        async with self.slots:
            if self.threads is None:
                replies = await self.agenerate(requests)
            else:
                loop = asyncio.get_running_loop()
                context = contextvars.copy_context()
                replies = await loop.run_in_executor(self.threads, context.run, generated, self.model, requests)
        return checked(self.model, requests, replies)

    def moved(self, by: int) -> None:
        """Nobody waits for anybody here."""

    async def finish(self) -> None:
        if self.threads is not None:
            await asyncio.to_thread(self.threads.shutdown)

    def abandon(self) -> None:
        if self.threads is not None:
            self.threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Ticket:
    root: int
    requests: list[Request]
    replies: asyncio.Future[Replies]

    def place(self) -> tuple[int, tuple[int, ...]]:
        """Where it stands in the tree of programs, so that a batch does not depend on who came first."""
        return self.root, self.requests[0].branch


class Waves:
    """One batch once every live program waits: awaited where the backend can be, as batch jobs can, which take hours;
    else generated off the loop's thread, one at a time.

    A program that waits for something else may wait, by a lock, for one whose request is in the batch: so those who
    do are waited for only as long as anything moves, and PATIENCE_S after that.
    """

    # Turns of the loop without a move until all are taken to wait: a parent wakes up to two turns after its child ends.
    TURNS = 4
    PATIENCE_S = 1.0

    def __init__(self, model: Backend) -> None:
        self.model = model
        self.thread = ThreadPoolExecutor(1)
        self.loop = asyncio.get_running_loop()
        self.tickets: list[_Ticket] = []
        self.at_work = 0
        self.moves = 0
        self.batches: set[asyncio.Task[None]] = set()
        self.look: asyncio.TimerHandle | None = None
        self.context = contextvars.copy_context()  # the caller's: a wave is nobody else's

    async def send(self, root: int, requests: list[Request]) -> Replies:
        ticket = _Ticket(root, requests, self.loop.create_future())
        self.tickets.append(ticket)
        self.moved(-1)
        try:
            return await ticket.replies
        finally:
            self.moved(+1)

    def moved(self, by: int) -> None:
        self.at_work += by
        self.moves += 1
        if self.at_work == 0 and self.tickets:
            self.loop.call_soon(self._settle, self.moves, self.TURNS)
        elif self.tickets and self.look is None:
            self.look = self.loop.call_later(self.PATIENCE_S, self._look, self.moves)

    def _look(self, moves: int) -> None:
        """Goes without those who still do something else, if nobody has moved since."""
        self.look = None
        if self.tickets and moves == self.moves:
            self._settle(moves, 0)
        elif self.tickets:
            self.look = self.loop.call_later(self.PATIENCE_S, self._look, self.moves)

    def _settle(self, moves: int, turns: int) -> None:
        if moves != self.moves:
            return
        if turns:
            self.loop.call_soon(self._settle, moves, turns - 1)
            return
        tickets = sorted((t for t in self.tickets if not t.replies.done()), key=_Ticket.place)
        self.tickets = []
        if tickets:
            batch = asyncio.create_task(self._generate(tickets), context=self.context.copy())
            self.batches.add(batch)
            batch.add_done_callback(self.batches.discard)

    async def _generate(self, tickets: Sequence[_Ticket]) -> None:
        requests = [request for ticket in tickets for request in ticket.requests]
        try:
            if (agenerate := getattr(self.model, "agenerate", None)) is not None:
                answered = await agenerate(requests)
            else:
                context = contextvars.copy_context()
                answered = await self.loop.run_in_executor(self.thread, context.run, generated, self.model, requests)
            replies = iter(checked(self.model, requests, answered))
        except Exception as error:  # whatever the backend raised is raised in the programs that wait for it
            for ticket in tickets:
                if not ticket.replies.done():
                    ticket.replies.set_exception(error)
            return
        for ticket in tickets:
            own = [next(replies) for _ in ticket.requests]
            if not ticket.replies.done():
                ticket.replies.set_result(own)

    async def finish(self) -> None:
        self._look_no_more()
        await asyncio.to_thread(self.thread.shutdown)

    def abandon(self) -> None:
        self._look_no_more()
        for batch in self.batches:
            batch.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _look_no_more(self) -> None:
        if self.look is not None:
            self.look.cancel()


def generated(model: Any, requests: Sequence[Request]) -> Any:
    """What a backend answers on a thread.

    A future cannot hold StopIteration, and takes CancelledError for its own: whoever awaits it would wait for ever.
    """
    try:
        return model.generate(requests)
    except (StopIteration, asyncio.CancelledError) as error:
        raise RuntimeError(type(error).__name__) from error


def alike(requests: Sequence[Request]) -> bool:
    """Whether requests are equal but for their branch."""
    return len({replace(request, branch=()) for request in requests}) == 1


def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels the tasks, each once: a second time would interrupt what a program does on its way out."""
    for task in tasks:
        if not task.done() and not task.cancelling():
            task.cancel()


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels the tasks that still run and waits for their end; nobody wants their errors any more."""
    interrupted: asyncio.CancelledError | None = None
    cancel(tasks)
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:  # cancelled again: all the same no task is left behind
            interrupted = error
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if interrupted is not None:
        raise interrupted
