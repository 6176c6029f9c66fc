"""Cells in this process, or in several: the same files either way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from promptlab.compare.answering import fill, one_thread_for_libraries_to_come
from promptlab.compare.plan import Cell, Plan
from promptlab.errors import PromptlabError, SetupError

OnAnswers = Callable[[int], None]


def fill_all(plan: Plan, cells: Sequence[Cell], folder: Path, jobs: int, on_answers: OnAnswers) -> None:
    """Do the cells, `jobs` at a time. One job is this process; more are processes that end when this one does.

    Raises whatever a cell raises, SetupError for arms that cannot be sent to a process, and PromptlabError for a
    process that dies.
    """
    if jobs == 1 or len(cells) <= 1:
        for cell in cells:
            fill(plan, cell, folder, on_answers)
        return
    waiting = sorted(cells, key=lambda cell: cell.labels)  # taken from the end: those that take longest first
    packed = pickled(plan)
    workers: Workers = {}
    busy: dict[Any, Cell] = {}
    try:
        start(workers, min(jobs, len(cells)), packed, folder)
        for pipe in workers:
            hand_out(pipe, waiting.pop(), busy, workers)
        while busy:
            for pipe in wait(list(busy)):
                said = heard(pipe, busy, workers)
                if isinstance(said, int):
                    on_answers(said)
                    continue
                del busy[pipe]
                if waiting:
                    hand_out(pipe, waiting.pop(), busy, workers)
    except BaseException:
        for process in workers.values():
            process.terminate()
        raise
    finally:
        for pipe, process in workers.items():
            pipe.close()  # an idle worker ends of itself then
            process.join()


Workers = dict[Any, BaseProcess]


def hand_out(pipe: Any, cell: Cell, busy: dict[Any, Cell], workers: Workers) -> None:
    busy[pipe] = cell
    try:
        pipe.send(cell)
    except OSError:
        raise died(cell, workers[pipe]) from None


def heard(pipe: Any, busy: dict[Any, Cell], workers: Workers) -> int | None:
    """What a worker says: a number of answers, None when its cell is done; an error it met is raised."""
    try:
        said = pipe.recv()
    except (EOFError, OSError):
        raise died(busy[pipe], workers[pipe]) from None
    if isinstance(said, BaseException):
        raise said
    return said  # type: ignore[no-any-return]


def died(cell: Cell, process: BaseProcess) -> PromptlabError:
    process.join(5)
    code = process.exitcode
    how = f"signal {-code}: out of memory?" if code is not None and code < 0 else f"exit code {code}"
    return PromptlabError(
        f"A worker process died ({how}) at {cell}. Resume the run, with fewer jobs if memory is short; "
        'a script that calls compare with jobs above 1 does so under `if __name__ == "__main__":`.'
    )


def pickled(plan: Plan) -> bytes:
    try:
        return pickle.dumps(plan)
    except SetupError:
        raise
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SetupError(
            f"An arm cannot be sent to another process ({error}). Use jobs=1, or define it at the top of a module."
        ) from error


def start(workers: Workers, n: int, plan: bytes, folder: Path) -> None:
    """Add n worker processes, each with our end of its pipe."""
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # starting it, as the first process would, lets interrupts through again
    with without_interrupts(), one_thread_for_libraries_to_come():
        for _ in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(plan, folder, theirs))
            process.start()
            workers[ours] = process
            theirs.close()  # so that the pipe ends when the process does


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started here never get Ctrl-C, which the terminal sends to all: they leave when this one says so.

    They inherit the mask. An interrupt of this process meanwhile is raised afterwards.
    """
    interrupts: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number)) if in_main_thread else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def work(packed: bytes, folder: Path, pipe: Connection) -> None:
    """A worker process: do one cell after another, and leave when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    plan: Plan | None = None
    while True:
        try:
            cell = pipe.recv()
        except (EOFError, OSError):  # nobody is there any more
            return
        try:
            plan = plan or unpickled(packed)
            fill(plan, cell, folder, pipe.send)
            pipe.send(None)
        except Exception as error:
            with suppress(OSError):
                pipe.send(portable(error))


def unpickled(packed: bytes) -> Plan:
    try:
        return pickle.loads(packed)  # type: ignore[no-any-return]
    except (AttributeError, ImportError) as error:
        raise SetupError(
            f"An arm cannot be made in another process ({error}). Use jobs=1, or define it at the top of a module."
        ) from error


def portable(error: Exception) -> Exception:
    """An error as it can be sent to another process."""
    if isinstance(error, PromptlabError | OSError):
        return error
    return RuntimeError("a worker process failed:\n" + "".join(traceback.format_exception(error)))
