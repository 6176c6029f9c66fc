"""The last comparison: the best candidate against the prompt as it was, on items that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.optimizers.acceptance import Verdict, verdict
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.found import Found, tuned
from promptlab.optimizers.sections import by_group, looks

if TYPE_CHECKING:
    from promptlab.optimizers.search import Search
    from promptlab.optimizers.table import Outcome

BLOCK = 10  # items between two looks, where one may stop early
TOO_MANY_FAILED = 0.2  # of a candidate's requests: it is not scored then


async def conclude(search: Search, challenger: Candidate) -> Any:
    """The challenger, if it beats the seed on items that nothing was chosen by; else the seed."""
    if challenger.key == search.seed.key or not any(outcome.score for outcome in search.table.rows.values()):
        return as_it_is(search, nothing_better(search))
    items, pair = search.sections.confirm[: search.confirmed()], (search.seed, challenger)
    search.reserved = 0
    for end in looks(items, BLOCK) if search.test == "betting" else [len(items)]:
        await search.score(pair, items[:end])
        differences = by_group(items[:end], search.table.differences(challenger, search.seed, items[:end]))
        found = verdict(differences, search.alpha, search.test)
        if search.test == "betting" and found.accepted:
            break
    asked = [item.number for item in items[:end]]
    search.note("confirmed", candidate=challenger.key, items=asked, **found._asdict())
    failed = max(search.table.failures(each, items) for each in pair)
    what = "items" if found.n == len(asked) else "groups"
    told = f"{found.wins} {what} won and {found.losses} lost of {found.n} fresh ones (p = {found.p:.3g})"
    told += undecided(search.table.outcomes(each, item) for item in items[:end] for each in pair)
    if failed > TOO_MANY_FAILED:
        return ended(search, search.seed, False, f"{failed:.0%} of the last comparison's requests failed", found)
    if not found.accepted:
        return ended(search, search.seed, False, f"the best candidate is not shown to be better: {told}", found)
    return ended(search, challenger, True, f"better on fresh items: {told}", found)


def undecided(last: Iterable[Sequence[Outcome]]) -> str:
    """What is told of the answers of a last comparison that were lost."""
    n = sum(outcome.lost for outcomes in last for outcome in outcomes)
    return f"; {n} answers were not to be had, which counts as no difference" if n else ""


def nothing_better(search: Search) -> str:
    scores = [outcome.score for outcome in search.table.rows.values()]
    if not any(scores):
        return f"the task is out of reach: none of the prompts scored anything on {len(scores)} questions"
    if search.stopped and not any(event["event"] == "raced" for event in search.events):
        return search.stopped
    if len(search.known) == 1:
        reasons = ", ".join(f"{why} ({n})" for why, n in search.rejected.items())
        failed = [why for event in search.events if event["event"] == "asked" for why in event["failed"]]
        said = f"; it failed with: {failed[0]}" if failed else ""
        return f"nothing was proposed that could be tried: {reasons or 'there was nothing to learn from'}{said}"
    early = f", and the search ended early: {search.stopped}" if search.stopped else ""
    return f"none of {len(search.known) - 1} candidates did better in the race{early}"


def as_it_is(search: Search, why: str) -> Any:
    """The prompt it began with, and why it stays."""
    return ended(search, search.seed, False, why, None)


def concluded(search: Search, best: Candidate, why: str, confirmed: Verdict) -> Any:
    """What a last comparison of the method's own came to."""
    return ended(search, best, best.key != search.seed.key, why, confirmed)


def ended(search: Search, best: Candidate, accepted: bool, why: str, confirmed: Verdict | None) -> Any:
    challenger = best if accepted else None
    raced = None
    if challenger is not None:
        race = search.sections.race
        common = [i for i in race if all(search.table.outcomes(each, i) for each in (challenger, search.seed))]
        raced = (search.table.mean(challenger, common), search.table.mean(search.seed, common)) if common else None
    search.note("ended", best=best.key, accepted=accepted, why=why)
    found = Found(
        search.method,
        search.seed,
        best,
        accepted,
        why,
        confirmed,
        raced,
        search.spent,
        search.proposals,
        tuple(search.known.values()),
        dict(search.rejected),
        tuple(search.events),
    )
    return tuned(found)
