"""Reason without demonstrations, then ask for the answer in a second call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.strategies.chain_of_thought import STEP_BY_STEP, conclusion
from promptlab.types import Answer, Message


async def zero_shot_cot(
    question: str, prompt: Prompt = Prompt(), *, trigger: str = STEP_BY_STEP, **options: Any
) -> Answer:
    """Kojima et al. 2022 (arXiv 2205.11916), section 3: one call to reason, a second to extract the answer.

    Differs from the authors' code: the chain is a turn of the chat, not the beginning of a text to go on with; it is
    not cut at 128 tokens (which there left 29 % of GSM8K's chains unfinished); labels are read as words, not as
    letters anywhere. Both replies are in `trace`.

    Prompt: the question and, on a line of its own, the trigger, "Let's think step by step."; then the same chat with
        the chain in it, and "Therefore, the answer (arabic numerals) is", "… (Yes or No) is", "among A, B, C, the
        answer is" or "the answer is", by the type of the output.
    Stop: the model's own end, or `max_tokens` in each call.
    Parse: what the second reply says after "the answer is", or all of it; the first number where there are several,
        of free text the first line.
    Ties: none, as there is one second reply.
    Cost: 2 calls, 2 waves; the second reads the first's prompt and reply again.
    Pinned by: tests/test_reasoning.py
    """
    chat = prompt.render(question)
    chat[-1] = Message("user", f"{prompt.framed(question)}\n{trigger}")
    chain = await ask(chat, **options)
    chat += [chain.message, Message("user", answer_trigger(prompt))]
    reply = await ask(chat, **options)
    answer = conclusion(reply, prompt, replace(prompt.rule, of_numbers="first"))
    return answer.but(trace=(chain.text, reply.text), shots=len(prompt.shots))


def answer_trigger(prompt: Prompt) -> str:
    """The words that ask for an answer of the prompt's type: the paper's table 9, with the labels themselves."""
    if prompt.labels:
        return f"Therefore, among {', '.join(prompt.labels)}, the answer is"
    kind = {int: " (arabic numerals)", float: " (arabic numerals)", bool: " (Yes or No)"}.get(prompt.output, "")
    return f"Therefore, the answer{kind} is"
