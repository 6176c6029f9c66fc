"""What to do, in one sentence with its numbers, and what this run cannot tell. The rule is `rule`, as it is printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from promptlab.compare.chances import Chance
from promptlab.compare.comparisons import BASELINE, FAMILIES, FINE_TUNING, MAJORITY_ARM, PROMPTING, Best, Option
from promptlab.compare.crossover import CROSSES
from promptlab.compare.doubts import doubts
from promptlab.compare.hypotheses import not_worse
from promptlab.compare.measures import Results
from promptlab.compare.next_measurement import Next, chance, next_measurement
from promptlab.compare.overtaking import doubted, ends, families, told
from promptlab.compare.points import Point
from promptlab.compare.spending import USD
from promptlab.compare.wording import FAMILY_NAMES, counted, labels, number, plain, sentence_of, shown

UNDECIDED, NOTHING, FAILED, ALONE = "undecided", "nothing", "failed", "alone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one number of labels allows to say.

    `verdict` is a family, "undecided", "nothing", "failed" or "alone"; `families` are those it is about, best first;
    `because` is the sentence with the numbers; `compared` are all the families there. `p` is how likely a family that
    is named is the right one: the share of resamples in which it is ahead, or the cheapest within the margin.
    """

    budget: int
    verdict: str
    families: tuple[str, ...]
    because: str
    compared: tuple[str, ...] = ()
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of the sentence: what to do where, and the numbers that say so."""

    said: str
    numbers: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision sentence and its parts, the verdict at each number of labels, and what was not established.

    `headline` is what to do in one line, with its probability `p`, the lowest of the verdicts that name a family;
    `rule` is how it came about; `next` the cheapest measurement that is likely to settle what is open.

    `crossover` says where the best fine-tuning overtakes the best prompt, with its interval or its probability, and
    what of it is not established; None where one of them was not run. In the sentence it stands only if all of it is.
    """

    headline: str
    p: float | None
    sentence: str
    clauses: tuple[Clause, ...]
    rule: tuple[str, ...]
    next: Next | None
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
    basis = f"n = {counted(results.n_items, 'test item')}, {_ran(results)}"
    found = families(results.crossovers)
    undecided = [verdict for verdict in verdicts if verdict.verdict == UNDECIDED]
    open_ = [verdict.budget for verdict in undecided if {PROMPTING, FINE_TUNING} <= {*verdict.families}]
    doubt = None if found is None else doubted(found, open_)
    overtakes = None if found is None else doubt or sentence_of(told(found))
    established = f" {overtakes}" if overtakes and not doubt else ""
    sentence = f"{sentence_of(said)}{established} Accuracy with {results.confidence:.0%} intervals, {basis}."
    without = sensitivity(results, clauses)
    not_established = [*doubts(results, doubt), *([without] if without else [])]
    likely = [verdict.p for verdict in verdicts if verdict.p is not None]
    p = min(likely, default=None)
    unproven = [verdict.budget for verdict in verdicts if verdict.verdict == NOTHING]
    return Decision(
        headline=headline(results, verdicts, p),
        p=p,
        sentence=sentence,
        clauses=clauses,
        rule=tuple(rule(results)),
        next=next_measurement(results, [verdict.budget for verdict in undecided], unproven),
        crossover=overtakes,
        per_budget=verdicts,
        not_established=tuple(not_established),
        without_failures=without,
    )


