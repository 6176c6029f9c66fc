"""Linux namespaces: a process of its own world, with no network, no other processes and a file system of a few folders.

See namespaces(7), user_namespaces(7), pivot_root(2). An unprivileged user gets them by a user namespace, in which it is
nobody; root makes them as they are, and is nobody afterwards.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping

from promptlab.tools.sandbox.kernel import mount, prctl, syscall, unmount, unshare

NEW_USER, NEW_FILES, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x00020000, 0x20000000, 0x40000000
NEW_IPC, NEW_NAMES, NEW_CGROUPS = 0x08000000, 0x04000000, 0x02000000
ALL_BUT_USER = NEW_FILES | NEW_PROCESSES | NEW_NETWORK | NEW_IPC | NEW_NAMES | NEW_CGROUPS
NOSUID, NODEV, NOEXEC, BIND, RECURSIVE, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
READ_ONLY, ATTRIBUTES_NOSUID, ATTRIBUTES_NODEV = 1, 2, 4
MOUNT_SETATTR, PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
BELOW, DETACH, AT_FDCWD = 0x8000, 2, -100
PR_SET_DUMPABLE = 4
NOBODY = 65534
FIRST_FREE_UID = 2_000_000_000  # nobody's: one of its own for every program that root runs
ROOT = "/proc"  # where the new root is put together: a folder that every Linux has, and nothing is taken from


def enter() -> int | None:
    """Leaves the host's namespaces; the next child is the first process of the new ones. Raises OSError.

    What is returned is the user that this child has yet to become, when it has furnished its file system.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        user = group = FIRST_FREE_UID + os.getpid()
        try:
            unshare(ALL_BUT_USER)
            return user
        except PermissionError:  # root of a container, without root's powers
            become(user)
            prctl(PR_SET_DUMPABLE, 1)  # else the maps below are not its own to write, after a change of user
    unshare(ALL_BUT_USER | NEW_USER)
    for file, text in (("setgroups", "deny"), ("gid_map", f"{NOBODY} {group} 1"), ("uid_map", f"{NOBODY} {user} 1")):
        with open(f"/proc/self/{file}", "w") as opened:
            opened.write(text)
    return None


def become(user: int) -> None:
    """A user that is nobody else, in no groups."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def furnish(shown: Mapping[str, str], scratch_bytes: int) -> None:
    """A file system of the folders and files shown (path inside: path of the host), read only, and an empty /tmp."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("none", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for inside, outside in shown.items():
        target = ROOT + inside
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(outside):
            os.symlink(os.readlink(outside), target)
            continue
        if os.path.isdir(outside):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_CREAT))
        mount(outside, target, None, BIND | RECURSIVE)
    os.mkdir(f"{ROOT}/tmp")
    read_only(ROOT)
    mount("none", f"{ROOT}/tmp", "tmpfs", NOSUID | NODEV | NOEXEC, f"size={scratch_bytes},nr_inodes=1024,mode=1777")
    os.chdir(ROOT)
    syscall("pivot_root", PIVOT_ROOT[os.uname().machine], ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    unmount(".", DETACH)
    os.chdir("/tmp")


def read_only(folder: str) -> None:
    """All that is mounted there can only be read, and gives nobody powers."""
    wanted = struct.pack("QQQQ", READ_ONLY | ATTRIBUTES_NOSUID | ATTRIBUTES_NODEV, 0, 0, 0)
    path = ctypes.c_char_p(os.fsencode(folder))
    size = ctypes.c_size_t(len(wanted))
    syscall("mount_setattr", MOUNT_SETATTR, AT_FDCWD, path, BELOW, ctypes.c_char_p(wanted), size)
