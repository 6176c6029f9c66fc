"""Work in several threads, for compiled code that lets others run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

import torch


def in_parts(do: Callable[[int, int], None], n: int, worth: int = 1) -> None:
    """Does parts of n, from one to another, in as many threads as PyTorch may use: one for `worth` of them or more."""
    parts = max(1, min(torch.get_num_threads(), n // worth))
    if parts == 1:
        return do(0, n)
    ends = [n * part // parts for part in range(parts + 1)]
    doing = [threads().submit(do, *each) for each in pairwise(ends)]
    try:
        for each in doing:
            each.result()
    finally:
        wait(doing)  # after Ctrl-C as well: they write to what others read later
    return None


@cache
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "promptlab")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=threads.cache_clear)  # a forked process has none of them