def headline(results: Results, verdicts: Sequence[Verdict], p: float | None) -> str:
    """What to do in one line: the crossover itself where it is established and all verdicts agree with it."""
    found = families(results.crossovers)
    budgets = [verdict.budget for verdict in verdicts]
    named = {v.budget: _best_at(v, results) for v in verdicts}
    sides = [v.verdict for v in verdicts if v.verdict not in (UNDECIDED, NOTHING)]
    crosses = found is not None and found.outcome == CROSSES and found.established and found.n is not None
    if found is not None and crosses and list(dict.fromkeys(sides)) == [PROMPTING, FINE_TUNING]:
        prompts = [v.budget for v in verdicts if v.verdict == PROMPTING]
        start = "Prompt" if prompts[0] == budgets[0] else f"From {labels(prompts[0])} prompt"
        until = f"up to {labels(round(found.n or 0))} {ends(found)}"
        said = f"{start} ({named[prompts[-1]]}) {until}; above that fine-tune ({named[budgets[-1]]})"
    else:
        parts = []
        for _, group in groupby(verdicts, key=spoken):
            run = list(group)
            first, last_ = run[0].budget, run[-1].budget
            arm = named[last_]
            span = _span(first, last_, first == budgets[0], last_ == budgets[-1])
            if run[-1].verdict == NOTHING and results.nearly_above(last_) is not None:
                arm = run[-1].because
            parts.append(f"{span} {spoken(run[-1])}{f' ({arm})' if arm else ''}")
        said = "; ".join(parts)
        said = f"{said[0].upper()}{said[1:]}"
    queries = results.terms.queries
    use = "" if queries is None else f" at your {plain(queries)} queries a month"
    return f"{said}; P {as_chance(p)}{use}." if p is not None else f"{said}."


def as_chance(p: float) -> str:
    text = chance(p)
    return text if text[0] in "<>" else f"= {text}"


def _best_at(verdict: Verdict, results: Results) -> str:
    """The arm that a verdict is about; none where it names no family."""
    return results.best_at(verdict.budget)[verdict.verdict].name if verdict.verdict in FAMILIES else ""


def rule(results: Results) -> Iterator[str]:
    """How a verdict comes about, in the order that is gone through at each number of labels."""
    terms, margin = results.terms, number(results.margin)
    yield "Where every answer failed, nothing was answered."
    level = f"its interval at {_strict(results):.1%}, as the highest of {len(_rivals(results))} is picked"
    yield f"Where no arm is above the share of the test's commonest class ({level}), nothing works yet."
    yield "Where only one family was run, it is said whether it is above that, and no more."
    equal = f"Families whose best is within {margin} of the best (lower end of the paired interval) are as good as it"
    if terms.queries is None:
        yield "A family whose best is ahead of every other's (the paired interval leaves out 0) is the one to use."
        yield f"{equal}; of these the one that needs the least is: labels, then a model, trained weights, tokens."
    else:
        all_ = f"{plain(terms.queries)} queries a month for {plain(terms.months)} months"
        yield f"{equal}; of these the cheapest is the one to use, {_by(results)} over {all_}, learning included."
        yield "Of equal costs, that of the least need counts: labels, then a model, trained weights, tokens."
        yield "Where only the best itself is so good, it is the one to use."
    if results.machine_is_free and (terms.queries is not None or terms.usd_per_label):
        yield "An hour of this machine counts as $0, as nobody said what it costs (--usd-per-hour)."
    yield "Else they are not told apart, and no winner is named."
    yield (
        "P is the share of resamples of seeds and test items in which the family that is named is the one that is "
        "ahead, or the cheapest of those within the margin; of several numbers of labels it is the lowest."
    )


