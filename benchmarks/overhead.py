"""What promptlab itself costs: seconds of CPU to import it, microseconds to drive one request.

    python benchmarks/overhead.py [--quick] [--json FILE]

The backend answers at once, so all that is timed is the driving: 1000 self-consistency programs of 5 asks each.
Rows give the median, the lowest and the highest of `n` repeats. Every repeat of the import is a fresh interpreter,
and what an empty interpreter takes is subtracted.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import finish, options, row

from promptlab import ask, gather, run
from promptlab.types import Reply, Request

SAMPLES = 5


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


def microseconds_per_request(model: Any, programs: int) -> float:
    questions = [f"Question {i}?" for i in range(programs)]
    start = time.perf_counter()
    run((self_consistency(question) for question in questions), model)
    return (time.perf_counter() - start) / (programs * SAMPLES) * 1e6


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
    values = [measure() for _ in range(n)]
    median = statistics.median(values)
    return row(name, median, unit, low=min(values), high=max(values), n=n, target=target, at_most=True)


def main() -> None:
    given = options(__doc__)
    n, programs = (5, 200) if given.quick else (15, 1000)
    finish(
        [
            repeated("import", "s CPU", 0.3, n, import_seconds),
            repeated("in_step", "us/request", 100, n, lambda: microseconds_per_request(InStep(), programs)),
            repeated("concurrent", "us/request", 100, n, lambda: microseconds_per_request(Hosted(), programs)),
        ],
        given,
    )


if __name__ == "__main__":
    main()
