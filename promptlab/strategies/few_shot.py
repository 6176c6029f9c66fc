"""In-context learning: the same question after some answered ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from promptlab.prompt import Prompt
from promptlab.strategies.zero_shot import zero_shot
from promptlab.types import Answer, Example


async def few_shot(question: str, shots: Iterable[Example], prompt: Prompt = Prompt(), **options: Any) -> Answer:
    """Brown et al. 2020 (arXiv 2005.14165): demonstrations as earlier turns of the chat, in the order given.

    Which to show, and in which order, is chosen by `promptlab.strategies.shots`.

    Prompt: what is wanted, each demonstration as a question and its answer, the question.
    Stop: the model's own end, `max_tokens` or `stop`.
    Parse: as the prompt's output and rule say; a reply that cannot be read is no answer.
    Ties: none, as there is one reply.
    Cost: 1 call, 1 wave; each demonstration lengthens what is read.
    Pinned by: tests/test_strategies.py; tests/test_shots.py
    """
    return await zero_shot(question, prompt.with_shots(shots), **options)
