"""Programs driven by an event loop: each goes on by itself, as its replies come."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from promptlab.program import Calls, Effect, Exchange, Gather, Program, Requests, discard
from promptlab.runners.acting import act_async
from promptlab.runners.senders import InFlight, Sender, Waves, cancel, ended
from promptlab.runners.step import Node, Prefix, names
from promptlab.tool import bound, observing
from promptlab.types import Backend, Message


async def concurrent(programs: Sequence[Program[Any]], model: Backend, max_in_flight: int, foreign: bool) -> list[Any]:
    """The results of programs. With `foreign` they may await whatever asyncio knows."""
    sender: Sender = Waves(model) if model.batched else InFlight(model, max_in_flight)
    driver = Driver(model, sender, foreign)
    try:
        roots = [Node(p, root=i, name=name) for i, (p, name) in enumerate(zip(programs, names(programs), strict=True))]
        if len(roots) == 1:
            results = [await driver.live(roots[0])]
        else:
            results = await _all_or_first_error(driver.live(root) for root in roots)
    except BaseException:  # also Ctrl-C: threads that are still asking are not waited for
        sender.abandon()
        raise
    finally:
        discard(list(programs))
    await sender.finish()
    return results


async def _all_or_first_error(programs: Iterable[Program[Any]]) -> list[Any]:
    tasks = [asyncio.create_task(program) for program in programs]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done() and (error := task.exception()):
                raise error
        return [task.result() for task in tasks]
    finally:
        await ended(tasks)


@dataclass(frozen=True, slots=True)
class Driver:
    model: Backend
    sender: Sender
    foreign: bool

    async def live(self, node: Node) -> Any:
        """Drives a program to its end."""
        self.sender.moved(+1)
        try:
            return await self.drive(node)
        finally:
            self.sender.moved(-1)

    @types.coroutine
    def drive(self, node: Node) -> Generator[Any, Any, Any]:
        """Effects happen here; whatever else the program awaits is handed on to asyncio, as if it were not driven."""
        advance = node.send if self.foreign else node.step
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                wish = advance(answer, error)
            except StopIteration as stop:
                return stop.value
            answer, error = None, None
            try:
                if isinstance(wish, Effect):
                    answer = yield from self.happen(node, wish).__await__()
                else:
                    answer = yield wish
            except BaseException as raised:  # cancellation too is for the program to see
                error = raised

    async def happen(self, node: Node, effect: Effect[Any]) -> list[Any]:
        if isinstance(effect, Requests):
            requests = node.stamped(effect, self.model)
            replies = await self.sender.send(node.root, requests) if requests else []
            return [Exchange(request, reply) for request, reply in zip(requests, replies, strict=True)]
        round = node.next_round()
        if isinstance(effect, Calls):
            return await _called(effect)
        assert isinstance(effect, Gather)
        self.sender.moved(-1)
        try:
            return await self.gather(node, round, effect)
        finally:
            self.sender.moved(+1)

    async def gather(self, node: Node, round: int, effect: Gather) -> list[Any]:
        """Children are awaited in their order: the outcome is that of the prefix that decides.

        On a hosted model all start at once, or `at_once` ahead; on a batched one, as in step, the fewest that could
        decide.
        """
        tasks: list[asyncio.Task[Any]] = []
        try:
            prefix = Prefix(len(effect.programs), effect.until)
            branches = effect.branches_from(node.branch, round)
            ahead = 0 if self.model.batched else prefix.n if effect.at_once is None else effect.at_once
            while not prefix.decided:
                wanted = min(prefix.n, max(prefix.due, len(prefix.results) + ahead))
                for i in range(len(tasks), wanted):
                    child = Node(effect.programs[i], branches[i], root=node.root, name=node.name)
                    tasks.append(asyncio.create_task(self.live(child)))
                    tasks[i].add_done_callback(partial(_cancel_later, tasks, i))
                prefix.add(await tasks[len(prefix.results)])
            return prefix.results
        finally:
            try:
                await ended(tasks)
            finally:
                discard(effect.programs)


def _cancel_later(tasks: list[asyncio.Task[Any]], i: int, task: asyncio.Task[Any]) -> None:
    """The children after a failed one never count."""
    if task.cancelled() or task.exception() is not None:
        cancel(tasks[i + 1 :])


async def _called(effect: Calls) -> list[Message]:
    messages: list[Message] = []
    for call in effect.calls:
        with observing(call, messages) as tell:
            tell(await act_async(bound(call, effect.tools)))
    return messages
