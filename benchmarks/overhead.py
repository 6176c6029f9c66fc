"""What promptlab itself costs: CPU to import it, to drive one request, and to ask a model over HTTP.

    python benchmarks/overhead.py [--quick] [--json FILE]

First the backend answers at once, so all that is timed is the driving: 1000 self-consistency programs of 5 asks each,
and half as many that a cache answers, from memory (at most 4,096 answers) or from its file.
Then a server on this machine answers after 100 ms, and all of a call is counted, from the program to the wire, with
the connections opened for it: five calls for each of those in flight. The peak is what a server counts that answers
after 1.5 s, as within 100 ms a busy machine may not have sent all. "Through model()" is with the pacing and the retries
that it puts around a backend, which begin with fewer in flight. Last, programs of many items go through `map`: the
most memory that an interpreter took for it in all, and how long it takes to end it with 1,000 in flight. Rows give the
median, the lowest and the highest of `n` repeats. Every repeat of the import is a fresh interpreter, and what an empty
interpreter takes is subtracted.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from harness import answering, finish, options, peak_of, row

from promptlab import ask, gather, model, run
from promptlab import map as mapped
from promptlab.backends.openai import OpenAI
from promptlab.backends.wrappers import Cached
from promptlab.types import Reply, Request

SAMPLES = 5
DELAY_S = 0.1
LONG_S = 1.5  # for the peak: by then even a busy machine has sent them all


class InStep:
    batched = True

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        return [Reply("7")] * len(requests)


class Hosted(InStep):
    batched = False

    async def agenerate(self, requests: Sequence[Request]) -> list[Any]:
        return self.generate(requests)


async def path(question: str) -> str:
    return (await ask(question, temperature=0.7)).text


async def self_consistency(question: str) -> list[str]:
    return await gather(path(question) for _ in range(SAMPLES))


def microseconds_per_hit(in_memory: bool, programs: int) -> float:
    """Of wall time for a request that a cache answers: one asked before in this process, or in an earlier one."""
    with tempfile.TemporaryDirectory() as folder:
        warmed = Cached(Hosted(), f"{folder}/calls.db", identity={"name": "null"})
        microseconds_per_request(warmed, programs)
        if in_memory:
            return microseconds_per_request(warmed, programs)
        return microseconds_per_request(Cached(Hosted(), f"{folder}/calls.db", identity={"name": "null"}), programs)


def microseconds_per_request(model: Any, programs: int) -> float:
    questions = [f"Question {i}?" for i in range(programs)]
    start = time.perf_counter()
    run((self_consistency(question) for question in questions), model)
    return (time.perf_counter() - start) / (programs * SAMPLES) * 1e6


async def questioned(i: int) -> str:
    return (await ask(f"question {i}: what now?", temperature=0.5)).text


def milliseconds_per_call(hosted: Any, in_flight: int, rounds: int = 5) -> float:
    """The client's CPU for a call over HTTP, user and system time."""
    programs = [questioned(i) for i in range(rounds * in_flight)]
    start = time.process_time()
    answers = run(programs, hosted, max_in_flight=in_flight)
    took = time.process_time() - start
    assert set(answers) == {"hello there"}, {repr(answer) for answer in answers if answer != "hello there"}
    return took / len(answers) * 1000


def over_http(n: int) -> list[dict[str, Any]]:
    """Rows of the backend itself, and then of all that `model` puts around it."""
    cpu, peaks, relative, cpu_around, peaks_around = [], [], [], [], []
    with answering(DELAY_S) as url, answering(LONG_S) as slow:
        bare, bare_slow = (OpenAI(f"m@{each}", key="none") for each in (url, slow))
        milliseconds_per_call(bare, 20)  # imports, and warms both ends
        for _ in range(n):
            cpu.append(milliseconds_per_call(bare, 200))
            relative.append(milliseconds_per_call(bare, 2000) / cpu[-1])
            milliseconds_per_call(bare_slow, 200, rounds=2)
            peaks.append(peak_of(slow))
            cpu_around.append(milliseconds_per_call(model(f"openai:m@{url}", key="none"), 200))
            milliseconds_per_call(model(f"openai:m@{slow}", key="none"), 200, rounds=2)
            peaks_around.append(peak_of(slow))
    what = "1,000 calls, 200 in flight, server answers in 100 ms: client CPU a call"
    return [
        summed(what, "ms CPU/call", 1.0, cpu),
        summed("in flight at the peak", "requests", 200, peaks, at_most=False),
        summed("the same at 2,000 in flight: CPU a call relative to 200 in flight", "times", 2.0, relative),
        summed(f"{what}, through model()", "ms CPU/call", 1.0, cpu_around),
        summed("in flight at the peak, through model()", "requests", 200, peaks_around, at_most=False),
    ]


class Waiting(Hosted):
    """Answers the first question only, and at once."""

    async def agenerate(self, requests: Sequence[Request]) -> list[Any]:
        await asyncio.sleep(0 if "question 0:" in requests[0].messages[0].content else 60)
        return self.generate(requests)


def map_all(items: int) -> None:
    """Print the most MB that this interpreter took by the end of it; ru_maxrss begins with what its parent takes."""
    assert sum(1 for _ in mapped(questioned, range(items), Hosted())) == items
    [most] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(most.split()[1]) / 1e3)


def map_megabytes(items: int) -> float:
    command = [sys.executable, "-c", f"from overhead import map_all; map_all({items})"]
    return float(subprocess.run(command, check=True, cwd=Path(__file__).parent, stdout=subprocess.PIPE).stdout)


def cancel_seconds() -> float:
    results = mapped(questioned, count(), Waiting(), max_in_flight=1000)
    next(results)
    start = time.perf_counter()
    results.close()
    return time.perf_counter() - start


def cpu_seconds(code: str) -> float:
    """User and system time of a fresh interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def import_seconds() -> float:
    return cpu_seconds("import promptlab") - cpu_seconds("pass")


def repeated(name: str, unit: str, target: float, n: int, measure: Callable[[], float]) -> dict[str, Any]:
    measure()  # the first writes bytecode and warms caches
    return summed(name, unit, target, [measure() for _ in range(n)])


def summed(name: str, unit: str, target: float, values: Sequence[float], at_most: bool = True) -> dict[str, Any]:
    low, high, n = min(values), max(values), len(values)
    return row(name, statistics.median(values), unit, low=low, high=high, n=n, target=target, at_most=at_most)


def main() -> None:
    given = options(__doc__)
    n, programs, items, repeats = (5, 200, 20_000, 1) if given.quick else (15, 1000, 100_000, 3)
    finish(
        [
            repeated("import", "s CPU", 0.3, n, import_seconds),
            repeated("in_step", "us/request", 100, n, lambda: microseconds_per_request(InStep(), programs)),
            repeated("concurrent", "us/request", 100, n, lambda: microseconds_per_request(Hosted(), programs)),
            repeated("memory hit", "us/request", 60, n, lambda: microseconds_per_hit(True, programs // 2)),
            repeated("disk hit", "us/request", 150, n, lambda: microseconds_per_hit(False, programs // 2)),
            *over_http(1 if given.quick else 7),
            summed(
                f"{items:,} items through map: peak memory", "MB", 300, [map_megabytes(items) for _ in range(repeats)]
            ),
            repeated("map: cancel", "s", 1.0, n, cancel_seconds),
        ],
        given,
    )


if __name__ == "__main__":
    main()
