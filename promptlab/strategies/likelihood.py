"""Choose among labels by their log-probability instead of by what the model writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from promptlab.alternatives import overlap
from promptlab.errors import SetupError
from promptlab.program import gather, score
from promptlab.prompt import Prompt
from promptlab.types import Answer

CONTENT_FREE = ("N/A", "[MASK]", "")  # Zhao et al. 2021, section 5


async def likeliest_label(question: str, prompt: Prompt, calibrated: bool = False) -> Answer:
    """The label of `prompt.labels` with the highest log-probability as the reply (summed over its tokens, nats).

    Where a label begins another ("severe", "severe pain"), replies that go on to the longer one are only that one's.
    With `calibrated`, contextual calibration (Zhao et al. 2021, arXiv 2102.09690, eq. 1 with W = diag(p_cf)⁻¹, b = 0):
    each label's probability is divided by the one it has when the question says nothing, averaged over three such
    questions. Differs: the quotients are divided by their sum, not put through a softmax; the argmax is the same.
    Raises SetupError for a prompt without labels.

    Prompt: `prompt` as it is, its demonstrations, the question; with `calibrated` three more without a question.
    Stop: nothing is generated.
    Parse: nothing is read: each label's log-probability is in `scores`.
    Ties: the label that comes first in the prompt's output.
    Cost: 1 scoring call of as many continuations as labels, or 4 with `calibrated`, in 1 wave.
    Pinned by: tests/test_strategies.py
    """
    if not prompt.labels:
        raise SetupError(f"likeliest_label needs labels to choose from; this prompt's output is {prompt.output!r}.")
    chats = [prompt.render(q) for q in (question, *(CONTENT_FREE if calibrated else ()))]
    alternatives = overlap(prompt.labels)
    asked, *free = await gather(score(chat, prompt.labels, alternatives=alternatives) for chat in chats)
    if free:
        p_cf = [sum(column) / len(free) for column in zip(*map(normalised, free), strict=True)]  # (labels,)
        quotients = [p / q for p, q in zip(normalised(asked), p_cf, strict=True)]
        asked = [math.log(quotient / sum(quotients)) for quotient in quotients]
    scores = dict(zip(prompt.labels, asked, strict=True))
    best = max(scores, key=scores.__getitem__)
    return Answer(best, best, scores=scores, shots=len(prompt.shots))


async def calibrated(question: str, prompt: Prompt) -> Answer:
    """`likeliest_label` with contextual calibration, as a `solve` for optimisers: 4 scoring calls an answer."""
    return await likeliest_label(question, prompt, calibrated=True)


def normalised(log_p: Sequence[float]) -> list[float]:
    """Probabilities among the labels only: softmax of their log-probabilities."""
    top = max(log_p)
    p = [max(math.exp(x - top), 1e-12) for x in log_p]
    return [x / sum(p) for x in p]
