"""Data-parallel training: processes that each take a share of every step and add their gradients up.

Everything here is a no-op in a process that is alone. `torchrun --nproc-per-node 2 -m promptlab train pretrain RUN` and
`--processes 2` start several; the backend is gloo, as all arithmetic is the processor's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of the processes this is. Only number 0 writes."""
    return dist.get_rank() if processes() > 1 else 0


def wait() -> None:
    """Until all processes are here."""
    if processes() > 1:
        dist.barrier()


def summed(value: float) -> float:
    """The sum of every process's value."""
    if processes() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


def add_gradients(model: nn.Module) -> None:
    """Make each gradient the sum of every process's, in one message."""
    if processes() == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    start = 0
    for p in parameters:
        p.grad = flat[start : start + p.numel()].view_as(p)
        start += p.numel()


@contextmanager
def joined(where: str | None = None, rank: int = -1, processes: int = -1) -> Iterator[None]:
    """Be one of several processes: of those that torchrun has started, or of those that meet at the file `where`."""
    if where is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    dist.init_process_group("gloo", f"file://{where}" if where else "env://", rank=rank, world_size=processes)
    try:
        yield
    finally:
        dist.destroy_process_group()


def run_joined(rank: int, where: str, processes: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # it is sent where the process that waits for this one has died; shells have it ignored in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with joined(where, rank, processes):
        function(*arguments)


def run_in(processes: int, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function in so many new processes that know each other; if one fails, all are ended and it is raised."""
    with TemporaryDirectory() as folder:
        where = str(Path(folder) / "meeting")
        start: Any = getattr(torch.multiprocessing, "spawn")  # noqa: B009  not annotated
        start(run_joined, (where, processes, function, arguments), nprocs=processes)
