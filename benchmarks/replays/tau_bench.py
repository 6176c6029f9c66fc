"""tau-bench, airline, gpt-4o: recorded conversations of a user with an agent that calls tools, through our `react`.

The user and the tools say what they said; the agent's turns are the recorded ones. Its rewards, by the state of a
database that is not at hand, are credited only where our loop makes the very same calls.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from harness import DATA, row

from promptlab import Message, Reply, Tool, run
from promptlab.compare.trials import pass_hat
from promptlab.program import Program
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.types import ToolCall, ToolSpec

FILE = DATA.parent / "recorded" / "tau_bench_gpt-4o-airline_even100.json.gz"
TRIALS = 4


class Episode(NamedTuple):
    task: int
    reward: float
    turns: list[dict[str, Any]]


class Called(NamedTuple):
    name: str
    arguments: dict[str, Any]
    result: str


def episodes() -> list[Episode]:
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        return [Episode(each["task_id"], each["reward"], each["traj"]) for each in json.load(file)]


def calls_of(turn: dict[str, Any]) -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in turn.get("tool_calls") or ()
    )


def recorded_calls(episode: Episode) -> Iterator[Called]:
    for turn, after in pairwise(episode.turns):
        for call in calls_of(turn):
            yield Called(call.name, dict(call.arguments), after["content"])


def tools_of(episode: Episode) -> list[Tool]:
    """Tools by the names called, that give what was given, in the order it was."""
    results = iter([turn["content"] for turn in episode.turns if turn["role"] == "tool"])
    names = sorted({call.name for turn in episode.turns for call in calls_of(turn)})
    return [Tool(ToolSpec(name, "As recorded.", {"type": "object"}), lambda **_: next(results)) for name in names]


async def conversation(episode: Episode) -> tuple[Message, ...]:
    """The whole chat: `react` goes on with it whenever the user has said something."""
    tools = tools_of(episode)
    chat = [Message("system", episode.turns[0]["content"])]
    said = [i for i, turn in enumerate(episode.turns) if turn["role"] == "user"]
    for start, end in pairwise([*said, len(episode.turns)]):
        steps = sum(turn["role"] == "assistant" for turn in episode.turns[start:end])
        chat.append(Message("user", episode.turns[start]["content"]))
        if steps:  # else the user has ended it
            chat = list((await react(chat, tools, max_steps=steps)).trace)
    return tuple(chat)


def replayed(episode: Episode) -> tuple[Message, ...]:
    turns = [turn for turn in episode.turns if turn["role"] == "assistant"]
    program: Program[tuple[Message, ...]] = conversation(episode)
    return run(program, Script([Reply(turn["content"] or "", calls_of(turn)) for turn in turns]))


def made_calls(chat: Sequence[Message]) -> list[Called]:
    results = {message.call_id: message.content for message in chat if message.role == "tool"}
    return [Called(call.name, dict(call.arguments), results[call.id]) for m in chat for call in m.calls]


def by_task(episodes: Sequence[Episode], succeeded: Sequence[bool]) -> dict[int, list[bool]]:
    found: dict[int, list[bool]] = defaultdict(list)
    for episode, success in zip(episodes, succeeded, strict=True):
        found[episode.task].append(success)
    return found


def measure(quick: bool) -> Sequence[dict[str, Any]]:
    if not FILE.exists():
        return [row("tau-bench: same calls", None, "episodes", note="the recording is not at hand")]
    all_of = episodes()
    n, started = len(all_of), time.perf_counter()
    chats = [replayed(each) for each in all_of]
    seconds = time.perf_counter() - started
    same = [made_calls(chat) == list(recorded_calls(each)) for chat, each in zip(chats, all_of, strict=True)]
    ids = [[call.id for message in chat for call in message.calls] for chat in chats]
    answered = [[message.call_id for message in chat if message.role == "tool"] for chat in chats]
    once = sum(a == b and len(set(a)) == len(a) for a, b in zip(ids, answered, strict=True))
    then = by_task(all_of, [each.reward == 1 for each in all_of])
    now = by_task(all_of, [each.reward == 1 and fine for each, fine in zip(all_of, same, strict=True)])
    calls = sum(map(len, ids))
    return [
        row(
            "tau-bench airline: the same calls and results",
            sum(same),
            "episodes",
            n=n,
            target=n,
            note=f"{calls:,} calls",
        ),
        row("tau-bench airline: each id once, answered in order", once, "episodes", n=n, target=n),
        *(
            row(
                f"tau-bench airline: pass^{k}",
                pass_hat(k, now.values()),
                "share",
                n=len(now),
                target=pass_hat(k, then.values()),
            )
            for k in range(1, TRIALS + 1)
        ),
        row("tau-bench airline: all episodes, once", seconds, "s", n=n),
    ]
