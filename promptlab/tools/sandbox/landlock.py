"""Landlock: a process forbids itself every file but those named. See the kernel's userspace-api/landlock.rst.

What it does not hide: that a file exists, its size and times. It forbids opening, listing, executing, making and
removing; modes, owners and times are left to `seccomp`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from promptlab.tools.sandbox.kernel import prctl, syscall

CREATE, ADD, RESTRICT = 444, 445, 446
VERSION = 1
BENEATH_PATH = 1
EXECUTE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
LEAST = 3  # before it files could be emptied
RIGHTS = {3: (1 << 15) - 1, 5: (1 << 16) - 1}  # all there are, from a version on
TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 0b11, 0b11
PR_SET_NO_NEW_PRIVS = 38


def version() -> int:
    """The kernel's version of Landlock. Raises OSError where it has none."""
    return syscall("landlock", CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION))


def only_read(paths: Iterable[str]) -> None:
    """From now on only these files and folders can be opened, to read and execute. Raises OSError."""
    has = version()
    if has < LEAST:
        raise OSError(errno.ENOSYS, f"Landlock is of version {has}; files are safe from version {LEAST} (Linux 6.2) on")
    handled = RIGHTS[max(each for each in RIGHTS if each <= has)]
    wanted = struct.pack("QQQ", handled, TCP, ABSTRACT_SOCKETS_AND_SIGNALS)[: 24 if has >= 6 else 16 if has >= 4 else 8]
    rules = syscall("landlock", CREATE, ctypes.c_char_p(wanted), ctypes.c_size_t(len(wanted)), ctypes.c_uint32(0))
    for path in paths:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = EXECUTE | READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)
        rule = struct.pack("=Qi", rights, opened)
        syscall(f"landlock {path}", ADD, rules, BENEATH_PATH, ctypes.c_char_p(rule), ctypes.c_uint32(0))
        os.close(opened)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    syscall("landlock", RESTRICT, rules, ctypes.c_uint32(0))
    os.close(rules)
