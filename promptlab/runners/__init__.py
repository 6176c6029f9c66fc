"""Runners: who drives programs, and how what they ask happens."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from inspect import iscoroutine, iscoroutinefunction
from typing import Any, TypeAlias, TypeVar, overload

from promptlab.errors import ForeignAwaitable, ModelError, SetupError
from promptlab.options import name_of
from promptlab.program import Program, as_programs, attempt, discard
from promptlab.runners.step import refuse_within, waiting_task
from promptlab.types import Backend

T = TypeVar("T")
LOOK_S = 0.2  # how often a thread that waits for another looks whether it should stop
Batch: TypeAlias = bool | str | os.PathLike[str]
BATCH_FOLDER = "runs/jobs"


@overload
def run(program: Program[T], model: Backend, *, max_in_flight: int = 64, batch: Batch = False) -> T: ...
@overload
def run(
    program: Iterable[Program[T]], model: Backend, *, max_in_flight: int = 64, batch: Batch = False
) -> list[T | ModelError]: ...
def run(program: Any, model: Backend, *, max_in_flight: int = 64, batch: Batch = False) -> Any:
    """The result of a program; of several programs, their results in order, a ModelError standing for itself.

    On a batched backend programs go in step: all that the live programs ask is one `generate`. On others each program
    goes on by itself, with up to `max_in_flight` requests in flight, also inside a running event loop.
    A list's programs all start at branch (): identical ones ask identical requests. Any exception but a ModelError
    ends the run and closes the other programs. Raises ForeignAwaitable where a program awaits anything but effects.
    A function that is called in a program, such as a score, may `run` others; hosted models only where the program
    goes in step, as nothing else is in flight there.

    With `batch` a hosted model is asked in its provider's batch jobs, at half the price and within a day: programs go
    in step, and what they ask in one wave is one job. Jobs are noted in a folder ("runs/jobs", or the one given), from
    which a run that was interrupted, or killed, is taken up by the same call. Raises SetupError where there are none.
    """
    programs, in_order = _prepared(program, model, max_in_flight)
    if batch is not False:
        model = _in_jobs(programs, model, batch)
    if model.batched:
        from promptlab.runners.in_step import in_step

        return in_order(in_step(programs, model, in_private_loop))
    from promptlab.runners.concurrent import concurrent

    return in_order(in_private_loop(and_close(concurrent(programs, model, max_in_flight, foreign=False), model)))


@overload
async def arun(program: Program[T], model: Backend, *, max_in_flight: int = 64, batch: Batch = False) -> T: ...
@overload
async def arun(
    program: Iterable[Program[T]], model: Backend, *, max_in_flight: int = 64, batch: Batch = False
) -> list[T | ModelError]: ...
async def arun(program: Any, model: Backend, *, max_in_flight: int = 64, batch: Batch = False) -> Any:
    """As `run`, in the caller's event loop; programs may also await anything else that asyncio knows.

    A batched backend, batch jobs among them, is asked, off the loop's thread, once every live program waits for a
    reply; those that wait for something else, such as a lock that another holds, are waited for about a second.
    A hosted model keeps its connections for the next call: `await model.aclose()` closes them before their loop ends.
    """
    from promptlab.runners.concurrent import concurrent

    programs, in_order = _prepared(program, model, max_in_flight)
    try:
        refuse_within()
    except ForeignAwaitable:
        discard(programs)
        raise
    if batch is not False:
        model = _in_jobs(programs, model, batch)
    return in_order(await concurrent(programs, model, max_in_flight, foreign=True))


def _prepared(program: Any, model: Any, max_in_flight: int) -> tuple[list[Program[Any]], Callable[[list[Any]], Any]]:
    """The programs to drive, and what to make of their results."""
    programs = as_programs(program)
    try:
        check_run(model, max_in_flight)
    except SetupError:
        discard(programs)
        raise
    if iscoroutine(program):
        return [program], lambda results: finished(results)[0]
    return [attempt(each) for each in programs], finished


def _in_jobs(programs: list[Program[Any]], model: Any, batch: Batch) -> Backend:
    """The model in batch jobs, noted in the folder that `batch` names."""
    folder = BATCH_FOLDER if batch is True else batch
    try:
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise SetupError(f"batch is True, or a folder's name; got {batch!r}.")
        if not hasattr(model, "as_batch"):
            raise SetupError(f"{name_of(model)} has no batch jobs; models of OpenAI and Anthropic have.")
        return model.as_batch(folder)  # type: ignore[no-any-return]
    except SetupError:
        discard(programs)
        raise


def check_run(model: Any, max_in_flight: Any) -> None:
    """Raises SetupError for what programs cannot run on, or not so many at a time."""
    if not isinstance(max_in_flight, int) or max_in_flight < 1:
        raise SetupError(f"max_in_flight is a whole number, at least 1, got {max_in_flight!r}.")
    check_backend(model, "A program")


def check_backend(model: Any, whose: str) -> None:
    """Raises SetupError for what `whose` ("A program") cannot run on, before anything is asked of it."""
    if not hasattr(model, "generate") or not hasattr(model, "batched"):
        hint = f" Pass model({model!r})." if isinstance(model, str) else " A backend has `generate` and `batched`."
        raise SetupError(f"{whose} runs on a backend, got {type(model).__name__}.{hint}")
    if iscoroutinefunction(model.generate) and (model.batched or not hasattr(model, "agenerate")):
        is_async = f"{type(model).__name__}.generate is an async function"
        raise SetupError(f"{is_async}: call that one `agenerate`, and make `generate` a plain one.")


def finished(results: list[Any]) -> list[Any]:
    """The results of programs, if none of them is a program that nobody has awaited."""
    if forgotten := [result for result in results if iscoroutine(result)]:
        discard(forgotten)
        name = forgotten[0].__qualname__
        raise SetupError(f"The program returned a call of {name} that it did not await: `return await {name}(…)`.")
    return list(results)


async def and_close(main: Coroutine[Any, Any, T], model: Any) -> T:
    """What `main` gives, and the model's connections closed before their loop ends."""
    try:
        return await main
    finally:
        if hasattr(model, "aclose"):
            await model.aclose()


def in_private_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end in an event loop of its own; on a thread of its own if this one already runs a loop.

    Raises ForeignAwaitable in a program whose own requests would stand still meanwhile.
    """
    if asyncio._get_running_loop() is None:
        with asyncio.Runner() as runner:
            return runner.run(main)
    try:
        caller = waiting_task()
    except ForeignAwaitable:
        discard(main)
        raise
    loop = asyncio.new_event_loop()
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                outcome.set_result(runner.run(main))
        except BaseException as error:  # raised again in the thread that waits
            outcome.set_exception(error)

    def cancel_all() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    try:
        threading.Thread(target=contextvars.copy_context().run, args=(work,)).start()
        while not wait([outcome], timeout=LOOK_S).done:
            if caller is not None and caller.cancelling():  # all that Ctrl-C does first under asyncio.run
                loop.call_soon_threadsafe(cancel_all)
                wait([outcome])
                raise asyncio.CancelledError
        return outcome.result()
    except KeyboardInterrupt:  # it reaches this thread only, and maybe before the other has begun
        with suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(cancel_all)
        wait([outcome])
        raise
