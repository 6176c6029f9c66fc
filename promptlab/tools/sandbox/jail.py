"""What happens in the sandbox's processes: one that keeps watch, and its child, which confines itself and then becomes
the program. Only the standard library is here; the host's side is `promptlab.tools.sandbox`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

from promptlab.tools.sandbox import landlock, namespaces, seccomp
from promptlab.tools.sandbox.kernel import prctl

CHANNEL = 0  # to the host: what to do comes in, what became of it goes out
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
CAPABILITIES = 64
MOST_THREADS, MOST_OPEN_FILES = 16, 64
TOLD = frozenset({signal.SIGCHLD, signal.SIGTERM})


def main() -> NoReturn:
    """The watching process: starts the program, ends it when its time is up or the host says so, tells how it went."""
    orders = json.loads(b"".join(iter(lambda: os.read(CHANNEL, 65536), b"")))
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    try:
        user = namespaces.enter() if orders["isolation"] == "namespaces" else None
        reading, writing = os.pipe()
        child = os.fork()
    except OSError as error:
        tell(refused=str(error.strerror or error))
    if child == 0:
        os.close(reading)
        become_the_program(orders, user, writing)
    os.close(writing)
    refused = os.read(reading, 4096).decode()
    woken = signal.sigtimedwait(TOLD, orders["wall_s"])
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # and with the first process of its namespace all others
    _, status = os.waitpid(child, 0)
    if refused:
        tell(refused=refused)
    tell(code=os.waitstatus_to_exitcode(status), timed_out=woken is None)


def tell(**outcome: Any) -> NoReturn:
    os.write(CHANNEL, json.dumps(outcome).encode())
    os._exit(0)


def become_the_program(orders: dict[str, Any], user: int | None, failing: int) -> NoReturn:
    """Confines itself for ever, then executes the program; writes to `failing` if it cannot."""
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), CHANNEL)
        shown: dict[str, str] = orders["shown"]
        start = [orders["python"], "-s", "-S", "-B", "-X", "utf8"]
        if orders["isolation"] == "namespaces":
            namespaces.furnish(shown, orders["scratch_bytes"])
            with open("program.py", "w", encoding="utf-8") as file:
                file.write(orders["program"])
            start.append("program.py")
        else:  # nowhere to put a file: the program comes on its standard input
            given = os.memfd_create("program")
            os.write(given, orders["program"].encode())
            os.lseek(given, 0, os.SEEK_SET)
            os.dup2(given, CHANNEL)
            start.append("-")
        limit(orders)
        for capability in range(CAPABILITIES):
            with suppress(OSError):  # who has none cannot give any up
                prctl(PR_CAPBSET_DROP, capability)
        if user is not None:
            namespaces.become(user)
        if orders["isolation"] == "landlock":
            os.chdir("/")
            landlock.only_read(shown.values())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        seccomp.install()
        packages = {"PYTHONPATH": orders["packages"]} if orders["packages"] else {}
        os.execve(orders["python"], start, packages)
    except BaseException as error:  # whatever it is, the program must not run, and the host is to know
        os.write(failing, f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        os._exit(1)


def limit(orders: dict[str, Any]) -> None:
    """Limits of memory, processor time, files and threads, which nothing can raise again."""
    cpu_s = int(orders["wall_s"]) + 1
    limits = {
        resource.RLIMIT_AS: orders["memory_bytes"],
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: orders["scratch_bytes"],
        resource.RLIMIT_NOFILE: MOST_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if orders["isolation"] == "namespaces":  # elsewhere it would count the user's other processes
        limits[resource.RLIMIT_NPROC] = MOST_THREADS
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))


if __name__ == "__main__":
    sys.exit(main())
