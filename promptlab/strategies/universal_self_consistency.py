"""Sample several answers and let the model itself say which is the most consistent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from promptlab.errors import ModelError
from promptlab.program import ask, attempt
from promptlab.prompt import shown
from promptlab.strategies.asking import beside
from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.strategies.self_consistency import Path, answered
from promptlab.strategies.voting import elected, majority
from promptlab.types import Answer

CHOSEN = re.compile(r"\bresponse\s*(?:#\s*)?(\d+)", re.IGNORECASE)


async def universal_self_consistency(
    question: str, path: Path = chain_of_thought, n: int = 5, temperature: float | None = 0.7, **options: Any
) -> Answer:
    """Chen et al. 2023 (arXiv 2311.17311): the model picks the response that agrees most with the others.

    For answers that no program can compare. Responses are numbered from 1 and shown in the order drawn, which a model
    may favour one end of. Differs from the paper: where all answers are equal, or only one path has one, nothing is
    asked; a choice that cannot be read, or whose request failed, leaves the majority, and `found` says which it was.
    `votes` counts equal values as `self_consistency` does, the chosen one first though it has fewer, and what is
    told of the answer is the chosen path's. Raises the first ModelError if all paths failed.

    Prompt: the path's; then the question, the numbered responses, and that the most consistent one by majority
        consensus is to be named first, as "Response X".
    Stop: each path's own; the model's own end for the choice, which is made at temperature 0.
    Parse: the first "Response X" of the choice; the value is that response's own.
    Ties: the model's affair; of an unread choice, as `self_consistency`.
    Cost: n paths in 1 wave, then 1 call that reads all n responses.
    Pinned by: tests/test_voting.py
    """
    answers = await answered(path(question, temperature=temperature, **options) for _ in range(n))
    most = majority(answers)
    candidates = [answer for answer in answers if answer.value is not None]
    if most.votes is None or len(most.votes) == 1:
        return most
    cold = None if temperature is None else 0.0
    judged = await attempt(ask(ballot(question, candidates), temperature=cold, **beside(options)))
    said = "" if isinstance(judged, ModelError) else judged.text
    found = CHOSEN.search(said)
    if not found or not 1 <= int(found[1]) <= len(candidates):
        return most.but(found="the majority, as the model's choice could not be read")
    chosen = candidates[int(found[1]) - 1]
    return elected(chosen, answers).but(found=f"the model chose response {found[1]}")


def ballot(question: str, candidates: Sequence[Answer]) -> str:
    """What the model chooses from: whole chains where they were kept, else what the answers were read from."""
    told = [str(each.trace if isinstance(each.trace, str) else each.text or each.value) for each in candidates]
    responses = "\n\n".join(f"Response {i}: {text.strip()}" for i, text in enumerate(told, start=1))
    return (
        f"These are several responses to the same question.\n\nQuestion: {shown(question)}\n\n{responses}\n\n"
        "Which of them is the most consistent, by majority consensus among the responses? Begin your reply with "
        "“The most consistent response is Response X”, X being its number."
    )
