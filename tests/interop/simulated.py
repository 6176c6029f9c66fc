"""A simulated model for whoever asks: of items it knows nine in ten where it is told of a hospital, else six."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Literal

from promptlab import Example, Prompt
from promptlab.types import Reply, Request, Usage

PROMPT = Prompt("Say whether it is open.", Literal["yes", "no"])
PLACES = ["hospital", "ward", "day", "care"]


def examples(n: int) -> list[Example]:
    return [Example(f"item {i}", "yes" if i % 2 else "no", id=str(i)) for i in range(n)]


def share(*parts: object) -> float:
    """A number from 0 to 1 by chance, the same for the same words."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big") / 2**64


def wanted(asked: str) -> list[str]:
    """The fields that DSPy asks for, in either of its formats."""
    tail = asked.rpartition("Respond with ")[2] if "Respond with " in asked else ""
    return [name for name in re.findall(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`", tail) if name != "completed"]


def simulated(request: Request) -> Reply:
    """Its answer in the format that is asked for: DSPy's fields, its JSON, GEPA's fence, or the bare label."""
    asked = request.messages[-1].content
    usage = Usage(len(asked), 0, 5, cost_usd=0.001)
    fields = wanted(asked)
    proposal = f"Say whether the {PLACES[int(share(request.branch, asked) * 4)]} is open."
    if "new instruction for the assistant" in asked:
        return Reply(f"```\n{proposal}\n```", usage=usage)
    said = proposal if fields and fields[-1] != "answer" else answer(request)
    if not fields:
        return Reply(said, usage=usage)
    told = {name: said if name == fields[-1] else proposal for name in fields}
    if "JSON" in asked:
        return Reply(json.dumps(told), usage=usage)
    return Reply("\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in told.items()), usage=usage)


def answer(request: Request) -> str:
    item = int(re.findall(r"item (\d+)", request.messages[-1].content)[-1])
    right = share("item", item) < (0.9 if "hospital" in request.messages[0].content else 0.6)
    return "yes" if right == bool(item % 2) else "no"
