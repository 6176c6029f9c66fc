"""Ask, and read the reply."""

from __future__ import annotations

from typing import Any

from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.types import Answer


async def zero_shot(question: str, prompt: Prompt = Prompt(), **options: Any) -> Answer:
    """One request, one answer. `options` are those of `ask`: temperature, max_tokens, stop, …

    Prompt: `prompt` as it is: what is wanted and what an answer looks like, its demonstrations, the question.
    Stop: the model's own end, `max_tokens` or `stop`.
    Parse: as the prompt's output and rule say; a reply that cannot be read is no answer.
    Ties: none, as there is one reply.
    Cost: 1 call, 1 wave.
    Pinned by: tests/test_strategies.py; benchmarks/replays/gsm8k.py; benchmarks/replays/bbh.py
    """
    reply = await ask(prompt.render(question), **options)
    answer = prompt.parse(reply.text)
    return answer.but(shots=len(prompt.shots), logprob=reply.logprob, confidence=reply.confidence)
