"""Sample several reasoning paths and let their answers vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from promptlab.errors import ModelError
from promptlab.program import Program, attempt, gather
from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.types import Answer

Path = Callable[..., Program[Answer]]


async def self_consistency(
    question: str, path: Path = chain_of_thought, n: int = 10, temperature: float | None = 0.7, **options: Any
) -> Answer:
    """Wang et al. 2022 (arXiv 2203.11171): sample n reasoning paths, keep the most frequent answer.

    Ties go to the answer that came first. Paths without an answer do not vote; if none has one, there is no answer.
    A path whose request failed does not vote either; if all failed, the first one's ModelError is raised. With
    `temperature=None` paths are sampled at the model's own, for models that take none.
    """
    paths = await gather(attempt(path(question, temperature=temperature, **options)) for _ in range(n))
    failed = [path for path in paths if isinstance(path, ModelError)]
    if failed and len(failed) == n:
        raise failed[0]
    return majority([Answer(None, why=f"failed: {a}") if isinstance(a, ModelError) else a for a in paths])


def majority(answers: Sequence[Answer]) -> Answer:
    """The most frequent value among the answers that have one, with the votes and the lead over the next."""
    voting = [a for a in answers if a.value is not None]
    if not voting:
        return Answer(None, why=f"none of the {len(answers)} paths has an answer", trace=tuple(answers))
    ranked = Counter(vote(a) for a in voting).most_common()  # equal counts stay in the order met
    winner, most = ranked[0]
    lead = most - (ranked[1][1] if len(ranked) > 1 else 0)
    first = next(a for a in voting if vote(a) == winner)
    return first.but(votes=dict(ranked), margin=lead / len(voting), trace=tuple(answers))


def vote(answer: Answer) -> Hashable:
    """What is counted: the value, or its text where it cannot be hashed, as most pydantic models cannot."""
    return answer.value if isinstance(answer.value, Hashable) else repr(answer.value)
