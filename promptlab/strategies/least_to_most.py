"""Take a question apart, and answer the parts from the simplest to the whole."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from promptlab.program import ask
from promptlab.prompt import Prompt, shown
from promptlab.strategies.chain_of_thought import conclusion
from promptlab.types import Answer, Message

DECOMPOSE = (
    "{}\n\nDo not answer this yet. Which simpler questions have to be answered first? "
    'Write them one a line, the simplest first, or "none".'
)
LAST = "{}\nEnd with: The answer is …"
SUB_QUESTION = re.compile(
    r"^[ \t]*(?:[-*•]|\(?\d+[.):]|Q\d*:)?\s*[\"“*_]*(?P<question>\w.*\?)\s*[\"”*_]*\s*$", re.MULTILINE
)


async def least_to_most(question: str, prompt: Prompt = Prompt(), *, most: int = 8, **options: Any) -> Answer:
    """Zhou et al. 2022 (arXiv 2205.10625): decompose, then solve the sub-questions in order, earlier answers in sight.

    Differs from the paper: decomposing is asked for in words, without exemplars of its own; there are at most `most`
    sub-questions; a question that is not taken apart is answered straight away. `trace` holds the sub-questions with
    their replies, the question itself last.

    Prompt: the question, and that simpler questions are wanted; then `prompt`, its demonstrations, and each
        sub-question as a turn of one chat, the first below the question's wording; last the question itself, whose
        reply is to end in "The answer is …".
    Stop: the model's own end, or `max_tokens` in each call.
    Parse: lines that end in a question mark are the sub-questions; of the last reply what follows the last "the answer
        is" or stands in a box; without one it is no answer.
    Ties: none, as there is one last reply.
    Cost: 2 + k calls, one after the other, for k sub-questions; each reads all before it again.
    Pinned by: tests/test_reasoning.py
    """
    asked = shown(question)
    parts = await ask(DECOMPOSE.format(asked), **options)
    wanted = [match["question"] for match in SUB_QUESTION.finditer(parts.text)]
    steps = [each for each in dict.fromkeys(wanted) if each.casefold() != asked.strip().casefold()][:most]
    chat = prompt.render(question)[:-1]
    trace: list[tuple[str, str]] = []
    for step in [*steps, LAST.format(asked)]:
        chat.append(Message("user", f"{asked}\n\n{step}" if not trace and steps else step))
        reply = await ask(chat, **options)
        chat.append(reply.message)
        trace.append((step, reply.text))
    return conclusion(reply, prompt, replace(prompt.rule, required=True)).but(
        trace=tuple(trace), shots=len(prompt.shots)
    )
