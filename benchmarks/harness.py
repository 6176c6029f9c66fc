"""What all studies here share: their two options, their rows, and where the rows go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from promptlab.compare.provenance import machine, versions

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data" / "labelled"  # where it is at hand; never part of the repo


WIDEST_FIRST = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx")
QUICKLY = "the same rows in under 50 s, from fewer repeats or items"


def parser(doc: str | None, quickly: str = QUICKLY) -> argparse.ArgumentParser:
    """--quick and --json."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help=quickly)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    return made


def options(doc: str | None) -> argparse.Namespace:
    """What was given of --quick and --json."""
    return parser(doc).parse_args()


class Watched:
    """A command and `peak_gb`, the most memory that it and its children have held together, also where `run` raises.

    Shared pages count by share (PSS); looked at every two seconds, as looking takes a while.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command, self.peak_gb = list(command), 0.0

    def run(self) -> None:
        """To its end. Raises CalledProcessError where it fails."""
        process = subprocess.Popen(self.command)
        while process.poll() is None:
            held = sum(map(proportional_set_size, with_children(process.pid)))
            self.peak_gb = max(self.peak_gb, held / 1e6)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, self.command)


def with_children(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [pid, *(grandchild for child in children for grandchild in with_children(child))]


def proportional_set_size(pid: int) -> int:
    """The kB of memory a process holds, shared pages counted by share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@contextmanager
def answering(delay_s: float) -> Iterator[str]:
    """The address of a model on this machine that answers after so long, in a process of its own; no path in it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every request in flight holds a file open
    command = [sys.executable, str(Path(__file__).parent / "loopback" / "server.py"), str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


def peak_of(url: str) -> int:
    """How many requests were in such a model at once at most, since this was asked last."""
    with urllib.request.urlopen(f"{url}/peak") as answer:
        return int(answer.read())


def row(
    name: str,
    value: float | None,
    unit: str,
    *,
    low: float | None = None,
    high: float | None = None,
    n: int = 1,
    target: float | None = None,
    at_most: bool = False,
    note: str = "",
) -> dict[str, Any]:
    """A measured figure. `ok` is None where nothing was measured (the note says why) or nothing was asked for."""
    ok = None
    if value is not None and target is not None:
        ok = value <= target if at_most else value >= target
    found = {"name": name, "value": value, "unit": unit, "low": low, "high": high, "n": n, "target": target, "ok": ok}
    return {**found, "note": note} if note else found


def as_text(found: dict[str, Any]) -> str:
    """A row as a line."""
    number = found["value"]
    value = "not measured" if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
    interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    verdict = {True: "ok", False: "MISSED", None: ""}[found["ok"]]
    target = "" if found["target"] is None else f" target {found['target']}"
    return (
        f"{found['name']:44} {value} {found['unit']}{interval} n={found['n']}{target} {verdict} {found.get('note', '')}"
    )


def two_at_a_time(of: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    """What a function that can be pickled gives for each name, in order, from two processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as two:
        yield from two.map(of, names)


def processor() -> str:
    """Its name, family and model, and the widest instructions that it has, as Linux tells them."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return platform.processor()
    of = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in told.splitlines())}
    widest = next((name for name in WIDEST_FIRST if name in of.get("flags", "").split()), "no AVX")
    return f"{of.get('model name', '?')} (family {of.get('cpu family', '?')}, model {of.get('model', '?')}), {widest}"


def finish(
    rows: Sequence[dict[str, Any]], given: argparse.Namespace, name: str = "", packages: Sequence[str] = ()
) -> None:
    """Print the rows, write them where --json says, and, after a full run, into results/ with how they were made."""
    for each in rows:
        print(as_text(each))
    if given.json:
        given.json.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")
    if not given.quick:
        made = {
            "command": shlex.join(["python", *sys.argv]),
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{machine()}, {processor()}",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "versions": versions(*packages),
            "rows": list(rows),
        }
        path = RESULTS / f"{name or Path(sys.argv[0]).stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
