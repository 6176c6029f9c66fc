"""A call over HTTP from promptlab and from its peers: CPU of the client, and how many were in flight.

    make .venv-peers/ready     # the others in an environment of their own: peers.txt
    .venv-peers/bin/python benchmarks/peers_overhead.py [--quick] [--json FILE]

1,000 calls, 200 in flight, of a server on this machine that answers after 100 ms: every client asks it for the same
chat, connections, tasks and reading the text included. Clients take turns, each in a process of its own, `n` times; the
first 20 calls of a process do not count. Rows give the median, the lowest and the highest, and how many times
promptlab's CPU each peer takes (of turns next to each other). What is not installed is left out, with a note.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from harness import answering, finish, options, peak_of, row

IN_FLIGHT, DELAY_S = 200, 0.1
Asking = Callable[[int], Awaitable[list[str]]]  # the texts of so many answers


def promptlab(url: str) -> Asking:
    from promptlab import arun, ask
    from promptlab.backends.openai import OpenAI

    hosted = OpenAI(f"m@{url}", key="none")  # the peers neither pace nor try again here either

    async def program(i: int) -> str:
        return (await ask(question(i), temperature=0.5)).text

    return lambda calls: arun([program(i) for i in range(calls)], hosted, max_in_flight=IN_FLIGHT)


def raw_aiohttp(url: str) -> Asking:
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def one(text: str) -> str:
        body = {"model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": text}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            return str(json.loads(await response.read())["choices"][0]["message"]["content"])

    return all_of(one)


def openai_sdk(url: str, **options: Any) -> Asking:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0, **options)

    async def one(text: str) -> str:
        said: Any = [{"role": "user", "content": text}]
        answer = await client.chat.completions.create(model="m", temperature=0.5, messages=said)
        return str(answer.choices[0].message.content)

    return all_of(one)


def openai_sdk_on_aiohttp(url: str) -> Asking:
    from openai import DefaultAioHttpClient

    return openai_sdk(url, http_client=DefaultAioHttpClient())


def litellm(url: str) -> Asking:
    import litellm

    options: Any = {"api_base": f"{url}/v1", "api_key": "none", "num_retries": 0, "max_retries": 0}

    async def one(text: str) -> str:
        said = [{"role": "user", "content": text}]
        answer = await litellm.acompletion(model="openai/m", temperature=0.5, messages=said, **options)
        return str(answer.choices[0].message.content)

    return all_of(one)


def dspy(url: str) -> Asking:
    import dspy

    lm = dspy.LM("openai/m", api_base=f"{url}/v1", api_key="none", cache=False, num_retries=0, temperature=0.5)

    async def one(text: str) -> str:
        [answer] = await lm.acall(text)
        return str(answer["text"] if isinstance(answer, dict) else answer)

    return all_of(one)


def langchain_openai(url: str) -> Asking:
    from langchain_openai import ChatOpenAI

    chat: Any = ChatOpenAI(model="m", base_url=f"{url}/v1", api_key="none", max_retries=0, temperature=0.5)

    async def one(text: str) -> str:
        return str((await chat.ainvoke(text)).content)

    return all_of(one)


def pydantic_ai(url: str) -> Asking:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent: Any = Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none")))

    async def one(text: str) -> str:
        return str((await agent.run(text, model_settings={"temperature": 0.5})).output)

    return all_of(one)


CLIENTS: dict[str, tuple[Callable[[str], Asking], str]] = {  # and the package that each needs
    "promptlab": (promptlab, "promptlab"),
    "raw aiohttp": (raw_aiohttp, "aiohttp"),
    "openai SDK": (openai_sdk, "openai"),
    "openai SDK on aiohttp": (openai_sdk_on_aiohttp, "aiohttp"),
    "litellm": (litellm, "litellm"),
    "dspy.LM": (dspy, "dspy"),
    "langchain-openai": (langchain_openai, "langchain_openai"),
    "pydantic-ai": (pydantic_ai, "pydantic_ai"),
}


def question(i: int) -> str:
    return f"question {i}: what now?"


def all_of(one: Callable[[str], Awaitable[str]]) -> Asking:
    """Many calls of a client that makes one, no more than so many at a time."""

    async def asking(calls: int) -> list[str]:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def held(i: int) -> str:
            async with slots:
                return await one(question(i))

        return await asyncio.gather(*(held(i) for i in range(calls)))

    return asking


def turn(client: str, url: str, calls: int) -> dict[str, float]:
    """CPU in ms a call, seconds in all, and the peak, from a process of its own."""
    command = [sys.executable, __file__, "--client", client, "--url", url, "--calls", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{client} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def measured(client: str, url: str, calls: int) -> dict[str, float]:
    asking = CLIENTS[client][0](url)
    await asking(20)
    peak_of(url)
    started, used = time.perf_counter(), time.process_time()
    answers = await asking(calls)
    took, cpu = time.perf_counter() - started, time.process_time() - used
    assert answers == ["hello there"] * calls, answers[:3]
    print(json.dumps({"cpu": cpu / calls * 1000, "wall": took, "peak": peak_of(url)}), flush=True)
    os._exit(0)  # not all clients can be closed


def rows_of(client: str, turns: list[dict[str, float]], ours: list[dict[str, float]]) -> list[dict[str, Any]]:
    def told(what: str, unit: str, values: list[float]) -> dict[str, Any]:
        low, high = min(values), max(values)
        return row(f"{client}: {what}", statistics.median(values), unit, low=low, high=high, n=len(values))

    found = [
        told("client CPU a call", "ms CPU/call", [each["cpu"] for each in turns]),
        told("all calls", "s", [each["wall"] for each in turns]),
        told("in flight at the peak", "requests", [each["peak"] for each in turns]),
    ]
    if client != "promptlab":
        times = [theirs["cpu"] / own["cpu"] for theirs, own in zip(turns, ours, strict=True)]
        found.append(told("CPU relative to promptlab's", "times", times))
    return found


def study(given: argparse.Namespace) -> None:
    there = [name for name, (_, package) in CLIENTS.items() if importlib.util.find_spec(package)]
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in there}
    n, calls = (1, 200) if given.quick else (5, 1000)
    with answering(DELAY_S) as url:
        for _ in range(n):
            for name in there:
                turns[name].append(turn(name, url, calls))
    rows = [each for name in there for each in rows_of(name, turns[name], turns["promptlab"])]
    for name, (_, package) in CLIENTS.items():
        if name not in there:
            rows.append(row(f"{name}: client CPU a call", None, "ms CPU/call", note=f"{package} is not installed"))
    packages = ("aiohttp", "openai", "litellm", "dspy", "langchain-openai", "pydantic-ai-slim")
    finish(rows, given, packages=packages)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        asyncio.run(measured(sys.argv[2], sys.argv[4], int(sys.argv[6])))
    else:
        study(options(__doc__))
