"""What happens in the sandbox's processes. One per Sandbox takes orders and forks, for each program, one that keeps
watch; its child confines itself and then becomes the program. The host's side is `promptlab.tools.sandbox`.

Only the standard library is here, and of it little: every program starts from a copy of this process.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
from contextlib import suppress
from typing import Any, NoReturn

from promptlab.tools.sandbox import landlock, namespaces, seccomp
from promptlab.tools.sandbox.kernel import prctl

PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
CAPABILITIES = 64
CLOSE = 0.8  # the share of its processor time after which a program that was killed was killed for it: clocks differ
MOST_THREADS, MOST_OPEN_FILES = 16, 64


def main() -> None:
    """Takes orders on its standard input until the host closes it: a channel and two files for what is printed."""
    with socket.socket(fileno=0) as control:
        while files := socket.recv_fds(control, 1, 3)[1]:
            for file in files:
                os.set_inheritable(file, False)  # a file that was sent would else be the program's too
            if os.fork() == 0:
                control.close()
                watch(*files)
            for file in files:
                os.close(file)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def watch(channel: int, stdout: int, stderr: int) -> NoReturn:
    """Starts a program, ends it when its time is up or nobody waits for it any more, tells how it went."""
    outcome: dict[str, Any]
    try:
        orders = json.loads(b"".join(iter(lambda: os.read(channel, 65536), b"")))
        user = namespaces.enter() if orders["isolation"] == "namespaces" else None
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            become_the_program(orders, user, (stdout, stderr), writing)
        os.close(writing)
        outcome = {"refused": os.read(reading, 4096).decode()}
        over = select.poll()
        over.register(os.pidfd_open(child), select.POLLIN)
        over.register(channel, 0)  # asked for nothing, poll tells that the other side is closed
        outcome["timed_out"] = not over.poll(orders["wall_s"] * 1000)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # and with the first process of its namespace all others
        _, status, used = os.wait4(child, 0)
        outcome["code"] = os.waitstatus_to_exitcode(status)
        if outcome["code"] == -signal.SIGKILL:
            outcome["timed_out"] |= used.ru_utime + used.ru_stime > CLOSE * orders["cpu_s"]
    except OSError as error:
        outcome = {"refused": error.strerror or str(error)}
    with suppress(BrokenPipeError):
        os.write(channel, json.dumps(outcome).encode())
    os._exit(0)


def become_the_program(orders: dict[str, Any], user: int | None, printed: tuple[int, int], failing: int) -> NoReturn:
    """Confines itself for ever, then executes the program; writes to `failing`, closed by execution, if it cannot."""
    try:
        for standard, file in enumerate((os.open(os.devnull, os.O_RDONLY), *printed)):
            os.dup2(file, standard)
        shown: dict[str, str] = orders["shown"]
        program = orders["program"].encode("utf-8", errors="surrogatepass")  # what is no text is Python's to refuse
        start = [orders["python"], "-s", "-S", "-B", "-X", "utf8"]
        if orders["isolation"] == "namespaces":
            namespaces.furnish(shown, orders["scratch_bytes"])
            with open("program.py", "wb") as written:
                written.write(program)
            start.append("program.py")
        elif orders["isolation"] == "landlock":  # nowhere to put a file: the program comes on its standard input
            given = os.memfd_create("program")
            os.write(given, program)
            os.lseek(given, 0, os.SEEK_SET)
            os.dup2(given, 0)
            start.append("-")
        else:
            raise ValueError(f"there is no way to isolate called {orders['isolation']}")
        limit(orders)
        for capability in range(CAPABILITIES):
            with suppress(OSError):  # who has none cannot give any up
                prctl(PR_CAPBSET_DROP, capability)
        if user is not None:
            namespaces.become(user)
        if orders["isolation"] == "landlock":
            os.chdir("/")
            landlock.only_read(shown.values())
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        seccomp.install()
        os.execve(orders["python"], start, orders["environment"])
    except BaseException as error:  # whatever it is, the program must not run, and the host is to know
        os.write(failing, f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        os._exit(1)


def limit(orders: dict[str, Any]) -> None:
    """Limits of memory, processor time, files and threads, which nothing can raise again."""
    limits = {
        resource.RLIMIT_AS: orders["memory_bytes"],
        resource.RLIMIT_CPU: orders["cpu_s"],
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
