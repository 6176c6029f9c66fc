"""Sample several answers and let those that mean the same vote together: for answers in free words."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from promptlab.equality import as_text
from promptlab.extraction import read_bool
from promptlab.program import Program, ask, attempt, gather, score
from promptlab.prompt import shown
from promptlab.strategies.asking import beside
from promptlab.strategies.self_consistency import Path, answered
from promptlab.strategies.voting import Weigh, by_confidence, by_likelihood, equally, majority
from promptlab.strategies.zero_shot import zero_shot
from promptlab.types import Answer

MeansTheSame = Callable[[str, str, str], Program[bool]]  # question, one answer, another

ENTAILS = "Question: {}\nAnswer 1: {}\nAnswer 2: {}\nDoes answer 1 say everything that answer 2 says? Answer yes or no."


async def semantic_consistency(
    question: str,
    path: Path = zero_shot,
    n: int = 10,
    temperature: float | None = 0.7,
    *,
    same: MeansTheSame | None = None,
    weigh: Weigh = equally,
    least_share: float = 0.0,
    **options: Any,
) -> Answer:
    """Kuhn et al. 2023 (arXiv 2302.09664): cluster samples by meaning; the largest cluster's first answer is given.

    `entropy` is then semantic entropy: of the clusters' counts, or with `weigh=by_likelihood` of their likelihoods,
    both as shares of what was sampled. `same` is a program that tells whether two answers to a question mean the same:
    `by_asking` (the default) and `by_score` ask the model twice, once in each direction; left out, it is asked by the
    paths' own options, at temperature 0. Differs from the authors' code: answers equal as text are one before any
    comparison. Paths that failed do not vote; if all failed, the first one's ModelError is raised. A comparison that
    failed takes two answers for different.

    Prompt: the path's; of a comparison the question, both answers, and whether the one says everything the other says.
    Stop: each path's own, after n paths.
    Parse: the path's; an answer joins the first cluster whose first answer entails it and is entailed by it.
    Ties: as `self_consistency`.
    Cost: n paths in 1 wave; then for k distinct answers up to k (k - 1) comparing calls in k - 1 waves.
    Pinned by: tests/test_voting.py
    """
    if weigh in (by_likelihood, by_confidence):
        options.setdefault("logprobs", True)
    answers = await answered(path(question, temperature=temperature, **options) for _ in range(n))
    values = [answer.value for answer in answers if answer.value is not None]
    asking = partial(by_asking, temperature=None if temperature is None else 0.0, **beside(options))
    cluster = await clustered(shown(question), values, same or asking)
    return majority(answers, weigh, lambda value: cluster[as_text(value)], least_share)


async def clustered(question: str, values: list[Any], same: MeansTheSame) -> dict[Hashable, Hashable]:
    """The cluster, named by its founder, of each distinct value; founders are compared with in one wave."""
    founders: dict[Hashable, str] = {}
    cluster: dict[Hashable, Hashable] = {}
    for key, text in ((as_text(value), str(value)) for value in values):
        if key in cluster:
            continue
        alike = await gather(attempt(same(question, founder, text)) for founder in founders.values())
        fits = [founder for founder, yes in zip(founders, alike, strict=True) if yes is True]
        cluster[key] = fits[0] if fits else key
        if not fits:
            founders[key] = text
    return cluster


async def by_asking(question: str, one: str, other: str, **options: Any) -> bool:
    """Whether the model, asked with these options, says yes in both directions."""
    prompts = [ENTAILS.format(question, a, b) for a, b in ((one, other), (other, one))]
    replies = await gather(ask(prompt, **options) for prompt in prompts)
    return all(read_bool(reply.text).value is True for reply in replies)


async def by_score(question: str, one: str, other: str) -> bool:
    """Whether "yes" is likelier than "no" in both directions, on a backend that scores given texts."""
    prompts = [ENTAILS.format(question, a, b) for a, b in ((one, other), (other, one))]
    scores = await gather(score(prompt, ["yes", "no"]) for prompt in prompts)
    return all(yes > no for yes, no in scores)
