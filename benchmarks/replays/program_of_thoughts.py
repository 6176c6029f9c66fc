"""Programs that Codex wrote for GSM8K (Chen et al. 2022, arXiv 2211.12588), executed again in the sandbox.

Recorded is what each came to; the programs are those of wenhuchen/Program-of-Thoughts. Every program gets a sandbox of
its own, as one from a model always does. A program that fails or takes too long comes to nothing, as recorded.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import DATA, row

from promptlab.errors import SetupError
from promptlab.tools.sandbox import Limits, Sandbox

FILE = DATA.parent / "recorded" / "program_of_thoughts_gsm8k_even.jsonl.gz"
LIMITS = Limits(cpu_s=5, wall_s=60.0)  # the original's five seconds, of a processor's time: machines are busy
QUICK = 150
NAMES = {
    "PoT GSM8K: programs with the recorded result": "share",
    "PoT GSM8K: programs a second": "1/s",
    "PoT GSM8K: processor time a program": "ms",  # all of its sandbox's; the endless ones' five seconds included
}
TELL = "\nprint()\nprint(repr(float(ans)))\n"  # after what it prints itself, as their code takes it: float(ans)


def executed(program: str, sandbox: Sandbox) -> float | None:
    """What a program leaves in `ans`, as a number; None where it fails. Raises TimeoutError where it does not end."""
    ran = sandbox.run(program + TELL)
    if ran.timed_out:
        raise TimeoutError
    return float(ran.stdout.strip().splitlines()[-1]) if ran.code == 0 else None


def compare(records: Sequence[dict[str, Any]], sandbox: Sandbox, at_once: int = 1) -> dict[str, int]:
    """How many records come to what was recorded, to something else, or to no end where a result is recorded."""

    def verdict(record: dict[str, Any]) -> str:
        try:
            found = executed(record["generated"][0], sandbox)
        except TimeoutError:
            return "same" if record["executed"] is None else "timed out"
        return "same" if found == record["executed"] else "different"

    with ThreadPoolExecutor(at_once) as pool:
        verdicts = list(pool.map(verdict, records))
    return {each: verdicts.count(each) for each in ("same", "timed out", "different")}


def read(path: Path = FILE) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [record for record in map(json.loads, lines) if "generated" in record]


def measure(quick: bool) -> list[dict[str, Any]]:
    def unmeasured(why: str) -> list[dict[str, Any]]:
        return [row(name, None, unit, note=why) for name, unit in NAMES.items()]

    if not FILE.exists():
        return unmeasured("the recording is not at hand")
    try:
        sandbox = Sandbox(LIMITS)
    except SetupError as error:
        return unmeasured(str(error))
    records = read()[: QUICK if quick else None]
    started, used_before = time.perf_counter(), processor_s()
    found = compare(records, sandbox, at_once=os.cpu_count() or 1)
    seconds = time.perf_counter() - started
    sandbox.close()
    values = len(records) / seconds, 1000 * (processor_s() - used_before) / len(records)
    n = len(records)
    told = ", ".join(f"{count} {name}" for name, count in found.items())
    how = f"isolated by {sandbox.isolation}, {os.cpu_count()} at once"
    (same, _), *rest = NAMES.items()
    return [
        row(same, found["same"] / n, "share", n=n, target=(n - 1) / n, note=told),  # one takes too long
        *(row(name, value, unit, n=n, note=how) for (name, unit), value in zip(rest, values, strict=True)),
    ]


def processor_s() -> float:
    """What processes that have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
