"""Models for runs of `promptlab optimize` in processes of their own, and a file for them.

`--model searches:Words/CALLS` gives the second of three words if it is told to, else mostly the first, and proposes
when it is asked for an instruction. Every request is a line of the file CALLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from promptlab import ModelError, Reply, Request, Usage
from promptlab.backends.prices import given_price

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand word light".split()
GOOD, FAIR = "Give the second word of the three", "Say a word that stands in the text"


class Words:
    """A hosted model that answers each request after `delay_s`."""

    batched = False
    local = True
    delay_s = 0.0

    def __init__(self, calls: str = os.devnull) -> None:
        self.calls = calls

    @property
    def identity(self) -> dict:
        return {"kind": type(self).__name__}

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        for request in requests:
            self.note(request)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return [Reply(said(request), usage=Usage(20, output_tokens=3)) for request in requests]

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return asyncio.run(self.agenerate(requests))

    def note(self, request: Request) -> None:
        """What tells one request from all others, in a line."""
        key = hashlib.sha256(repr((request.messages, request.branch)).encode()).hexdigest()[:16]
        file = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{key}\n".encode())
        os.close(file)


class Slow(Words):
    delay_s = 0.01


class Priced(Words):
    """32 millionths of a dollar an answer."""

    price = given_price({"input": 1.0, "output": 4.0})


class Nameless(Words):
    identity = None


class Engine(Words):
    """The same in this process, a batch at a time."""

    batched = True
    agenerate = None  # type: ignore[assignment]

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        for request in requests:
            self.note(request)
        return [Reply(said(request), usage=Usage(20, output_tokens=3)) for request in requests]


class Down(Words):
    async def agenerate(self, requests):
        return [ModelError("the server is down") for _ in requests]


class Mute(Words):
    """Answers what has an instruction, and not a request for one."""

    async def agenerate(self, requests):
        replies = await super().agenerate(requests)
        alone = [len(request.messages) == 1 for request in requests]
        return [ModelError("no credit") if a else reply for a, reply in zip(alone, replies, strict=True)]


def said(request: Request) -> str:
    """What a model of this kind says: nothing that a clock or another request could change."""
    asked = request.messages[-1].content
    if len(request.messages) == 1 and ("instruction" in asked or "variation" in asked):
        number = int(hashlib.sha256(repr((asked, request.branch)).encode()).hexdigest()[:4], 16)
        return f"{GOOD if number % 2 == 0 else FAIR}, {WORDS[number % len(WORDS)]} or not."
    told = request.messages[0].content.casefold() if len(request.messages) > 1 else ""
    words = asked.split()
    chance = Random(f"{asked}/{told}").random()
    if "second" in told:
        return words[1] if chance < 0.9 else words[0]
    return words[0] if chance < 0.7 else words[1]


def write_lists(path: Path, n: int = 200, seed: int = 0) -> Path:
    """Three words and the second of them, a row each."""
    rng = Random(seed)
    rows = list(dict.fromkeys(tuple(rng.sample(WORDS, 3)) for _ in range(3 * n)))[:n]
    path.write_text("\n".join(["text,label", *(f"{' '.join(row)},{row[1]}" for row in rows)]) + "\n")
    return path


def called(calls: Path) -> list[str]:
    return calls.read_text().split() if calls.exists() else []


class Judge(Words):
    """Prefers the answer that is the second word of the input, wherever it stands."""

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        for request in requests:
            self.note(request)
        return [Reply(preferred(request.messages[-1].content)) for request in requests]


def preferred(asked: str) -> str:
    given, a, b = (asked.split(f"{name}:\n")[1].split("\n")[0] for name in ("Input", "Answer A", "Answer B"))
    wanted = given.split()[1]
    return "tie" if (a == wanted) == (b == wanted) else "A" if a == wanted else "B"
