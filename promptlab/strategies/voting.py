"""How answers vote: what counts as the same answer, what each vote weighs, who wins a tie, how sure the result is."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

from promptlab.equality import Key, exactly
from promptlab.errors import SetupError
from promptlab.types import Answer

Weigh = Callable[[Sequence[Answer]], Sequence[float]]


def equally(answers: Sequence[Answer]) -> Sequence[float]:
    return [1] * len(answers)


def by_likelihood(answers: Sequence[Answer]) -> Sequence[float]:
    """The probability of the whole reply, as a share of the likeliest's: Wang et al. 2022, table 1, unnormalised."""
    log_p = [known(answer.logprob) for answer in answers]
    return [math.exp(x - max(log_p)) for x in log_p]


def by_confidence(answers: Sequence[Answer]) -> Sequence[float]:
    """The answer's confidence: Wang et al. 2022, eq. 1, where a path says no other: (P of the reply)^(1/tokens)."""
    return [known(answer.confidence) for answer in answers]


def known(figure: float | None) -> float:
    if figure is None:
        raise SetupError(
            "Votes cannot be weighed: a path's reply has no log-probabilities. Take a backend that gives them "
            "(`promptlab models` says which) and a path that keeps them, or leave weigh out."
        )
    return figure


def majority(answers: Sequence[Answer], weigh: Weigh = equally, key: Key = exactly, least_share: float = 0.0) -> Answer:
    """The value with the most votes among the answers that have one: its first answer, with the count.

    Of values with equally many votes the one with the likeliest answer wins, where every voter's `logprob` is known;
    else, and among equals again, the one that came first. `tied` names them all. If the winner's share of the votes is
    below `least_share` there is no answer, with the count all the same.
    """
    voting = [answer for answer in answers if answer.value is not None]
    if not voting:
        return Answer(None, why=f"none of the {len(answers)} paths has an answer", trace=tuple(answers))
    of, votes = tally(voting, weigh, key)
    most = max(votes.values())
    if not sum(votes.values()) > 0:
        return Answer(None, why="no path's vote has any weight", trace=tuple(answers), sampled=len(answers))
    tied = [each for each, got in votes.items() if math.isclose(got, most, rel_tol=1e-9)]
    likeliest = {each: likelihood(of[each]) for each in tied}
    sure = all(answer.logprob is not None for answer in voting)
    winner = max(tied, key=likeliest.__getitem__) if sure else tied[0]
    counted = elected(of[winner][0], answers, weigh, key)
    if counted.share is not None and counted.share < least_share:
        why = f"the answer with the most votes has {counted.share:.2f} of them, less than {least_share}"
        return counted.but(value=None, why=why)
    return counted


def elected(chosen: Answer, answers: Sequence[Answer], weigh: Weigh = equally, key: Key = exactly) -> Answer:
    """One of the answers, with the count of all their votes, in which its value is the winner."""
    of, votes = tally([answer for answer in answers if answer.value is not None], weigh, key)
    winner, total = key(chosen.value), sum(votes.values())
    ranked = sorted(votes, key=lambda each: (each != winner, -votes[each]))  # stable: equal counts in the order met
    named = {each: exactly(first.value) for each, [first, *_] in of.items()}
    level = [named[each] for each, got in votes.items() if math.isclose(got, votes[winner], rel_tol=1e-9)]
    runner_up = max((got for each, got in votes.items() if each != winner), default=0)
    return chosen.but(
        votes={named[each]: votes[each] for each in ranked},
        share=votes[winner] / total,
        margin=max(0.0, votes[winner] - runner_up) / total,
        entropy=entropy([got / total for got in votes.values()]),
        tied=tuple(level) if len(level) > 1 else (),
        sampled=len(answers),
        trace=tuple(answers),
    )


def tally(
    voting: Sequence[Answer], weigh: Weigh, key: Key
) -> tuple[dict[Hashable, list[Answer]], dict[Hashable, float]]:
    """Who votes for each value, and what their votes weigh in all."""
    of: dict[Hashable, list[Answer]] = {}
    votes: dict[Hashable, float] = {}
    for answer, weight in zip(voting, weigh(voting), strict=True):
        of.setdefault(key(answer.value), []).append(answer)
        votes[key(answer.value)] = votes.get(key(answer.value), 0) + weight
    return of, votes


def likelihood(answers: Sequence[Answer]) -> float:
    """The log-probability of the likeliest of the answers where it is known."""
    return max(-math.inf if answer.logprob is None else answer.logprob for answer in answers)


def entropy(shares: Sequence[float]) -> float:
    """In nats: 0 where all agree, log k where k values share the votes equally."""
    return -sum(share * math.log(share) for share in shares if share > 0) + 0.0
