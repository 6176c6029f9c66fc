"""What to do, in one sentence with its numbers, and what this run cannot tell.

At each number of labels the best of each family (prompting, fine-tuning, baselines) is compared with the others:

    none is above always giving the most frequent answer           -> nothing works yet
    ahead of every other family                                    -> use it
    within the margin of the best, lower end of the difference     -> the cheapest of those
    the interval covers zero                                       -> not told apart, no winner is named
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from promptlab.compare.comparisons import BASELINE, FAMILIES, FINE_TUNING, PROMPTING, Best
from promptlab.compare.doubts import doubts
from promptlab.compare.measures import Results
from promptlab.compare.wording import labels, number, shown

UNDECIDED, NOTHING = "undecided", "nothing"
MAJORITY_ARM = "majority"  # always gives the most frequent answer: the bar itself
FAMILY_NAMES = {PROMPTING: "prompting", FINE_TUNING: "fine-tuning", BASELINE: "the baseline"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one number of labels allows to say.

    `verdict` is a family, "undecided" or "nothing"; `families` are those it is about, best first; `because` is the
    sentence with the numbers.
    """

    budget: int
    verdict: str
    families: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of the sentence: what to do where, and the numbers that say so."""

    said: str
    numbers: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision sentence and its parts, the verdict at each number of labels, and what was not established."""

    sentence: str
    clauses: tuple[Clause, ...]
    per_budget: tuple[Verdict, ...]
    not_established: tuple[str, ...]


def decide(results: Results) -> Decision:
    """Apply the rule above at each number of labels and say it in one sentence."""
    verdicts = tuple(verdict_at(budget, results) for budget in results.budgets)
    clauses = tuple(_clauses(verdicts, results.budgets))
    said = "; ".join(f"{clause.said} ({clause.numbers})" for clause in clauses)
    basis = f"n = {results.n_items} test items, {_ran(results)}"
    sentence = f"{said[0].upper()}{said[1:]}. Accuracy with {results.confidence:.0%} intervals, {basis}."
    return Decision(sentence, clauses, verdicts, tuple(doubts(results)))


def _ran(results: Results) -> str:
    n = len(results.seeds)
    return f"{n} seeds" if n > 1 else "1 seed" if results.drawn else "run once, as nothing was drawn"


def verdict_at(budget: int, results: Results) -> Verdict:
    """The verdict at one number of labels."""
    best = {name: found for name, found in results.best_at(budget).items() if name in FAMILIES}
    order = sorted(best, key=lambda name: -best[name].accuracy.value)
    top, others = order[0], order[1:]
    bar = results.majority
    if bar is not None and all(found.accuracy.low <= bar for found in best.values()):
        return Verdict(budget, NOTHING, tuple(order), _nothing([best[name] for name in order], bar))
    to_top = {name: results.between(name, top, budget).interval for name in others}
    if all(interval.high < 0 for interval in to_top.values()):
        return Verdict(budget, top, (top, *others), _ahead(top, best, results, budget))
    equal = [top, *(name for name, interval in to_top.items() if interval.low > -results.margin)]
    unclear = [name for name, interval in to_top.items() if name not in equal and interval.high >= 0]
    if unclear:
        about = (*equal, *unclear)
        return Verdict(budget, UNDECIDED, about, _unclear(about, best, results, budget))
    cheapest = next(name for option in results.by_cost for name in equal if option in best[name].options)
    return Verdict(budget, cheapest, tuple(equal), _equal(cheapest, equal, best, results, budget))


def _nothing(order: Sequence[Best], bar: float) -> str:
    """The numbers of the best that is not the bar itself."""
    nearest = next((one for one in order if any(o.arm != MAJORITY_ARM for o in one.options)), order[0])
    return f"the best of them is {nearest.name}, {shown(nearest.accuracy)}, against {number(bar)}"


def _ahead(top: str, best: dict[str, Best], results: Results, budget: int) -> str:
    said = f"{best[top].name}, {shown(best[top].accuracy)}"
    rivals = [name for name in best if name != top]
    if not rivals:
        return said
    rival = max((name for name in rivals if name != BASELINE), key=lambda n: best[n].accuracy.value, default=BASELINE)
    over = {PROMPTING: "the best prompt", FINE_TUNING: "the best fine-tuning", BASELINE: "the best baseline"}[rival]
    return f"{said}, {shown(results.between(top, rival, budget).interval, sign=True)} over {over}"


def _unclear(about: Sequence[str], best: dict[str, Best], results: Results, budget: int) -> str:
    top, *rest = about
    first = f"{best[top].name} {shown(best[top].accuracy)}"
    gaps = [f"{shown(results.between(top, n, budget).interval, sign=True)} over {best[n].name}" for n in rest]
    return f"{first}, {' and '.join(gaps)}"


def _equal(cheapest: str, equal: Sequence[str], best: dict[str, Best], results: Results, budget: int) -> str:
    said = f"{best[cheapest].name}, {shown(best[cheapest].accuracy)}"
    rival = next(name for name in equal if name != cheapest)
    gap = results.between(cheapest, rival, budget).interval
    return f"{said}, cheaper and within {number(results.margin)} of {best[rival].name}: {shown(gap, sign=True)}"


def _clauses(verdicts: Sequence[Verdict], budgets: Sequence[int]) -> Iterator[Clause]:
    """Neighbouring budgets with the same verdict become one clause, with the numbers of the one nearest to change."""
    for _, group in groupby(verdicts, key=spoken):
        run = list(group)
        first, last = run[0], run[-1]
        starts, ends = first.budget == budgets[0], last.budget == budgets[-1]
        cited = first if ends and not starts else last
        where = "" if len(run) == 1 else f"with {labels(cited.budget)}: "
        yield Clause(f"{_span(first.budget, last.budget, starts, ends)} {spoken(cited)}", where + cited.because)


def _span(first: int, last: int, starts: bool, ends: bool) -> str:
    if first == last:
        return (
            f"from {labels(first)}"
            if ends and not starts
            else "without labels"
            if first == 0
            else f"with {labels(first)}"
        )
    if starts and ends:
        return f"at every number of labels tried ({first} to {last})"
    return f"up to {labels(last)}" if starts else f"from {labels(first)}" if ends else f"from {first} to {labels(last)}"


def spoken(verdict: Verdict) -> str:
    """The verdict as a clause."""
    if verdict.verdict == UNDECIDED:
        *most, final = [FAMILY_NAMES[name] for name in sorted(verdict.families, key=FAMILIES.index)]
        return f"{', '.join(most)} and {final} are not told apart"
    return {
        PROMPTING: "prompt",
        FINE_TUNING: "fine-tune",
        BASELINE: "you need neither prompting nor fine-tuning, a baseline is as good or better",
        NOTHING: "nothing is shown to be better than always giving the most frequent answer",
    }[verdict.verdict]
