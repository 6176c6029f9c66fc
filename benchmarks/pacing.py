"""How well requests are paced to a provider's limits: the share that got a 429, and of what was allowed the share used.

    python benchmarks/pacing.py [--quick] [--json FILE]

Ten minutes on a virtual clock against a provider that enforces its limits, as buckets that fill steadily or in windows
of a minute, and tells them in headers, or does not. Programs ask without pause, one after the other or 300 at a time;
a reply takes .3 to 3 s (300 at a time) or .02 s (one). Allowed is what fills up in ten minutes and the first filling of
a bucket, or what the windows begun hold. Without headers the first three minutes, in which the limits are learned, are
left out. Nothing is left to chance but what a seed decides, so there is no interval.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, NamedTuple

from harness import finish, options, row

from promptlab.backends.script import Script
from promptlab.backends.wrappers.limits import Limits
from promptlab.backends.wrappers.rate_limited import RateLimited
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.testing.clock import run_in_virtual_time
from promptlab.testing.enforcing import Enforcing
from promptlab.testing.limits import RateLimits
from promptlab.types import Message, Reply, Request, Usage

MINUTES = 10
LOADS: dict[str, dict[str, float]] = {
    "rpm": {"rpm": 600, "input_tpm": 1_000_000, "output_tpm": 1_000_000},
    "input_tpm": {"rpm": 100_000, "input_tpm": 300_000, "output_tpm": 1_000_000},
    "output_tpm": {"rpm": 100_000, "input_tpm": 2_000_000, "output_tpm": 60_000},
}
BINDS = {"rpm": "requests", "input_tpm": "input", "output_tpm": "output"}


class Found(NamedTuple):
    refused: float  # share of what arrived
    used: float  # share of what was allowed
    arrived: int


def asked(number: int) -> Request:
    """Between 200 and 800 tokens of some 4.3 letters."""
    n = random.Random(number).randint(200, 800)
    return Request((Message("user", f"{number} ".ljust(int(n * 4.3), "x")),))


def answered(request: Request) -> Reply:
    number, _, _ = request.messages[0].content.partition(" ")
    tokens = int(len(request.messages[0].content) / 4.3 * random.Random(-int(number)).uniform(0.9, 1.1))
    return Reply("…", usage=Usage(input_tokens=tokens, output_tokens=random.Random(f"o{number}").randint(20, 180)))


def load(binding: str, programs: int, windows: bool, headers: bool, retry_after: bool, minutes: int) -> Found:
    """Ask for so many minutes, of which the first three do not count without headers."""
    limits = RateLimits(**LOADS[binding], windows=windows, headers=headers, retry_after=retry_after)

    def latency_s(request: Request) -> float:
        return 0.02 if programs == 1 else random.Random(request.messages[0].content[:8]).uniform(0.3, 3.0)

    async def main() -> Found:
        provider = Enforcing(Script(answered, batched=False), limits, latency_s)
        model = Retrying(RateLimited(provider, limits=Limits()), attempts=1000, patience_s=1e6)
        numbers = iter(range(10**9))
        end_s = minutes * 60.0

        async def program() -> None:
            while asyncio.get_running_loop().time() < end_s:
                await model.agenerate([asked(next(numbers))])

        tasks = [asyncio.create_task(program()) for _ in range(programs)]
        learning_s = 0.0 if headers else 180.0
        await asyncio.sleep(learning_s)
        before = (limits.arrived, limits.refused, limits.counted[BINDS[binding]])
        await asyncio.sleep(end_s - learning_s)
        arrived, refused = limits.arrived - before[0], limits.refused - before[1]
        counted = limits.counted[BINDS[binding]] - before[2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        allowed = LOADS[binding][binding] * ((end_s - learning_s) / 60 + (headers and not windows))
        return Found(refused / arrived, counted / allowed, arrived)

    return run_in_virtual_time(main())


def measured(name: str, found: Found) -> list[dict[str, Any]]:
    return [
        row(f"{name}/429s", found.refused * 100, "%", n=found.arrived, target=1.0, at_most=True),
        row(f"{name}/used", found.used * 100, "%", n=found.arrived, target=95.0),
    ]


def main() -> None:
    given = options(__doc__)
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    for binding in LOADS:
        for windows in (False, True):
            for told in ("headers", "retry_after", "nothing"):
                for programs in (1, 300) if not given.quick else (50,):
                    kind = "windows" if windows else "bucket"
                    found = load(binding, programs, windows, told == "headers", told != "nothing", MINUTES)
                    rows += measured(f"{binding}/{kind}/{told}/{programs}", found)
    rows.append(row("seconds for each virtual minute", (time.perf_counter() - start) / len(rows) * 2 / MINUTES, "s"))
    finish(rows, given)


if __name__ == "__main__":
    main()
