"""Python programs in a sandbox of the operating system's: no network, few files, hard limits, a fresh one each time.

Two ways, and the better one that this machine has is taken: Linux namespaces (the program sees the Python library, read
only, and an empty /tmp; it is alone), or Landlock (it can open the Python library and nothing else, and write nowhere).
In both it is one process that can start no other and open no socket (seccomp), without environment, as nobody or
without privileges, its memory, processor time, files and output limited (setrlimit), and ended when its time is up.

What this does not keep out: whoever finds a hole in the kernel; what processors leak from one process to another; with
Landlock alone, the names and sizes of the host's files. A program may use one core for all of its time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from promptlab.errors import PromptlabError, SetupError
from promptlab.tools import child

Isolation = Literal["namespaces", "landlock"]
WAYS: tuple[Isolation, ...] = ("namespaces", "landlock")
JAIL = "promptlab.tools.sandbox.jail"
SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
PACKAGES = "/packages"  # where they are in the sandbox
SLACK_S = 30.0  # for a process that is slow to start or to end


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a program may take: of time, whole seconds of a processor and seconds in all, of address space (of
    which the interpreter takes 20 MB itself), of files, and of what it prints (the rest is lost).
    """

    cpu_s: int = 5
    wall_s: float = 15.0
    memory_bytes: int = 512 * 2**20
    scratch_bytes: int = 32 * 2**20
    output_bytes: int = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program printed, how it ended, and `cut` if it printed more than was kept.

    `code` is 0 where all went well, 1 after an exception, -9 if it was killed by signal 9.
    """

    stdout: str
    stderr: str
    code: int
    timed_out: bool = False
    cut: bool = False


class Sandbox:
    """Where programs run; each in a sandbox of its own. `packages` names installed ones that they may import.

    `isolation` is the better one of WAYS that works here, found out by running an empty program; one given is insisted
    on. Raises SetupError, saying what is missing, where none does: nothing is ever run without.
    """

    def __init__(
        self, limits: Limits = Limits(), packages: Sequence[str] = (), isolation: Isolation | None = None
    ) -> None:
        if sys.platform != "linux":
            raise SetupError(f"Programs are isolated by means of Linux, and this is {sys.platform}: none is run here.")
        self.limits, self.packages = limits, _packages(packages)
        self._python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = child.started(JAIL, theirs.fileno(), python=self._python, environment={}, folder="/")
        self.close = weakref.finalize(self, _end, self._control, process)
        missing = {}
        for way in (isolation,) if isolation else WAYS:
            self.isolation: Isolation = way
            try:
                if self.run("").code == 0:
                    return
                missing[way] = "Python does not start in it"
            except SetupError as refused:
                missing[way] = str(refused)
        self.close()
        said = "; ".join(f"{way}: {why}" for way, why in missing.items())
        raise SetupError(f"There is no way to isolate programs here, and none is run without. {said}.")

    def run(self, program: str) -> Ran:
        """Runs a program to its end, or to that of its time. Fit for any thread; it waits."""
        ours, theirs = socket.socketpair()
        outputs = [os.memfd_create("stdout"), os.memfd_create("stderr")]
        try:
            with ours:
                with theirs:
                    socket.send_fds(self._control, [b"."], [theirs.fileno(), *outputs])
                ours.settimeout(self.limits.wall_s + SLACK_S)
                ours.sendall(json.dumps(self._orders(program)).encode())
                ours.shutdown(socket.SHUT_WR)
                outcome = json.loads(b"".join(iter(lambda: ours.recv(65536), b"")))
            if outcome["refused"]:
                raise SetupError(outcome["refused"])
            out, err = (_start_of(file, self.limits.output_bytes) for file in outputs)
            cut = any(os.fstat(file).st_size > self.limits.output_bytes for file in outputs)
            return Ran(out, err, outcome["code"], outcome["timed_out"], cut)
        except (OSError, json.JSONDecodeError) as error:
            raise PromptlabError(f"The process that watches over a program was lost ({error}).") from error
        finally:
            for file in outputs:
                os.close(file)

    def _orders(self, program: str) -> dict[str, Any]:
        packages, environment = self.packages, {}
        if self.isolation == "landlock":  # there are no other paths than the host's
            packages = {folder: folder for folder in dict.fromkeys(map(os.path.dirname, packages.values()))}
        if packages:
            environment["PYTHONPATH"] = PACKAGES if self.isolation == "namespaces" else os.pathsep.join(packages)
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):  # the loader's list of where libraries are is not there
            environment["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
        return {
            "program": program,
            "python": self._python,
            "isolation": self.isolation,
            "shown": _library(self._python) | packages,
            "environment": environment,
            "cpu_s": self.limits.cpu_s,
            "wall_s": self.limits.wall_s,
            "memory_bytes": self.limits.memory_bytes,
            "scratch_bytes": self.limits.scratch_bytes,
        }


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.wait()


def _start_of(file: int, most_bytes: int) -> str:
    return os.pread(file, most_bytes, 0).decode("utf-8", errors="replace")


def _library(python: str) -> dict[str, str]:
    """The interpreter, its library and the system's: path inside -> path here."""
    base = {"platbase": sys.base_exec_prefix, "installed_platbase": sys.base_exec_prefix}  # not the environment's
    paths = [python, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars=base), *SYSTEM_LIBRARIES]
    shared = sysconfig.get_config_var("INSTSONAME")
    if shared and sysconfig.get_config_var("Py_ENABLE_SHARED"):
        paths.append(os.path.join(sysconfig.get_config_var("LIBDIR"), shared))
    return {path: path for path in paths if os.path.exists(path)}


def _packages(names: Sequence[str]) -> dict[str, str]:
    """Installed packages, and the libraries that some bring in a folder beside them. Raises SetupError."""
    found = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise SetupError(f"Programs are to import {name}, which is not installed: pip install {name}")
        path = os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin
        found[f"{PACKAGES}/{os.path.basename(path)}"] = path
        if os.path.isdir(f"{path}.libs"):
            found[f"{PACKAGES}/{name}.libs"] = f"{path}.libs"
    return found
