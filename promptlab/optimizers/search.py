"""One run of an optimiser: what it may read, ask and spend, and how its winner is chosen. Methods only propose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from promptlab.characters import whole_text
from promptlab.errors import BudgetExceeded, DataError, ModelError, SetupError, Unsupported
from promptlab.optimizers.acceptance import Test, fewest, smallest_gain, verdict
from promptlab.optimizers.candidate import Candidate, Prompts
from promptlab.optimizers.concluding import TOO_MANY_FAILED
from promptlab.optimizers.found import FEWEST_CONFIRMED, Event, Over, Spent, TooFew
from promptlab.optimizers.proposing import Limits, Wish, proposed
from promptlab.optimizers.sections import SHARES, Item, check_shares, grouped, sections
from promptlab.optimizers.table import BINARY, Outcome, Score, Solve, Table
from promptlab.program import Prompted, ask, attempt, gather
from promptlab.strategies import zero_shot
from promptlab.task import exact
from promptlab.types import Example, Reply

RESERVED = 0.4  # of the calls, at most, for the last comparison
OPENING = 20  # items that the prompt is asked first: is there anything to win?
TRIES = 8  # prompts that score nothing, before a task is called out of reach
UNANSWERED = "the proposer did not answer"
LEAST = 4  # items on which a race asks every candidate at least


class Search:
    """See `promptlab.optimizers.optimizer` for what is given. What a method needs:

    `seed` is the candidate to improve, `feed` the items that proposers may read, `rng_key(…)` seeds random numbers.
    `score` asks candidates, `race` keeps the best of them, `ask` and `propose` ask the proposer. Each takes from
    `calls` and raises Over where they are used up; what the last comparison takes is set aside.
    """

    def __init__(
        self,
        method: str,
        prompt: Prompts,
        examples: Iterable[Example],
        score: Score = exact,
        *,
        solve: Solve = zero_shot,
        calls: int = 2_000,
        seed: int = 0,
        alpha: float = 0.05,
        test: Test = "exact",
        shares: tuple[float, float, float] = SHARES,
        repeats: int = 1,
        temperature: float | None = 0.9,
        limits: Limits = Limits(),
        observe: Callable[[Event], None] | None = None,
    ) -> None:
        self.method, self.seed = method, Candidate(prompt)
        self.random_seed, self.alpha, self.test, self.temperature = seed, alpha, test, temperature
        self.limits, self.observe = limits, observe
        if not 0 < alpha < 1 or repeats < 1:
            raise SetupError(f"alpha lies between 0 and 1 and repeats is 1 or more; got {alpha!r} and {repeats!r}.")
        first = self.seed.slot()
        if not isinstance(examples, Iterable):
            raise SetupError(f"examples are Example(input, target) in a list, got {examples!r}.")
        examples = tuple(examples)
        if strange := [each for each in examples if not isinstance(each, Example)]:
            raise SetupError(f"examples are Example(input, target), got {strange[0]!r} among them.")
        check_shares(shares)
        if len(examples) * shares[2] < FEWEST_CONFIRMED:
            raise TooFew("labelled examples", len(examples), math.ceil(FEWEST_CONFIRMED / shares[2]))
        self.sections = sections(examples, first, seed, shares)
        self.table = Table(solve, score, repeats)
        self.calls, self.spent, self.proposals, self.each = calls, 0, 0, 1
        self.reserved = self._reserve(calls)
        verdict((), alpha, test)  # an unknown test is refused before anything is asked
        least = fewest(alpha, test, graded=score not in BINARY)
        if (n := self._groups(self.confirmed())) < least:
            raise DataError(
                f"The last comparison would be on {n} groups or different texts, and on fewer than {least} "
                f"nothing is shown at alpha={alpha:g}: bring more of them, or give more calls."
            )
        self.known: dict[str, Candidate] = {self.seed.key: self.seed}
        self.rejected: dict[str, int] = {}
        self.events: list[Event] = []
        self.lap = 0
        self.stopped = ""  # why the method did not come to its end
        self.note("begun", method=method, seed=self.seed.key, prompts=self.seed.told, **self.plan())

    # What there is to work with

    @property
    def feed(self) -> tuple[Item, ...]:
        return self.sections.feed

    @property
    def left(self) -> int:
        """Calls that may still be spent, without those of the last comparison."""
        return self.calls - self.spent - self.reserved

    def rng_key(self, *parts: object) -> str:
        """A seed for random.Random that depends on nothing but the run's seed and these words."""
        return "/".join(map(str, (self.random_seed, self.method, *parts)))

    def note(self, kind: str, **told: Any) -> None:
        """An event, kept and told to whoever observes."""
        event = {"event": kind, "calls": self.spent, **told}
        self.events.append(event)
        if self.observe is not None:
            self.observe(event)

    def plan(self) -> dict[str, Any]:
        """What can be said before anything is asked."""
        confirmed = self.confirmed()
        return {
            "budget": self.calls,
            "feed": len(self.feed),
            "race": len(self.sections.race),
            "confirm": confirmed,
            "smallest_gain": smallest_gain(self._groups(confirmed), self.alpha),
        }

    @contextmanager
    def until_spent(self) -> Iterator[None]:
        """In it, running out of calls is no end of the search: the method goes on below, with the best so far."""
        try:
            yield
        except Spent as spent:
            self.stopped = str(spent)
            self.note("stopped", why=self.stopped)

    def need(self, calls: int, what: str) -> None:
        """Raises Over where what comes next takes more calls than are left: who asks, asks here first."""
        if calls > self.left:
            kept = f", beside {self.reserved:,} that are kept for the last comparison" if self.reserved else ""
            left = f"of the budget of {self.calls:,} calls {max(self.left, 0):,} were left{kept}"
            raise Spent(f"{left}, and {what} takes {calls:,}")

    # Scoring

    async def score(self, candidates: Sequence[Candidate], items: Sequence[Item]) -> list[list[Outcome]]:
        """Each candidate's outcomes on the items, one a repeat; what is in the table is not asked again.

        Raises Over where there are not enough calls left, before any is made.
        """
        await self._fill_paid(self.table.missing(candidates, items))
        return [[o for item in items for o in self.table.outcomes(each, item)] for each in candidates]

    async def score_each(self, pairs: Iterable[tuple[Candidate, Item]]) -> list[Outcome]:
        """The outcome of each candidate on its item, in the first repeat. Raises Over as `score` does."""
        pairs = list(pairs)
        missing = [one for each, item in pairs for one in self.table.missing([each], [item])]
        await self._fill_paid(list({(each.key, item.number, j): (each, item, j) for each, item, j in missing}.values()))
        return [self.table.outcomes(each, item)[0] for each, item in pairs]

    async def _fill_paid(self, wanted: Sequence[tuple[Candidate, Item, int]]) -> None:
        self.need(len(wanted) * self.each, "scoring what comes next")
        await self._fill(wanted)

    async def _fill(self, wanted: Sequence[tuple[Candidate, Item, int]]) -> None:
        fed = {item.number for item in self.feed}
        outcomes = await self.table.fill(wanted, self._take, any(item.number in fed for _, item, _ in wanted))
        refused = None
        for (candidate, item, j), outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, BudgetExceeded):
                refused = refused or outcome
                continue
            self.each = max(self.each, outcome.calls)
            told = {"candidate": candidate.key, "item": item.number, "repeat": j, "score": outcome.score}
            told |= {"said": outcome.said, "asked": outcome.calls, "failed": outcome.failed, "lost": outcome.lost}
            self.note("scored", **told, why=outcome.why)
        if refused is not None:  # what was paid for is kept
            raise refused

    def _take(self, calls: int) -> None:
        self.need(calls, "a program that asks more than it ever did")
        self.spent += calls

    async def opening(self) -> None:
        """Asks the seed a few items. Raises Over where nothing can be won that could be shown."""
        items = self.sections.in_order(self.random_seed, self.lap)[:OPENING]
        await self.score([self.seed], items[:1])  # what an answer costs
        self._afford()
        await self.score([self.seed], items)
        if (failed := self.table.failures(self.seed, items)) == 1:
            [first, *_] = self.table.outcomes(self.seed, items[0])
            raise Over(f"none of the first {len(items)} requests was answered: {first.why}")
        missed = 1 - self.table.mean(self.seed, items)
        if not failed and missed < min(0.5 / len(items), smallest_gain(self._groups(self.confirmed()), self.alpha)):
            raise Over(f"the task is saturated: the prompt is right on all of the first {len(items)} items")

    async def race(self, candidates: Iterable[Candidate], keep: int = 1, of: int = 1) -> list[Candidate]:
        """The best `keep` of the candidates, best first, for 1/`of` of the calls that are left.

        Sequential halving (Karnin et al. 2013, ICML 28(3):1238) on nested common items: all are asked the same items,
        those who stay are asked more. Differs: a round draws no fresh items for those it keeps but goes on where it
        was, so that what was paid for counts; it drops a third of them, not half, and its share of the calls grows with
        the root of how many are left, where theirs are equal: that errs less often for as many calls
        (benchmarks/LOG.md). Equal means: the shorter prompt, then the one that was there earlier.
        One candidate alone is not asked anything; where the calls left do not suffice for all, the last ones are not.
        """
        alive = list({each.key: each for each in candidates}.values())
        if len(alive) == 1:  # nothing to choose from, and nothing to pay for
            return alive
        age = {each.key: i for i, each in enumerate(alive)}
        order, self.lap = self.sections.in_order(self.random_seed, self.lap), self.lap + 1
        while len(alive) > 2 and not self._reach(alive, order, self.left):
            alive.pop()
        fields = fields_of(len(alive), keep)
        at_least = LEAST * len(alive) * self.each * self.table.repeats
        budget, n = max(self.left // max(of, 1), min(at_least, self.left)), 0
        for round, after in enumerate(fields[1:]):
            share = int(budget * weight(fields[round]) / sum(map(weight, fields[round:-1])))
            n = max(n, self._reach(alive, order, share if round else min(budget, max(share, at_least))))
            if n == 0:
                raise Spent(self._too_few(len(alive)))
            before = self.spent
            await self.score(alive, order[:n])
            budget -= self.spent - before
            alive = [each for each in alive if self.table.failures(each, order[:n]) <= TOO_MANY_FAILED] or alive
            alive.sort(key=lambda each: (-self.table.mean(each, order[:n]), each.length, age[each.key]))
            told = {each.key: round_(self.table.mean(each, order[:n])) for each in alive}
            self.note("raced", lap=self.lap, items=n, means=told)
            alive = alive[:after]
        if len(self.known) >= TRIES and n >= LEAST * 2 and self.table.mean(alive[0], order[:n]) == 0:
            raise Over(f"the task is out of reach: none of the prompts scored anything on {n} items")
        return alive

    def room(self, of: int = 1) -> int:
        """How many candidates a race for 1/`of` of the calls left can begin with, if half of it is for later rounds."""
        return max(2, self.left // of // (2 * LEAST * self.each * self.table.repeats))

    def _reach(self, alive: Sequence[Candidate], order: Sequence[Item], budget: int) -> int:
        """How many of the items in order all can be asked for so much; 0 where it is not even LEAST of them."""
        n, cost = 0, 0
        for item in order:
            cost += len(self.table.missing(alive, [item])) * self.each
            if cost > max(budget, 0):
                break
            n += 1
        return n if n >= min(LEAST, len(order)) else 0

    # Proposing

    async def ask(self, texts: Sequence[Prompted], op: str) -> list[str | None]:
        """What the proposer says to each text or chat, all asked in one wave; None where it did not answer."""
        self.need(len(texts), f"asking the proposer ({op})")
        replies = await self._proposer(texts)
        refused = [reply for reply in replies if isinstance(reply, BudgetExceeded)]
        self.spent += len(texts) - len(refused)
        self.proposals += len(texts) - len(refused)
        if refused:
            raise refused[0]
        failed = [str(reply) for reply in replies if not isinstance(reply, Reply)]
        self.note("asked", op=op, n=len(texts), failed=failed)
        for _ in failed:
            self.reject(UNANSWERED)
        return [whole_text(reply.text) if isinstance(reply, Reply) else None for reply in replies]

    async def _proposer(self, texts: Sequence[Prompted]) -> list[Reply | ModelError]:
        """Its replies, at the temperature that is wanted or, of a model that takes none, at its own."""
        options = {} if self.temperature is None else {"temperature": self.temperature}
        try:
            return await gather(attempt(ask_proposer(text, self.limits, options)) for text in texts)
        except Unsupported:
            if self.temperature is None:
                raise
            self.temperature = None
            return await self._proposer(texts)

    async def propose(self, wishes: Sequence[Wish]) -> list[Candidate]:
        """The new candidates that come of asking the proposer: read, checked and unlike any there is."""
        return await proposed(self, wishes)

    def add(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those of the candidates that are not known yet; from now on they are."""
        new = []
        for each in candidates:
            if each.key in self.known:
                self.reject("known already")
                continue
            self.known[each.key] = each
            new.append(each)
            self.note("proposed", candidate=each.key, op=each.op, parents=list(each.parents), prompts=each.told)
        return new

    def reject(self, why: str) -> None:
        self.rejected[why] = self.rejected.get(why, 0) + 1

    # Counting

    def confirmed(self) -> int:
        """Items of the last comparison: as many as the reserve pays for."""
        return min(len(self.sections.confirm), self.reserved // (2 * self.each * self.table.repeats))

    def _groups(self, confirmed: int) -> int:
        """How many of the last comparison's items are independent: groups and repeated texts count once."""
        return len(set(grouped(self.sections.confirm[:confirmed])))

    def _reserve(self, calls: int) -> int:
        reserved = min(2 * len(self.sections.confirm) * self.each * self.table.repeats, int(RESERVED * calls))
        least = 2 * FEWEST_CONFIRMED * self.each * self.table.repeats
        if reserved < least:
            raise TooFew("calls", calls, math.ceil(least / RESERVED))
        return reserved

    def _afford(self) -> None:
        """Now that it is known what an answer costs: is the budget still enough?"""
        self.reserved = self._reserve(self.calls)

    def _too_few(self, n: int) -> str:
        return (
            f"the {self.left:,} calls left do not suffice to ask {n} candidates {LEAST} items each; give "
            f"{n * LEAST * self.each * self.table.repeats - self.left:,} calls more"
        )


def fields_of(n: int, keep: int) -> list[int]:
    """How many of n candidates there are before each round of a race, and after the last: two thirds of before."""
    fields = [n]
    while fields[-1] > keep or len(fields) == 1:
        fields.append(max(keep, min(math.ceil(fields[-1] * 2 / 3), fields[-1] - 1)))
    return fields


def weight(field: int) -> float:
    """Of the calls of a race, how large a part a round of so many gets."""
    return math.sqrt(field)


async def ask_proposer(text: Prompted, limits: Limits, options: Mapping[str, Any]) -> Reply:
    return await ask(text, to="proposer", max_tokens=limits.reply_tokens, **options)


def round_(x: float) -> float:
    return round(x, 6)
