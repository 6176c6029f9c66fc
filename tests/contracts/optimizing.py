"""A world for optimisers: lists of three words, a model that gives the middle one if it is told to, and a proposer.

As a script it tells what every optimiser finds in it, for a test that runs it under another PYTHONHASHSEED.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from promptlab import Example, Prompt, ask, gather, run
from promptlab.optimizers import OPTIMIZERS as ROWS
from promptlab.optimizers import evoprompt
from promptlab.testing import Script
from promptlab.types import ModelError, Request

WORDS = "cough rash fever pond barn ice smoke home water red sun tree stone day night bed hand word light milk".split()
SEED = Prompt("Give a word.")
GOOD = (
    "Give the middle word.",
    "Look at the list and answer with what stands in the middle of it.",
    "There are three words: the middle one is wanted, nothing else.",
    "Leave out both ends, so that only the middle remains.",
)
BAD = (
    "Answer politely and briefly.",
    "Think about what the words mean and name the nicest.",
    "Give the opening word of the list.",
    "Which word is about the weather? Say that.",
    "You are an expert in lexicography; pick carefully.",
    "Return the word with the most letters in it.",
    "Name something that people find at home.",
    "Sort by letter, then say what comes last.",
    "Write one word, lower case, no full stop.",
    "Take your time: the answer is among the inputs.",
)

NEEDED = {"pool": {"instructions": (*BAD[:5], GOOD[1])}}  # what a method of the table cannot do without
OPTIMIZERS = {name: partial(optimizer, **NEEDED.get(name, {})) for name, optimizer in ROWS.items()}
OPTIMIZERS["evoprompt, de"] = partial(evoprompt, algorithm="de")


def lists(n: int, seed: int = 0, dress: Callable[[str], str] = str) -> list[Example]:
    """Lists of three words, each with its middle word as the target."""
    rng = Random(seed)
    drawn = list(dict.fromkeys(tuple(rng.sample(WORDS, 3)) for _ in range(3 * n)))[:n]
    return [Example(" ".join(map(dress, words)), dress(words[1])) for words in drawn]


def lot(*parts: object) -> int:
    """A number by hash: the same for the same parts, in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def told(request: Request) -> str:
    return request.messages[0].content


def shown(request: Request) -> str:
    """All that whoever answers can read."""
    return "\n".join(message.content for message in request.messages)


def follower(request: Request) -> str:
    """Answers with the middle word if the instruction asks for it, else with the first."""
    words = request.messages[-1].content.split()
    return words[1] if "middle" in told(request) else words[0]


def proposer(request: Request) -> str:
    """An instruction between tags: a good one every fourth time, as the request's lot has it."""
    number = lot(told(request), request.branch)
    among = BAD if number % 4 else GOOD
    return f"<prompt>{among[number // 4 % len(among)]}</prompt>"


def world(
    answers: Callable[[Request], str] = follower,
    proposes: Callable[[Request], str | ModelError] = proposer,
    batched: bool = True,
) -> Script:
    return Script(lambda r: proposes(r) if r.to == "proposer" else answers(r), batched=batched)


async def in_some_steps(question: Any, prompt: Any) -> Any:
    """A program of two calls, and for some questions of five, in two waves; the last one counts."""
    await gather(ask(prompt.render(question)) for _ in range(1 if lot(question) % 9 else 4))
    reply = await ask(prompt.render(question))
    return prompt.parse(reply.text)


PAIR = {"pick": Prompt("Pick a word."), "write": Prompt("Write the word.")}


async def picked_and_written(question: Any, prompts: Any) -> Any:
    """A program of two prompts, the second of which gets what the first made."""
    picked = await ask(prompts["pick"].render(question))
    written = await ask(prompts["write"].render(picked.text))
    return prompts["write"].parse(written.text)


def of_two_minds(request: Request) -> str:
    """Picks as `follower` does; writes in capitals if it is told to, and sometimes if it is not."""
    said = request.messages[-1].content
    if " " in said:
        return follower(request)
    return said.upper() if "middle" in told(request) or lot(said) % 3 == 0 else said


def all_told(found: Any) -> dict[str, Any]:
    """All of what a search says of itself, as JSON has it."""
    return {
        "best": found.best.told,
        "why": found.why,
        "calls": found.calls,
        "candidates": [[each.key, each.op, *each.parents] for each in found.candidates],
        "rejected": dict(found.rejected),
        "events": list(found.events),
    }


def everything(batched: bool = True) -> dict[str, Any]:
    """What every optimiser finds."""
    found = {name: run(o(SEED, lists(80), calls=300, seed=3), world(batched=batched)) for name, o in OPTIMIZERS.items()}
    return {name: all_told(each.found) for name, each in found.items()}


if __name__ == "__main__":
    print(json.dumps(everything(), default=str))
