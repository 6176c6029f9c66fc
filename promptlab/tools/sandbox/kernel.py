"""The system calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def checked(what: str, returned: int) -> int:
    """What a call returned. Raises OSError with its errno if it failed, naming it."""
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return returned


def syscall(what: str, number: int, *arguments: Any) -> int:
    return checked(what, _libc().syscall(ctypes.c_long(number), *arguments))


def prctl(option: int, *arguments: Any) -> None:
    given = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    given += [ctypes.c_ulong(0)] * (4 - len(given))
    checked(f"prctl {option}", _libc().prctl(ctypes.c_int(option), *given))


def unshare(flags: int) -> None:
    checked("unshare", _libc().unshare(ctypes.c_int(flags)))


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    def text(given: str | None) -> ctypes.c_char_p:
        return ctypes.c_char_p(None if given is None else os.fsencode(given))

    done = _libc().mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data))
    checked(f"mount {target}", done)


def unmount(target: str, flags: int) -> None:
    checked("umount2", _libc().umount2(ctypes.c_char_p(os.fsencode(target)), ctypes.c_int(flags)))
