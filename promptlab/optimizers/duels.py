"""A better prompt without labels: candidates answer the same inputs, and a judge says whose answer is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from random import Random
from typing import Any, NamedTuple

from promptlab.errors import BudgetExceeded, ModelError, SetupError
from promptlab.optimizers.acceptance import verdict
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.concluding import as_it_is, concluded, undecided
from promptlab.optimizers.found import FEWEST_CONFIRMED, Event, Found, Over, TooFew
from promptlab.optimizers.judge import BOTH_WAYS, Bias, Contest, Judged, bias_of, judge, settled
from promptlab.optimizers.proposing import Limits, Wish, meta
from promptlab.optimizers.search import RESERVED, Search
from promptlab.optimizers.sections import Item, by_group
from promptlab.optimizers.table import Outcome, Solve, unscored
from promptlab.program import attempt, traced
from promptlab.prompt import Prompt, shown
from promptlab.strategies import zero_shot
from promptlab.types import Example

AT_ONCE = 8  # duels between two looks at who leads


class Duel(NamedTuple):
    """Two candidates on an input, and who won: +1 the first, -1 the second, 0 neither.

    `orders` are what the judge said each way round, in the first candidate's eyes; () where both had said the same.
    """

    first: str
    second: str
    item: int
    won: int
    orders: tuple[int, int] | tuple[()] = ()


async def duels(
    prompt: Prompt,
    inputs: Sequence[Any],
    *,
    candidates: Sequence[Prompt] = (),
    proposals: int = 10,
    criterion: str = "",
    solve: Solve = zero_shot,
    calls: int = 2_000,
    seed: int = 0,
    alpha: float = 0.05,
    shares: tuple[float, float, float] = (0.1, 0.5, 0.4),
    temperature: float | None = 0.9,
    limits: Limits = Limits(),
    observe: Callable[[Event], None] | None = None,
) -> Any:
    """Wu et al. 2025 (Prompt Duel Optimizer, arXiv 2510.13907): duels chosen by double Thompson sampling, and the
    Copeland winner.

    The result is a prompt with `found`, as any optimiser's. `inputs` are all there is: the judge, asked with
    `to="judge"`, says which of two answers is better by `criterion` (the prompt's instruction, if there is none), so a
    prompt that wins pleases this judge, which need not make it right. Candidates are those given and `proposals` of the
    proposer's. Differs: a duel is judged both ways round and won only if both agree (theirs shuffles the two), and
    equal answers are a tie that no judge is asked about; candidates are not mutated between duels; and the winner
    replaces the prompt only if it wins significantly more duels than it loses on inputs that none was fought on.
    `position_bias(found)` tells how the judge took to places. Raises SetupError for inputs or calls that are too few.
    """
    if isinstance(inputs, str) or any(isinstance(each, Example) for each in inputs):
        raise SetupError("duels takes inputs without labels, texts in a list; got a text or an Example.")
    if not (criterion or prompt.instruction):
        raise SetupError("A judge has to know what is wanted: give criterion=…, or a prompt with an instruction.")
    if calls < (least := ceil(FEWEST_CONFIRMED * (2 + BOTH_WAYS) / RESERVED)):
        raise TooFew("calls", calls, least)
    examples = [Example(shown(each)) for each in inputs]
    terms: dict[str, Any] = {"solve": solve, "calls": calls, "seed": seed, "alpha": alpha, "shares": shares}
    terms |= {"temperature": temperature, "limits": limits, "observe": observe}
    search = Search("duels", prompt, examples, unscored, **terms)
    ring = Ring(search, criterion or prompt.instruction)
    try:
        ring.reserve()
        pool = [search.seed, *search.add(Candidate(each, (), "given") for each in candidates)]
        pool += await search.propose([ring.wish(i) for i in range(proposals)])
        if len(pool) < 2:
            raise Over("there is no other prompt to fight with")
        return await ring.conclude(await ring.fight(pool))
    except Over as over:
        return as_it_is(search, str(over))
    except BudgetExceeded as spent:
        return as_it_is(search, f"the budget was spent before the search was done: {spent}")


class Ring:
    """The duels of a search, and who won them."""

    def __init__(self, search: Search, criterion: str) -> None:
        self.search, self.criterion = search, criterion
        self.fought: list[Duel] = []

    def reserve(self) -> None:
        """What the last comparison takes is set aside: for each input two answers and two judgements."""
        each, calls = 2 * self.search.each + BOTH_WAYS, self.search.calls
        self.search.reserved = min(len(self.search.sections.confirm), int(RESERVED * calls) // each) * each

    def wish(self, i: int) -> Wish:
        search = self.search
        drawn = Random(search.rng_key("reword", i)).sample(search.feed, min(4, len(search.feed)))
        inputs = "\n".join(f"Input: {shown(item.example.input)}" for item in drawn)
        instruction = search.seed.slot().instruction or self.criterion
        return Wish(meta("reword", n=len(drawn), instruction=instruction, inputs=inputs), search.seed, "reworded")

    async def fight(self, pool: Sequence[Candidate]) -> Candidate:
        """Duels as long as there are calls, AT_ONCE at a time; who beats the most others in the end."""
        order = self.search.sections.in_order(self.search.random_seed, 0)
        for round in range(len(pool) * len(order)):
            wanted = self.chosen(pool, order, round)
            worst = len(wanted) * (2 * self.search.each + BOTH_WAYS)
            if not wanted or worst > self.search.left:
                break
            self.fought += await self.duelled(wanted)
        if not self.fought:
            raise Over("there are not enough calls for one round of duels")
        return max(pool, key=lambda each: (self.copeland(each, pool), -each.length, -pool.index(each)))

    def chosen(
        self, pool: Sequence[Candidate], order: Sequence[Item], round: int
    ) -> list[tuple[Candidate, Candidate, Item]]:
        """Whom to have fight next, and on what: double Thompson sampling (Wu & Liu 2016, arXiv 1604.07101).

        The first is a Copeland winner by chances drawn from what is known, the second the one that by a second draw is
        likeliest to beat it. A pair meets on the inputs in order, and never twice on one. Differs: a pair's chance is
        drawn for each side, and nobody is ruled out by bounds on theirs.
        """
        met = {(duel.first, duel.second, duel.item) for duel in self.fought}
        wanted: list[tuple[Candidate, Candidate, Item]] = []
        for i in range(AT_ONCE):
            rng = Random(self.search.rng_key("duel", round, i))
            chances = {(a.key, b.key): self.drawn(a, b, rng) for a in pool for b in pool if a is not b}
            first = max(pool, key=lambda a: sum(chances[a.key, b.key] > 0.5 for b in pool if b is not a))
            others = [each for each in pool if each is not first]
            second = max(others, key=lambda b: self.drawn(b, first, rng))
            pair = tuple(sorted((first.key, second.key)))
            a, b = sorted((first, second), key=lambda each: each.key)
            if item := next((item for item in order if (*pair, item.number) not in met), None):
                met.add((a.key, b.key, item.number))
                wanted.append((a, b, item))
        return wanted

    def drawn(self, a: Candidate, b: Candidate, rng: Random) -> float:
        """A chance that a beats b, as it may be by their duels; a tie counts half for each."""
        wins, losses = self.between(a, b)
        return rng.betavariate(wins + 1, losses + 1)

    def between(self, a: Candidate, b: Candidate) -> tuple[float, float]:
        mine = [duel for duel in self.fought if {duel.first, duel.second} == {a.key, b.key}]
        won = [duel.won if duel.first == a.key else -duel.won for duel in mine]
        ties = won.count(0) / 2
        return won.count(1) + ties, won.count(-1) + ties

    def copeland(self, a: Candidate, pool: Sequence[Candidate]) -> float:
        """How many others a has beaten more often than not; half for each it is level with."""
        both = [self.between(a, b) for b in pool if b is not a]
        return sum((wins > losses) + 0.5 * (wins == losses) for wins, losses in both)

    async def duelled(self, wanted: Sequence[tuple[Candidate, Candidate, Item]]) -> list[Duel]:
        """The duels: all answers in one wave, then all judgements, both ways round."""
        search = self.search
        await search.score_each((candidate, item) for *two, item in wanted for candidate in two)
        table = search.table
        said = [(table.outcomes(a, item)[0], table.outcomes(b, item)[0]) for a, b, item in wanted]
        won = [0 if x.lost or y.lost else settled(x.value, y.value) for x, y in said]
        open_ones = [i for i, known in enumerate(won) if known is None]
        inputs = [shown(wanted[i][2].example.input) for i in open_ones]
        contests = [Contest(text, *map(text_of, said[i])) for text, i in zip(inputs, open_ones, strict=True)]
        judged = dict(zip(open_ones, await self.judged(contests), strict=True))
        found = []
        for i, (a, b, item) in enumerate(wanted):
            by = judged.get(i)
            orders = (by.straight, by.swapped) if by else ()
            found.append(Duel(a.key, b.key, item.number, by.won if by else won[i] or 0, orders))
            search.note("duel", **found[-1]._asdict())
        return found

    async def judged(self, contests: Sequence[Contest]) -> list[Judged]:
        """The judge's verdicts, its calls counted; what could not be read of them is noted. Raises Over where there are
        not enough calls left, before any is made."""
        self.search.need(len(contests) * BOTH_WAYS, "judging")
        found, asked = await traced(attempt(judge(contests, self.criterion)))
        self.search.spent += sum(not isinstance(exchange.reply, BudgetExceeded) for exchange in asked)
        if isinstance(found, ModelError):
            raise found
        if unread := sum(each.unread for each in found):
            self.search.note("unjudged", n=unread)
        return found

    async def conclude(self, challenger: Candidate) -> Any:
        """The challenger, if it wins significantly more duels with the seed than it loses, on fresh inputs."""
        search = self.search
        if challenger.key == search.seed.key:
            return as_it_is(search, f"none of {len(search.known) - 1} candidates won more duels")
        each = 2 * search.each + BOTH_WAYS
        items = search.sections.confirm[: search.reserved // each]
        search.reserved = 0
        last = await self.duelled([(challenger, search.seed, item) for item in items])
        found = verdict(by_group(items, [float(duel.won) for duel in last]), search.alpha)
        search.note("confirmed", candidate=challenger.key, items=[item.number for item in items], **found._asdict())
        told = f"{found.wins} duels won and {found.losses} lost of {found.n} on fresh inputs (p = {found.p:.3g})"
        bias = bias_of(duel.orders for duel in (*self.fought, *last) if duel.orders)
        told += undecided(search.table.outcomes(each, item) for item in items for each in (challenger, search.seed))
        told += f"; the judge contradicted itself in {bias.contradicted} of {bias.judged} when answers were swapped"
        if not found.accepted:
            return concluded(search, search.seed, f"the best candidate is not shown to be better: {told}", found)
        return concluded(search, challenger, f"preferred on fresh inputs: {told}", found)


def text_of(outcome: Outcome) -> str:
    """An answer as the judge reads it."""
    return outcome.said if outcome.said else str(outcome.value)


def position_bias(found: Found) -> Bias:
    """How a search's judge took to places."""
    told = [event["orders"] for event in found.events if event["event"] == "duel"]
    return bias_of(orders for orders in told if orders)
