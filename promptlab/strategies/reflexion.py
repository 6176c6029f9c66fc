"""Try, reflect in words on what went wrong, and try again with that in mind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from promptlab.program import Program, ask
from promptlab.strategies.asking import beside
from promptlab.strategies.feedback import Feedback, Trial, concluded
from promptlab.types import Answer

REFLECT = (
    "You tried to answer a question and did not succeed.\n\nQuestion: {question}\n\nYour answer: {answer}\n\nWhat is "
    "wrong: {feedback}\n\nIn a few sentences, say why it went wrong and what you will do differently. Do not answer."
)
REMEMBER = "{question}\n\nYou have tried this before. What you learnt:\n{memories}"


async def reflexion(
    question: str,
    attempt: Callable[..., Program[Answer]],
    feedback: Feedback,
    trials: int = 3,
    memories: int = 3,
    **options: Any,
) -> Answer:
    """Shinn et al. 2023 (arXiv 2303.11366): trial, feedback, a reflection in words, and the next trial with it.

    Prompt: the question of `attempt(question, **options)`, such as `react` with its tools filled in, and below it the
    last `memories` reflections; reflections are asked for with the question, the answer and the feedback, and by those
    of `options` that suit them (`max_tokens`, `temperature`, `top_p`, `seed`, `to`).
    Stop: none of its own.
    Parse: that of `attempt`.
    Hyper-parameters: `trials`, `memories` (the paper's 3), the feedback's `source`.
    Ties: the last answer counts, since the feedback on those before it found fault with them.
    Cost: a trial's own calls, those of the judge, and one for a reflection between two trials.
    Pinned by: `tests/test_reflexion.py`; recorded trials are not at hand.

    `trace` is the `Trials`: with "oracle" as their source the answer was found with the gold label's help. Differs from
    the paper's code: the label is not used unless that is what the feedback is declared to rest on, an answer that
    cannot be read is a failed trial and does not end the run, and there are no demonstrations of reflections.
    """
    done: list[Trial] = []
    learnt: list[str] = []
    while True:
        asked = REMEMBER.format(question=question, memories="\n".join(learnt[-memories:])) if learnt else question
        answer = await attempt(asked, **options)
        wrong = await feedback.judge(question, answer)
        done.append(Trial(answer, wrong))
        if wrong is None or len(done) >= trials:
            return concluded(done, feedback.source)
        said = answer.text or answer.value or f"none ({answer.why})"
        reply = await ask(REFLECT.format(question=question, answer=said, feedback=wrong), **beside(options))
        learnt.append(f"- {' '.join(reply.text.split())}")
