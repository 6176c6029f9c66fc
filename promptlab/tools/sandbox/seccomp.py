"""A system-call filter: what a sandboxed program has no business asking of the kernel is "not permitted".

See the kernel's Documentation/userspace-api/seccomp_filter.rst. Everything not named here is allowed: it is the
namespaces or Landlock that hide things, and this that keeps a program one process without sockets, and away from the
parts of the kernel that are rarely used and often at fault. Needs x86-64 or 64-bit ARM (the latter's numbers are from
the kernel's tables, and have not been run).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from promptlab.tools.sandbox.kernel import prctl

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, IF_EQUAL, IF_SET, IF_AT_LEAST, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
KILL, ALLOW, ERROR = 0x80000000, 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # where they lie in what a filter sees
NEW_NAMESPACES, CLONE_THREAD = 0x7E020080, 0x00010000
X32 = 0x40000000  # x86-64 takes calls of another convention with this bit

# name: its number on x86-64 and on 64-bit ARM, None where there is no such call
DENIED = {
    # the network, and memory that no limit of a process counts
    "socket": (41, 198),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # other processes
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # what files are called, whose they are and when they were changed, which Landlock leaves free
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # the rest of the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
}
# name: its numbers, and the values of its second argument that are denied: signals to others when a file changes
DENIED_WITH = {
    "fcntl": ((72, 25), (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
    "ioctl": ((16, 29), (0x8901, 0x8902)),  # FIOSETOWN, SIOCSPGRP
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CLONE, CLONE3, PRLIMIT, TGKILL = (56, 220), (435, 435), (302, 261), (234, 131)


def install() -> None:
    """Puts the filter on this process, for ever. Raises OSError where the kernel does not take it."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system-call filter for {machine}, only for {', '.join(MACHINES)}")
    code = program(*MACHINES[machine], os.getpid())
    held = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(described))


def program(column: int, architecture: int, pid: int) -> bytes:
    """The filter as the kernel's instructions (struct sock_filter), for the process of that number."""

    def refused(number: int | None, error: int = errno.EPERM) -> list[bytes]:
        return [] if number is None else [step(IF_EQUAL, number, 0, 1), step(RETURN, ERROR | error)]

    steps = [step(LOAD, ARCHITECTURE), step(IF_EQUAL, architecture, 1, 0), step(RETURN, KILL), step(LOAD, NUMBER)]
    steps += [step(IF_AT_LEAST, X32, 0, 1), step(RETURN, KILL)]
    for numbers in DENIED.values():
        steps += refused(numbers[column])
    steps += refused(CLONE3[column], errno.ENOSYS)  # its flags are out of a filter's sight; libc then takes clone
    for number, own in ((PRLIMIT[column], 0), (TGKILL[column], pid)):  # its own limits and signals only
        steps += [step(IF_EQUAL, number, 0, 4), step(LOAD, FIRST_ARGUMENT)]
        steps += [step(IF_EQUAL, own, 1, 0), step(RETURN, ERROR | errno.EPERM), step(RETURN, ALLOW)]
    for numbers, values in DENIED_WITH.values():
        refusals = [each for value in values for each in refused(value)]
        steps += [step(IF_EQUAL, numbers[column], 0, len(refusals) + 2), step(LOAD, SECOND_ARGUMENT)]
        steps += [*refusals, step(RETURN, ALLOW)]
    steps += [step(IF_EQUAL, CLONE[column], 1, 0), step(RETURN, ALLOW), step(LOAD, FIRST_ARGUMENT)]
    steps += [step(IF_SET, NEW_NAMESPACES, 1, 0), step(IF_SET, CLONE_THREAD, 1, 0)]  # a thread, and in no new namespace
    return b"".join([*steps, step(RETURN, ERROR | errno.EPERM), step(RETURN, ALLOW)])


def step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_so, if_not, value)
