"""Sample several reasoning paths and let their answers vote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from promptlab.equality import Key, exactly
from promptlab.errors import ModelError, SetupError
from promptlab.program import Program, Until, attempt, gather
from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.strategies.stopping import Stop
from promptlab.strategies.voting import Weigh, by_confidence, by_likelihood, equally, majority
from promptlab.types import Answer

Path = Callable[..., Program[Answer]]


async def self_consistency(
    question: str,
    path: Path = chain_of_thought,
    n: int = 10,
    temperature: float | None = 0.7,
    *,
    key: Key = exactly,
    weigh: Weigh = equally,
    stop: Stop | None = None,
    at_once: int = 1,
    least_share: float = 0.0,
    **options: Any,
) -> Answer:
    """Wang et al. 2022 (arXiv 2203.11171): sample n reasoning paths, keep the most frequent answer.

    `key` says which answers are the same: `exactly`, `as_number` (18 = $18.00) or `as_text` of promptlab.equality.
    `weigh` is `equally`, `by_likelihood` or `by_confidence` (the paper's table 1) of `voting`, or a function of one's
    own. `stop` ends the sampling early (`stopping`): `lossless`, `beta(p)`, `window(w)`; a hosted model is then asked
    for the fewest samples that could decide, or for `at_once` ahead of the answers, which takes more samples and less
    time. Paths without an answer do not vote, nor do those whose request failed; if all failed, the first one's
    ModelError is raised. With `temperature=None` paths are sampled at the model's own, for models that take none.
    Raises SetupError for `stop` with weighted votes, as its rules count votes, and with `least_share`, which the votes
    that are not cast would decide.

    Prompt: the path's.
    Stop: each path's own; of the sampling, after n paths or when `stop` says so. Samples in flight are cancelled then,
        and counted in `sampled`.
    Parse: the path's; a path without an answer does not vote. Below `least_share` of the votes there is no answer.
    Ties: more votes, or weight; then the likeliest reply, where log-probabilities are known; then the earliest. `tied`
        names the values.
    Cost: n paths in 1 wave; with `stop` at most that, in more waves.
    Pinned by: tests/test_strategies.py; tests/test_voting.py; benchmarks/replays/last_letters.py;
        benchmarks/replays/gsm8k.py
    """
    if stop is not None and weigh is not equally:
        raise SetupError("self_consistency stops early by counting votes: leave out either stop or weigh.")
    if stop is not None and least_share > 0:
        raise SetupError("A share of the votes is known when all are cast: leave out either stop or least_share.")
    if weigh in (by_likelihood, by_confidence):
        options.setdefault("logprobs", True)
    begun: list[int] = []

    async def begin(i: int) -> Answer:
        begun.append(i)
        return await path(question, temperature=temperature, **options)

    def decided(answers: Sequence[Answer | ModelError]) -> bool | int:
        assert stop is not None
        voting = [None if isinstance(a, ModelError) or a.value is None else key(a.value) for a in answers]
        return stop(voting, n)

    answers = await answered((begin(i) for i in range(n)), until=decided if stop else None, at_once=at_once)
    return majority(answers, weigh, key, least_share).but(sampled=len(begun))


async def answered(
    paths: Iterable[Program[Answer]], until: Until | None = None, at_once: int | None = None
) -> list[Answer]:
    """The answers of several paths; one that failed has none, and why. Raises the first ModelError if all failed."""
    ended = await gather((attempt(path) for path in paths), until=until, at_once=at_once)
    failed = [each for each in ended if isinstance(each, ModelError)]
    if failed and len(failed) == len(ended):
        raise failed[0]
    return [Answer(None, why=f"failed: {each}") if isinstance(each, ModelError) else each for each in ended]
