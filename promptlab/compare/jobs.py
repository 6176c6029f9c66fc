"""Cells in this process, or in several: the same files either way."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from pathlib import Path
from queue import Empty
from typing import Any

from promptlab.compare.answering import fill
from promptlab.compare.plan import Cell, Plan

OnAnswers = Callable[[int], None]
_worker: dict[str, Any] = {}  # what a worker process was started with; it has no other way to keep it


def fill_all(plan: Plan, cells: Sequence[Cell], folder: Path, jobs: int, on_answers: OnAnswers) -> None:
    """Do the cells, `jobs` at a time. One job is this process; more are processes that end when this one does."""
    if jobs == 1 or len(cells) <= 1:
        for cell in cells:
            fill(plan, cell, folder, on_answers)
        return
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    pool = ProcessPoolExecutor(min(jobs, len(cells)), context, start_worker, (plan, folder, answers))
    try:
        # The longest cells first: those with the most labels.
        order = sorted(cells, key=lambda cell: -cell.labels)
        waiting: set[Future[None]] = {pool.submit(fill_here, cell) for cell in order}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            drain(answers, on_answers)
        drain(answers, on_answers)
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def drain(answers: Any, on_answers: OnAnswers) -> None:
    while True:
        try:
            on_answers(answers.get_nowait())
        except Empty:
            return


def start_worker(plan: Plan, folder: Path, answers: Any) -> None:
    """In a new process: keep the plan, and leave when the parent is gone, however it went."""
    _worker.update(plan=plan, folder=folder, answers=answers)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def fill_here(cell: Cell) -> None:
    fill(_worker["plan"], cell, _worker["folder"], _worker["answers"].put)
