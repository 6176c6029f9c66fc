"""Which of two answers is better, by a model that is asked both ways round: it may like places more than answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from promptlab.errors import BudgetExceeded
from promptlab.optimizers.proposing import meta
from promptlab.program import ask, attempt, gather
from promptlab.prompt import Prompt
from promptlab.types import Reply

JUDGE = Prompt(output=Literal["A", "B", "tie"])
BOTH_WAYS = 2  # calls of the judge for a contest
SAYS_LITTLE = 32  # tokens that a judge may write


class Contest(NamedTuple):
    """Two answers to one input, as the judge reads them."""

    input: str
    first: str
    second: str


class Judged(NamedTuple):
    """What was said of a contest each way round, in the first answer's eyes: +1 it is better, -1 worse, 0 neither.

    What cannot be read, or was not answered, is neither; `unread` counts these.
    """

    straight: int
    swapped: int
    unread: int

    @property
    def won(self) -> int:
        """The same, where both orders agree; else 0."""
        return self.straight if self.straight == self.swapped else 0


class Bias(NamedTuple):
    """How the judge took to places: contests judged, how often it contradicted itself when they were swapped, and
    which share of its preferences went to the answer it read first (0.5: none is owed to the place)."""

    judged: int
    contradicted: int
    first: float


async def judge(contests: Sequence[Contest], criterion: str) -> list[Judged]:
    """Judge every contest both ways round (Zheng et al. 2023, arXiv 2306.05685, section 3.4), in one wave.

    The judge is asked with `to="judge"`. Raises BudgetExceeded where a budget ends first.
    """
    texts = [question(contest, criterion, swapped) for contest in contests for swapped in (False, True)]
    replies = await gather(attempt(ask(text, to="judge", max_tokens=SAYS_LITTLE)) for text in texts)
    for reply in replies:
        if isinstance(reply, BudgetExceeded):
            raise reply
    read = [JUDGE.parse(reply.text).value if isinstance(reply, Reply) else None for reply in replies]
    signs = [{"A": 1, "B": -1}.get(str(value), 0) for value in read]
    both = zip(signs[::2], signs[1::2], zip(read[::2], read[1::2], strict=True), strict=True)
    return [Judged(straight, -swapped, said.count(None)) for straight, swapped, said in both]


def question(contest: Contest, criterion: str, swapped: bool) -> str:
    a, b = (contest.second, contest.first) if swapped else (contest.first, contest.second)
    return meta("duel", criterion=criterion, input=contest.input, a=a, b=b)


def settled(x: Any, y: Any) -> int | None:
    """Who won without a judge: a tie where both said the same, the other where one said nothing; None: ask."""
    if (x is None) != (y is None):
        return 1 if y is None else -1
    return 0 if x is None or x == y else None


def bias_of(orders: Iterable[tuple[int, int]]) -> Bias:
    """What the judge's two verdicts on each contest, both in the first answer's eyes, say of it."""
    judged = list(orders)
    preferences = [sign for straight, swapped in judged for sign in (straight, -swapped) if sign]
    first = sum(sign == 1 for sign in preferences) / len(preferences) if preferences else 0.5
    return Bias(len(judged), sum(a != b for a, b in judged), first)
