"""Ask, and read the reply."""

from __future__ import annotations

from typing import Any

from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.types import Answer


async def zero_shot(question: str, prompt: Prompt = Prompt(), **options: Any) -> Answer:
    """One request, one answer. `options` are those of `ask`: temperature, max_tokens, stop, …"""
    reply = await ask(prompt.render(question), **options)
    return prompt.parse(reply.text).but(shots=len(prompt.shots))
