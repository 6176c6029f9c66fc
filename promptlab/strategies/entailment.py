"""Choose among labels by whether a text entails a sentence made of each: zero-shot classification as inference."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.errors import SetupError
from promptlab.program import score
from promptlab.types import Answer

HYPOTHESIS = "This example is {}."


async def entailed_label(question: str, labels: Sequence[str], hypothesis: str = HYPOTHESIS) -> Answer:
    """The label whose hypothesis the question entails most (Yin et al. 2019, arXiv 1909.00161), on an NLI model.

    `hypothesis` is a sentence with a label in place of {}. Differs: the entailment of all labels is compared before the
    softmax, as the zero-shot-classification pipeline of `transformers` does, and there is no "none of them". Raises
    SetupError for fewer than two labels or a hypothesis without {}.

    Prompt: the question as the premise, and the hypothesis once for each label.
    Stop: nothing is generated.
    Parse: nothing is read: each label's entailment is in `scores`.
    Ties: the label that comes first.
    Cost: 1 scoring call of as many hypotheses as labels, 1 wave.
    Pinned by: tests/test_nli_and_mask.py
    """
    if len(labels) < 2 or "{}" not in hypothesis:
        raise SetupError(f"entailed_label takes two labels or more, and a hypothesis with {{}}; got {hypothesis!r}.")
    log_p = await score(question, [hypothesis.replace("{}", label) for label in labels])
    scores = dict(zip(labels, log_p, strict=True))
    best = max(scores, key=scores.__getitem__)
    return Answer(best, best, scores=scores)