def _by(results: Results) -> str:
    """In which unit costs are compared, and at which numbers of labels in which where not everywhere in the same."""
    units = {chance.budget: chance.unit for chance in results.chances} or {0: None}
    parts = []
    for unit in dict.fromkeys(units.values()):
        said = unit or "what it needs (no cost is known of all)"
        where = [f"{budget:,}" for budget, other in units.items() if other == unit]
        *most, last = where
        at = f" at {', '.join(most)}{' and ' if most else ''}{last} labels" if len(set(units.values())) > 1 else ""
        parts.append(f"by {said}{at}")
    return ", ".join(parts)


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
    asked = [point for point in there if point.arm != MAJORITY_ARM]
    if asked and all(point.failed == 1 for point in asked):
        return Verdict(budget, FAILED, tuple(order), "see which and why under the answers")
    if not any(option.labels in (0, budget) for option in results.above):
        return Verdict(budget, NOTHING, tuple(order), _nothing(there, results, budget))
    if len(results.families) == 1:
        [alone] = results.families
        return Verdict(budget, ALONE, (alone,), f"{best[alone].name}, {shown(best[alone].accuracy)}")
    to_top = {name: results.between(name, top, budget).interval for name in others}
    chances = {chance.family: chance for chance in results.chances if chance.budget == budget}
    equal = [top, *(name for name, interval in to_top.items() if not_worse(interval, results.margin))]
    by_use = results.terms.queries is not None and len(equal) > 1  # then cost decides among those that are as good
    if all(interval.high < 0 for interval in to_top.values()) and not by_use:
        said = _ahead(top, best, results, budget)
        return Verdict(budget, top, tuple(order), said, tuple(order), chances[top].ahead)
    unclear = [name for name, interval in to_top.items() if name not in equal and interval.high >= 0]
    if unclear:
        about = (*equal, *unclear)
        return Verdict(budget, UNDECIDED, about, _unclear(about, best, results, budget))
    by_need = [name for option in results.by_cost for name in equal if option in best[name].options]
    cheapest = by_need[0]
    totals = {name: total for name in by_need if (total := chances[name].total) is not None}
    if len(totals) == len(equal):
        cheapest = min(totals, key=totals.__getitem__)  # of equal ones the first
    said = _equal(cheapest, equal, best, results, budget)
    if by_use:
        said += _cheaper_still(chances[cheapest], results)
    return Verdict(budget, cheapest, tuple(equal), said, tuple(order), chances[cheapest].cheapest)


def _nothing(there: Sequence[Point], results: Results, budget: int) -> str:
    """The numbers of the highest, in its own name; the bar itself only where nothing else was run."""
    top = max(there, key=lambda point: (point.arm != MAJORITY_ARM, point.accuracy.value, -point.failed))
    highest = f"the highest is {Option(top.arm, top.labels).at(budget)}, {shown(top.accuracy)}"
    said = f"{highest}, against {number(results.majority)}"
    if results.nearly_above(budget) is None:
        return said
    return f"{said}, but not at the {_strict(results):.1%} asked of the highest of {len(_rivals(results))}"


def _rivals(results: Results) -> list[Point]:
    """The options of which it is asked whether any is above the commonest class."""
    return [point for point in results.points if point.family in FAMILIES and point.arm != MAJORITY_ARM]


def _strict(results: Results) -> float:
    """The level at which that is asked: see `Results.above`."""
    return 1 - (1 - results.confidence) / max(len(_rivals(results)), 1)


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
    costs = {chance.family: chance for chance in results.chances if chance.budget == budget}
    if costs[cheapest].total is not None and costs[rival].total is not None:
        amounts = f"{amount(costs[cheapest])} against {amount(costs[rival])} in all"
        return (
            f"{said}, within {number(results.margin)} of {best[rival].name}: {shown(gap, sign=True)}; it costs "
            f"{amounts}"
        )
    return f"{said}, cheaper and within {number(results.margin)} of {best[rival].name}: {shown(gap, sign=True)}"


def _cheaper_still(chosen: Chance, results: Results) -> str:
    """What costs less in all the queries than the family's best that was chosen, and is as good as the best of all."""
    queries = results.terms.in_all
    if chosen.total is None or chosen.unit is None or queries is None:
        return ""
    bills = {
        option: results.spent(option).bills for option in results.choice.equivalent if option.labels <= chosen.budget
    }
    totals = {option: of[chosen.unit].total(queries) for option, of in bills.items() if chosen.unit in of}
    least = min(totals, key=totals.__getitem__, default=None)
    if least is None or totals[least] > 0.99 * chosen.total:  # or the same, but for rounding
        return ""
    cost = amount(replace(chosen, total=totals[least]))
    return f"; as good as the best of all and cheaper still, at {cost}: {least.at(chosen.budget)}"


def amount(chance: Chance) -> str:
    """A total in its unit."""
    assert chance.total is not None
    return f"${chance.total:,.2f}" if chance.unit == USD else f"{chance.total:.3g} {chance.unit}"


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
