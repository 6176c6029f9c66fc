"""Reason first, then answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptlab.program import ask
from promptlab.prompt import ANSWER_IS, EMPHASIS, Prompt, shown
from promptlab.types import Answer, Message

STEP_BY_STEP = "Let's think step by step."


def triggered(question: str | Mapping[str, str]) -> str:
    """The question as it is asked here."""
    return f"{shown(question)}\n{STEP_BY_STEP}"


async def chain_of_thought(question: str, prompt: Prompt = Prompt(), **options: Any) -> Answer:
    """Wei et al. 2022 (arXiv 2201.11903), with the trigger of Kojima et al. 2022 (arXiv 2205.11916).

    The answer is what follows the last "the answer is", of free text the rest of that line; a reply without one is no
    answer. Differs from Kojima: one call, not a second one to extract the answer. Demonstrations, if any, are shown as
    they stand in `prompt.shots`, so they should hold worked solutions ending in "The answer is …" (`shots.concluded`
    makes bare targets end so). The whole reply is in `trace`.
    """
    chat = prompt.render(question)
    chat[-1] = Message("user", triggered(question))
    reply = await ask(chat, **options)
    if not ANSWER_IS.search(reply.text):
        return Answer(None, reply.text, "the reply does not say what the answer is", trace=reply.text)
    answer = prompt.parse(reply.text)
    if isinstance(answer.value, str) and not prompt.labels:  # so that "**7**." and "7" are one vote
        final = answer.value.splitlines()[0].strip(EMPHASIS).removesuffix(".").strip(EMPHASIS)
        answer = answer.but(value=final, text=final) if final else Answer(None, reply.text, "the answer is empty")
    return answer.but(trace=reply.text, shots=len(prompt.shots))
