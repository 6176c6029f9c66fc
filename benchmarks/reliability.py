"""What may not be lost: calls that were paid for, budgets, entries of a cache that processes share.

    python benchmarks/reliability.py [--quick] [--json FILE]

Kills: 40 programs of two steps ask a server on this machine through a cache file, in one process or divided among 8, 16
in flight in each. All are killed (SIGKILL) when the server has been asked a random number of times, and started once
more. Counted are the calls beyond one for every request and what was in flight at the kill, and runs whose results are
not byte for byte those of a run that nobody killed. Budget: 500 programs at once that ask 3 times each, against a
random budget of calls, tokens or dollars, at a provider that bills at random and fails at random. Cache: two processes
that write 10,000 answers each into one file, half of them to the same questions.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import finish, options, row

from promptlab import Message, ModelError, Reply, Request, Usage, ask, attempt, run
from promptlab.backends.prices import given_price
from promptlab.backends.wrappers import Budget, Budgeted, Cached, Record
from promptlab.errors import Unavailable
from promptlab.testing import FakeServer, Script

PROGRAMS, IN_FLIGHT, STEPS = 40, 16, 2

WORKER = """
import json, sys
from promptlab import ask, model, run

async def program(i):
    first = await ask(f"question {i}", temperature=0.5)
    return (await ask(f"and then, after {first.text}?")).text

url, folder, worker, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
mine = range(worker, int(sys.argv[5]), workers)
backend = model(f"openai:m@{url}", cache=f"{folder}/calls.db")
found = run([program(i) for i in mine], backend, max_in_flight=int(sys.argv[6]))
open(f"{folder}/results-{worker}.json", "w").write(json.dumps(found))
"""

WRITER = """
import sys
from promptlab import Message, Request
from promptlab.backends.wrappers import Cached
from promptlab.testing import Script

path, who, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
cached = Cached(Script(lambda request: request.messages[-1].content * 3), path, identity={"name": "writers"})
for i in range(n):
    cached.generate([Request((Message("user", f"{i}" if i % 2 else f"{who} {i}"),))])
"""


def answered(request: Request) -> Reply:
    time.sleep(0.002)
    return Reply(f"<{request.messages[-1].content}>", usage=Usage(5, 0, 3))


def start(url: str, folder: Path, workers: int) -> list[subprocess.Popen[bytes]]:
    shape = [str(workers), str(PROGRAMS), str(IN_FLIGHT)]
    return [subprocess.Popen([sys.executable, "-c", WORKER, url, str(folder), str(i), *shape]) for i in range(workers)]


def results(folder: Path, workers: int) -> list[bytes]:
    return [(folder / f"results-{i}.json").read_bytes() for i in range(workers)]


def killed(workers: int, at: int) -> tuple[int, list[bytes]]:
    """How often the server was asked in all, with a kill at its `at`-th request, and what came out in the end."""
    with FakeServer(answered) as server, tempfile.TemporaryDirectory() as name:
        processes = start(server.url, Path(name), workers)
        while len(server.received) < at and any(process.poll() is None for process in processes):
            time.sleep(0.0005)
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()
        for process in start(server.url, Path(name), workers):
            if process.wait():
                raise SystemExit("a worker failed after the kill")
        return len(server.received), results(Path(name), workers)


def kills(n: int, workers: int) -> list[dict[str, Any]]:
    with FakeServer(answered) as server, tempfile.TemporaryDirectory() as name:
        for process in start(server.url, Path(name), workers):
            process.wait()
        expected, needed = results(Path(name), workers), len(server.received)
    chance = random.Random(f"kills/{workers}")
    beyond, unequal = 0, 0
    for _ in range(n):
        asked, found = killed(workers, chance.randint(1, PROGRAMS * STEPS))
        beyond = max(beyond, asked - needed - IN_FLIGHT * workers)
        unequal += found != expected
    said = f"killed at random, {workers} worker{'s' * (workers > 1)}: "
    return [
        row(f"{said}most calls beyond N + in flight", max(0, beyond), "calls", n=n, target=0, at_most=True),
        row(f"{said}runs with other results", unequal, "runs", n=n, target=0, at_most=True),
    ]


class Provider:
    """Bills what it serves: a token a byte read, and as many written as it feels like."""

    batched = False
    price = given_price({"input": 1.0, "output": 4.0})

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.calls, self.tokens, self.usd = 0, 0, 0.0

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise NotImplementedError

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [await self.answer(request) for request in requests]

    async def answer(self, request: Request) -> Reply | ModelError:
        self.calls += 1
        usage = Usage(len(request.messages[-1].content), 0, self.chance.randint(0, request.max_tokens or 0))
        await asyncio.sleep(self.chance.random() / 200)
        if self.chance.random() < 0.1:
            return Unavailable("HTTP 500", status=500)
        self.tokens += usage.input_tokens + usage.output_tokens
        self.usd += self.price.cost_usd(usage)
        return Unavailable("the connection broke") if self.chance.random() < 0.1 else Reply("x", usage=usage)


async def thrice(i: int) -> None:
    for step in range(3):
        await attempt(ask(f"question {i}, step {step}", max_tokens=20))


def budgets(n: int) -> list[dict[str, Any]]:
    over = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
    for seed in range(n):
        chance = random.Random(f"budget/{seed}")
        limits: dict[str, Any] = {"calls": chance.randint(0, 1600), "tokens": chance.randint(0, 40_000)}
        limits["usd"] = chance.uniform(0, 0.08)
        kind = chance.choice(list(limits))
        provider, budget = Provider(seed), Budget(**{kind: limits[kind]})
        run([thrice(i) for i in range(500)], Budgeted(provider, budget), max_in_flight=500)
        over[kind] = max(over[kind], getattr(provider, kind) - limits[kind])
    return [
        row(
            f"500 programs against a budget, most {kind} above it",
            max(0.0, most - 1e-12),
            kind,
            n=n,
            target=0,
            at_most=True,
        )
        for kind, most in over.items()
    ]


def shared_cache(n: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/calls.db"
        Record(path).close()
        writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, who, str(n)]) for who in "ab"]
        failed = sum(process.wait() != 0 for process in writers)
        cached = Cached(Script(lambda request: "lost"), path, identity={"name": "writers"})
        questions = {f"{i}" if i % 2 else f"{who} {i}" for i in range(n) for who in "ab"}
        asked = [Request((Message("user", question),)) for question in sorted(questions)]
        wrong = sum(
            reply.text != request.messages[0].content * 3  # type: ignore[union-attr]
            for request, reply in zip(asked, cached.generate(asked), strict=True)
        )
    said = f"two processes, one cache file, {n:,} writes each: lost, torn or failed"
    return [row(said, wrong + failed, "entries", n=len(asked), target=0, at_most=True)]


def main() -> None:
    given = options(__doc__)
    n = 2 if given.quick else 50
    rows = [
        *kills(n, 1),
        *kills(n, 8),
        *budgets(4 if given.quick else 30),
        *shared_cache(1_000 if given.quick else 10_000),
    ]
    finish(rows, given)


if __name__ == "__main__":
    main()
