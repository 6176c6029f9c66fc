"""Signs of life: whether a process that may have been killed is still there, whatever its number was."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Sign:
    """An empty file beside another that is locked as long as this object lives, in the process that made it.

    A lock goes with its process, as process ids do not: in a container the next process often has the same one.
    """

    def __init__(self, beside: Path) -> None:
        self.name = secrets.token_hex(8)
        path = _path(beside, self.name)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        weakref.finalize(self, _end, lock, path, os.getpid())


def is_alive(beside: Path, name: str) -> bool:
    """Whether there is a Sign of that name. What is left of one that is no more is removed."""
    path = _path(beside, name)
    try:
        lock = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:  # somebody else's, of whom nothing can be known
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    with suppress(OSError):
        path.unlink()
    return False


def signs(beside: Path) -> Iterator[str]:
    """The names of all there are, alive or not."""
    for path in beside.parent.glob(glob.escape(f"{beside.name}.") + "*.lock"):
        yield path.name[len(beside.name) + 1 : -len(".lock")]


def _path(beside: Path, name: str) -> Path:
    return beside.with_name(f"{beside.name}.{name}.lock")


def _end(lock: int, path: Path, process: int) -> None:
    os.close(lock)
    if os.getpid() == process:  # a fork's copy is not its end
        path.unlink(missing_ok=True)
