"""Answer, have the answer criticised, and mend it."""

from __future__ import annotations

from typing import Any

from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.strategies.asking import beside
from promptlab.strategies.feedback import Feedback, Trial, by_itself, concluded
from promptlab.types import Answer, Message

REFINE = "What was said of your answer: {feedback}\n\nAnswer the question again, with that in mind."


async def self_refine(
    question: str, prompt: Prompt = Prompt(), feedback: Feedback | None = None, rounds: int = 4, **options: Any
) -> Answer:
    """Madaan et al. 2023 (arXiv 2303.17651): an answer, feedback on it, and a refined answer, until there is no fault.

    Prompt: that of `prompt`; to refine, the first question, the latest answer and what was said of it.
    Stop: none.
    Parse: that of `prompt`; the judge's last line has to be CORRECT.
    Hyper-parameters: `rounds`, the answers at most (the paper's 4), `feedback` (left out: its own).
    Ties: the last answer counts.
    Cost: at most `rounds` answers, and a judgement of each.
    Pinned by: `tests/test_reflexion.py`; recorded runs are not at hand.

    `trace` is the `Trials`. Differs from the paper's code: feedback is asked for without claiming that there is an
    error, it comes in a call of its own, the prompt does not grow with each round, and an answer that cannot be read is
    one to refine rather than dropped.
    """
    feedback = feedback or by_itself(**beside(options))
    chat = prompt.render(question)
    done: list[Trial] = []
    asked = chat
    while True:
        reply = await ask(asked, **options)
        answer = prompt.parse(reply.text).but(shots=len(prompt.shots))
        wrong = await feedback.judge(question, answer)
        done.append(Trial(answer, wrong))
        if wrong is None or len(done) >= rounds:
            return concluded(done, feedback.source)
        asked = [*chat, Message("assistant", reply.text or "(nothing)"), Message("user", REFINE.format(feedback=wrong))]
