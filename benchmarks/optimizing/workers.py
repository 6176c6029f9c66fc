"""A search on a hosted model that answers after 100 ms: 16 requests in flight against one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from behaviours.figures import Rows
from harness import row

from optimizing.accepting import mixed
from promptlab import Request, run
from promptlab.optimizers import pool
from promptlab.prompt import Prompt

LATENCY_S = 0.1


class Hosted:
    """A model behind a wire: each request takes so long, and many may be on their way."""

    batched = False

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        time.sleep(LATENCY_S)
        return list(self.answers.generate(requests))

    async def agenerate(self, requests: Sequence[Request]) -> list[Any]:
        await asyncio.sleep(LATENCY_S)
        return list(self.answers.generate(requests))


def measure(quick: bool) -> Rows:
    made = mixed(3)
    texts = [prompt.instruction for prompt in made.prompts][: 8 if quick else 31]
    took, told = {}, {}
    for workers in (1, 16):
        search = pool(Prompt(texts[0]), made.items[:400], instructions=texts[1:], calls=100 if quick else 1_500)
        start = time.perf_counter()
        found = run(search, Hosted(made.model()), max_in_flight=workers)
        took[workers], told[workers] = time.perf_counter() - start, (found, found.found.events)
    same = told[1] == told[16]
    calls = told[1][0].found.calls
    note = f"{took[16]:.1f} s beside {took[1]:.1f} s for {calls:,} calls; " + (
        "bit-identical" if same else "NOT the same"
    )
    return [row("16 workers on a 100 ms backend: throughput of one", took[1] / took[16], "times", target=10, note=note)]
