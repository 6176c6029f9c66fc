"""Reason first, then answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from promptlab.extraction import EMPHASIS, Rule
from promptlab.program import ask
from promptlab.prompt import Prompt, shown
from promptlab.types import Answer, Message, Reply

STEP_BY_STEP = "Let's think step by step."


def triggered(question: str | Mapping[str, str]) -> str:
    """The question as it is asked here."""
    return f"{shown(question)}\n{STEP_BY_STEP}"


async def chain_of_thought(question: str, prompt: Prompt = Prompt(), **options: Any) -> Answer:
    """Wei et al. 2022 (arXiv 2201.11903), with the trigger of Kojima et al. 2022 (arXiv 2205.11916).

    Differs from Kojima: one call, not a second one to extract the answer (`zero_shot_cot` has both). Demonstrations
    should hold worked solutions ending in "The answer is …" (`shots.concluded` makes bare targets end so). The whole
    reply is in `trace`.

    Prompt: the demonstrations as they stand in `prompt.shots`; the question and, on a line of its own, "Let's think
        step by step."
    Stop: the model's own end, or `max_tokens`.
    Parse: what follows the last "the answer is" or stands in a box, of free text the rest of that line; a reply
        without one is no answer.
    Ties: none, as there is one reply.
    Cost: 1 call, 1 wave.
    Pinned by: tests/test_strategies.py; benchmarks/replays/bbh.py
    """
    chat = prompt.render(question)
    chat[-1] = Message("user", triggered(prompt.framed(question)))
    reply = await ask(chat, **options)
    answer = conclusion(reply, prompt, replace(prompt.rule, required=True))
    return answer.but(trace=reply.text, shots=len(prompt.shots))


def conclusion(reply: Reply, prompt: Prompt, rule: Rule) -> Answer:
    """The answer that a reply ends in; of free text its first line, so that "**7**." and "7" are one vote."""
    answer = prompt.parse(reply.text, rule).but(logprob=reply.logprob, confidence=reply.confidence)
    if prompt.output is not str or answer.value is None:
        return answer
    final = answer.value.strip().splitlines()[0].strip(EMPHASIS).removesuffix(".").strip(EMPHASIS)
    if not final:
        return answer.but(value=None, text=reply.text, why="the answer is empty", found="")
    return answer.but(value=final, text=final)
