"""Cells as tasks of a Ray cluster: the same files as those that processes here write.

Every node has to see the run's folder at the same path (one machine, or storage that they share): answers are on the
disk as they come, so a worker that is killed takes nothing with it, and its cell goes on from there on another one.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from promptlab.backends import needs
from promptlab.backends.http import is_loopback
from promptlab.compare.answering import fill, one_thread_for_libraries_to_come
from promptlab.compare.cellfile import answers_in
from promptlab.compare.jobs import OnAnswers, portable
from promptlab.compare.plan import Cell, Plan
from promptlab.errors import PromptlabError, SetupError, reason

LOCAL = "local"
TRIES = 3  # of a cell whose worker dies: what kills it may have been another's hunger for memory


def fill_on_ray(
    plan: Plan, cells: Sequence[Cell], folder: Path, address: str, jobs: int, on_answers: OnAnswers
) -> None:
    """Do the cells on the cluster at `address`; "local" starts one here, of `jobs` workers, and ends it afterwards.

    Raises whatever a cell raises. A cell whose worker dies is tried `TRIES` times; then the others are still done, and
    PromptlabError names it.
    """
    needs("ray")
    with cluster(address, jobs) as ray:
        packed = ray.put(packed_for_ray(ray, plan))
        task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(fill_there)
        path, here = list(sys.path), folder.resolve()
        waiting: dict[Any, tuple[Cell, int]] = {}
        for cell in sorted(cells, key=lambda cell: -cell.labels):  # those that take longest first
            ref = task.options(name=str(cell)).remote(packed, cell, str(here), plan.digest(), path)
            waiting[ref] = cell, answers_in(folder / cell.file_name)
        lost: list[Cell] = []
        try:
            while waiting:
                [ref], _ = ray.wait(list(waiting), num_returns=1)
                cell, before = waiting.pop(ref)
                try:
                    error = ray.get(ref)
                except ray.exceptions.RayTaskError as raised:
                    raise PromptlabError(f"Ray could not do {cell}: {reason(raised.cause or raised)}") from raised
                except ray.exceptions.RayError:
                    lost.append(cell)
                    continue
                if error is not None:
                    raise error
                on_answers(plan.n_asked(cell) - before)
        except BaseException:
            for ref in waiting:
                with suppress(Exception):
                    ray.cancel(ref, force=True)
            raise
    if lost:
        raise PromptlabError(
            f"The Ray worker of {'; '.join(map(str, lost))} died {TRIES} times: out of memory? All other cells are "
            "done. Resume the run, on nodes with more memory if it is short."
        )


def fill_there(packed: bytes, cell: Cell, folder: str, digest: str, path: Sequence[str]) -> Exception | None:
    """A task on a worker: fill the cell's file. An error is its result, since Ray would wrap one that was raised."""
    sys.path.extend(entry for entry in path if entry not in sys.path)
    try:
        there = Path(folder)
        if begun(there.parent / "run.json") != digest:
            return SetupError(
                f"{there.parent} is not this run's folder on a node of the Ray cluster: give --out on storage that "
                "all its nodes share at the same path."
            )
        fill(pickle.loads(packed), cell, there, lambda n: None)
    except Exception as error:
        return portable(error)
    return None


def begun(run: Path) -> str | None:
    """The plan of the run whose run.json a node sees, if it sees one."""
    return json.loads(run.read_text(encoding="utf-8")).get("plan_sha256") if run.exists() else None


def packed_for_ray(ray: Any, plan: Plan) -> bytes:
    """By Ray's own pickle, which also takes along what a script or a notebook defines."""
    try:
        return ray.cloudpickle.dumps(plan)  # type: ignore[no-any-return]
    except SetupError:
        raise
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SetupError(
            f"An arm cannot be sent to a Ray worker ({error}). Leave it out, or leave --ray out."
        ) from error


@contextmanager
def cluster(address: str, jobs: int) -> Iterator[Any]:
    """Ray, connected: to the cluster that this process is connected to already, or to that at `address` meanwhile.

    No usage is reported, and what Ray prints goes to stderr.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL:
        with_a_token()
    import ray

    if ray.is_initialized():
        yield ray
        return
    here: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False} if address == LOCAL else {}
    with one_thread_for_libraries_to_come(), redirect_stdout(sys.stderr):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError(
                f"No Ray cluster could be had at {address!r} ({str(error).partition(chr(10))[0]}). Start one with "
                "`ray start --head` and give --ray auto or its host:port, or --ray local for one on this machine."
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


def with_a_token() -> None:
    """Ray's servers listen on every interface, so one that is started here lets in nobody without a token.

    It is made for this process, and Ray reads it once, when it is imported. Raises SetupError where that is past.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    ray = sys.modules.get("ray")
    if ray is None:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    elif not ray.is_initialized():
        raise SetupError(
            "ray was imported already, too late for a cluster that is closed to others: call ray.init() too, and that "
            "one is used; or import ray later."
        )


def stays_here(address: str) -> bool:
    """Whether a cluster is on this machine for certain."""
    return address == LOCAL or is_loopback(address if urlsplit(address).netloc else f"ray://{address}")
