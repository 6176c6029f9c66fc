"""What to do, in one sentence with its numbers, and what this run cannot tell.

At each number of labels the best of each family (prompting, fine-tuning, baselines) is compared with the others:

    every answer failed                                            -> nothing was answered
    none is above the share of the test's commonest class          -> nothing works yet
    only one family was run                                        -> that it is above, and no more
    ahead of every other family                                    -> use it
    within the margin of the best, lower end of the difference     -> the cheapest of those
    the interval covers zero                                       -> not told apart, no winner is named
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from promptlab.compare.comparisons import BASELINE, FAMILIES, FINE_TUNING, MAJORITY_ARM, PROMPTING, Best, Option
from promptlab.compare.doubts import doubts
from promptlab.compare.hypotheses import not_worse
from promptlab.compare.measures import Point, Results
from promptlab.compare.overtaking import families, told
from promptlab.compare.wording import FAMILY_NAMES, labels, number, sentence_of, shown

UNDECIDED, NOTHING, FAILED, ALONE = "undecided", "nothing", "failed", "alone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one number of labels allows to say.

    `verdict` is a family, "undecided", "nothing", "failed" or "alone"; `families` are those it is about, best first;
    `because` is the sentence with the numbers; `compared` are all the families there.
    """

    budget: int
    verdict: str
    families: tuple[str, ...]
    because: str
    compared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of the sentence: what to do where, and the numbers that say so."""

    said: str
    numbers: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision sentence and its parts, the verdict at each number of labels, and what was not established.

    `crossover` says where the best fine-tuning overtakes the best prompt, with its interval or its probability; None
    where one of them was not run. In the sentence it stands only where it is established.
    """

    sentence: str
    clauses: tuple[Clause, ...]
    crossover: str | None
    per_budget: tuple[Verdict, ...]
    not_established: tuple[str, ...]
    without_failures: str | None = None


def decide(results: Results) -> Decision:
    """Apply the rule above at each number of labels and say it in one sentence."""
    budgets = [budget for budget in results.budgets if results.best_at(budget)]  # else only controls were run there
    verdicts = tuple(verdict_at(budget, results) for budget in budgets)
    clauses = tuple(_clauses(verdicts, budgets))
    said = "; ".join(f"{clause.said} ({clause.numbers})" for clause in clauses)
    basis = f"n = {results.n_items} test items, {_ran(results)}"
    found = families(results.crossovers)
    overtakes = None if found is None else sentence_of(told(found))
    established = f" {overtakes}" if found is not None and found.established else ""
    sentence = f"{sentence_of(said)}{established} Accuracy with {results.confidence:.0%} intervals, {basis}."
    without = sensitivity(results, clauses)
    open_ = (*doubts(results), without) if without else tuple(doubts(results))
    return Decision(sentence, clauses, overtakes, verdicts, open_, without)


def sensitivity(results: Results, clauses: Sequence[Clause]) -> str | None:
    """What the verdict would be if failures were left out, in place of counting as wrong; None where nothing failed."""
    if results.answered is None:
        return None
    there = decide(results.answered.results)
    n, cells = results.answered.items, results.answered.cells
    left_out = [*cells, *([f"{n} test item{'s' if n > 1 else ''} that failed somewhere"] if n else [])]
    same = [clause.said for clause in there.clauses] == [clause.said for clause in clauses]
    verdict = f"the verdict would be {'the same' if same else 'another'}: {there.sentence}"
    return f"If failures were left out ({', '.join(left_out)}), {verdict}"


def _ran(results: Results) -> str:
    n = len(results.seeds)
    return f"{n} seeds" if n > 1 else "1 seed" if results.drawn else "run once, as nothing was drawn"


def verdict_at(budget: int, results: Results) -> Verdict:
    """The verdict at one number of labels."""
    best = {name: found for name, found in results.best_at(budget).items() if name in FAMILIES}
    order = sorted(best, key=lambda name: -best[name].accuracy.value)
    top, others = order[0], order[1:]
    there = [point for point in results.points if point.labels in (0, budget)]
    if all(point.failed == 1 for point in there if point.arm != MAJORITY_ARM):
        return Verdict(budget, FAILED, tuple(order), "see which and why under the answers")
    if not any(option.labels in (0, budget) for option in results.above):
        return Verdict(budget, NOTHING, tuple(order), _nothing(there, results, budget))
    if len(results.families) == 1:
        [alone] = results.families
        return Verdict(budget, ALONE, (alone,), f"{best[alone].name}, {shown(best[alone].accuracy)}")
    to_top = {name: results.between(name, top, budget).interval for name in others}
    if all(interval.high < 0 for interval in to_top.values()):
        return Verdict(budget, top, tuple(order), _ahead(top, best, results, budget), tuple(order))
    equal = [top, *(name for name, interval in to_top.items() if not_worse(interval, results.margin))]
    unclear = [name for name, interval in to_top.items() if name not in equal and interval.high >= 0]
    if unclear:
        about = (*equal, *unclear)
        return Verdict(budget, UNDECIDED, about, _unclear(about, best, results, budget))
    cheapest = next(name for option in results.by_cost for name in equal if option in best[name].options)
    return Verdict(budget, cheapest, tuple(equal), _equal(cheapest, equal, best, results, budget), tuple(order))


def _nothing(there: Sequence[Point], results: Results, budget: int) -> str:
    """The numbers of the highest, in its own name; the bar itself only where nothing else was run."""
    top = max(there, key=lambda point: (point.arm != MAJORITY_ARM, point.accuracy.value))
    said = f"the highest is {Option(top.arm, top.labels).at(budget)}, {shown(top.accuracy)}"
    return said if results.majority is None else f"{said}, against {number(results.majority)}"


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
    names = [FAMILY_NAMES[name] for name in sorted(verdict.families, key=FAMILIES.index)]
    if verdict.verdict == UNDECIDED:
        *most, final = names
        return f"{', '.join(most)} and {final} are not told apart"
    if verdict.verdict == ALONE:
        return f"only {names[0]} was run, and it is better than always answering the commonest class"
    if verdict.verdict == BASELINE:
        others = [FAMILY_NAMES[name] for name in verdict.compared if name != BASELINE]
        if len(others) == 2:
            return "you need neither prompting nor fine-tuning, a baseline is as good or better"
        return f"a baseline is as good as {others[0]} or better" if others else "a baseline is all there is"
    return {
        PROMPTING: "prompt",
        FINE_TUNING: "fine-tune",
        NOTHING: "nothing is shown to be better than always answering the commonest class of the test",
        FAILED: "nothing was answered: every request failed",
    }[verdict.verdict]
