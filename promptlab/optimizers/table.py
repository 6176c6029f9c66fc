"""What every candidate was worth on every item it was asked: paired, since all are asked alike."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from promptlab.errors import BudgetExceeded, ModelError, Unavailable
from promptlab.optimizers.candidate import Candidate, as_text
from promptlab.optimizers.sections import Item
from promptlab.program import Exchange, attempt, gather, metered, traced
from promptlab.task import exact, scored
from promptlab.types import Answer, Usage

Solve = Callable[[Any, Any], Awaitable[Any]]  # (question, prompt or prompts) -> Answer, or its plain value
Score = Callable[[Any, Any], Any]  # (answer's value, target) -> float in [0, 1], or (float, what was good or bad)
Take = Callable[[int], None]  # told of so many requests that are to go out; raises what ends it all
EVALUATIONS = -1  # the first number of their branches: apart from all else that an optimiser asks


def unscored(value: Any, target: Any) -> float:
    """There are no labels: what an answer is worth is for a judge to say, who lets one of two win or none."""
    return 0.0


BINARY: tuple[Score, ...] = (exact, unscored)  # of any other score it is not known whether it is ever between 0 and 1


class Step(NamedTuple):
    """What one of a program's prompts was asked in the course of an answer, and what was replied."""

    slot: str
    asked: str
    said: str


class Outcome(NamedTuple):
    """A candidate's answer to an item, and what it was worth.

    `feedback` is what the score says beside its number, `why` the reason where there is no answer; `failed` tells a
    request that was not answered from an answer that is wrong, and `lost` one that was not answered for a reason that
    says nothing of the prompt: it was Unavailable. `steps` are those of the program, for items of the feed.
    """

    score: float
    value: Any = None
    said: str = ""
    feedback: str = ""
    why: str | None = None
    failed: bool = False
    calls: int = 0
    usage: Usage = Usage()
    steps: tuple[Step, ...] = ()
    lost: bool = False


class Table:
    """Scores by candidate, item and repeat. What is in it is never asked again, and never counted twice."""

    def __init__(self, solve: Solve, score: Score, repeats: int = 1) -> None:
        self.solve, self.score, self.repeats = solve, score, repeats
        self.rows: dict[tuple[str, int, int], Outcome] = {}

    def missing(self, candidates: Iterable[Candidate], items: Sequence[Item]) -> list[tuple[Candidate, Item, int]]:
        """What is not in it yet, item by item, so that whoever is stopped halfway has compared like with like."""
        once = {each.key: each for each in candidates}
        grid = ((each, item, j) for item in items for each in once.values() for j in range(self.repeats))
        return [(each, item, j) for each, item, j in grid if (each.key, item.number, j) not in self.rows]

    async def fill(
        self, wanted: Sequence[tuple[Candidate, Item, int]], take: Take, keep_steps: bool = False
    ) -> list[Outcome | BudgetExceeded]:
        """Asks all of it in one wave. Candidates are asked an item on the same branch: with the same random numbers.

        `take` is told how many requests go out, before they do, and of so many less than none that were refused for
        want of a budget. What it raises ends the wave, of which nothing is kept.
        """
        outcomes = await gather(
            (self._outcome(candidate, item, take, keep_steps) for candidate, item, _ in wanted),
            branches=[(EVALUATIONS, item.number, j) for _, item, j in wanted],
        )
        for (candidate, item, j), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, Outcome):
                self.rows[candidate.key, item.number, j] = outcome
        return outcomes

    def outcomes(self, candidate: Candidate, item: Item) -> list[Outcome]:
        """One for each repeat; none where it was not asked."""
        keys = ((candidate.key, item.number, j) for j in range(self.repeats))
        return [self.rows[key] for key in keys if key in self.rows]

    def answered(self, candidate: Candidate, item: Item) -> list[Outcome]:
        """The same, without those that were lost."""
        return [each for each in self.outcomes(candidate, item) if not each.lost]

    def on(self, candidate: Candidate, item: Item) -> float:
        """The mean score of an item that was asked, over the repeats that were not lost; 0 if all were."""
        answered = self.answered(candidate, item)
        return math.fsum(each.score for each in answered) / len(answered) if answered else 0.0

    def mean(self, candidate: Candidate, items: Iterable[Item]) -> float:
        """The mean over those of the items that the candidate was asked, and not lost; 0 if that is none."""
        scores = [self.on(candidate, item) for item in items if self.answered(candidate, item)]
        return math.fsum(scores) / len(scores) if scores else 0.0

    def differences(self, challenger: Candidate, incumbent: Candidate, items: Iterable[Item]) -> list[float]:
        """Challenger minus incumbent on each item that both were asked; no difference where either is lost."""
        both = [i for i in items if all((each.key, i.number, 0) in self.rows for each in (challenger, incumbent))]
        rows = [list(zip(self.outcomes(challenger, i), self.outcomes(incumbent, i), strict=True)) for i in both]
        return [math.fsum(0 if a.lost or b.lost else a.score - b.score for a, b in row) / len(row) for row in rows]

    def failures(self, candidate: Candidate, items: Iterable[Item]) -> float:
        """The share of a candidate's requests on the items that nobody answered."""
        asked = [outcome for item in items for outcome in self.outcomes(candidate, item)]
        return sum(outcome.failed for outcome in asked) / len(asked) if asked else 0.0

    async def _outcome(
        self, candidate: Candidate, item: Item, take: Take, keep_steps: bool
    ) -> Outcome | BudgetExceeded:
        answer, exchanges = await traced(attempt(metered(self._answer(candidate, item), take)))
        replies = [e.reply for e in exchanges if not isinstance(e.reply, ModelError)]
        usage = sum((reply.usage for reply in replies), Usage(cost_usd=0.0))
        if isinstance(answer, BudgetExceeded):
            take(-sum(isinstance(e.reply, BudgetExceeded) for e in exchanges))
            return answer
        if isinstance(answer, ModelError):
            lost = isinstance(answer, Unavailable)
            return Outcome(0.0, why=str(answer), failed=True, calls=len(exchanges), usage=usage, lost=lost)
        said = answer.trace if isinstance(answer.trace, str) else answer.text or ""
        score, feedback = scored(self.score, answer.value, item.example.target)
        steps = steps_of(candidate, exchanges) if keep_steps else ()
        return Outcome(score, answer.value, said, feedback, answer.why, False, len(exchanges), usage, steps)

    async def _answer(self, candidate: Candidate, item: Item) -> Answer:
        answer = await self.solve(item.example.input, candidate.prompts)
        return answer if isinstance(answer, Answer) else Answer(answer, as_text(answer))


def steps_of(candidate: Candidate, exchanges: Iterable[Exchange]) -> tuple[Step, ...]:
    """Which prompt each exchange is of: the one whose words it begins with, the longest of several."""
    heads = {slot: prompt.render("")[:-1] for slot, prompt in candidate.by_slot.items()}
    steps = []
    for request, reply in exchanges:
        fits = [slot for slot, head in heads.items() if list(request.messages[: len(head)]) == head]
        if fits and not isinstance(reply, ModelError):
            slot = max(fits, key=lambda fit: len(heads[fit]))
            steps.append(Step(slot, request.messages[-1].content, reply.text))
    return tuple(steps)
