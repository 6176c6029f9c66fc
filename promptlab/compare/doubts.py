"""What a run did not establish, said before a reader has to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from promptlab.compare.comparisons import ANOTHER_MODEL, BASELINE, FAMILIES, RUNNER_UP, Difference, Option
from promptlab.compare.elsewhere import told_forgotten, told_outside
from promptlab.compare.measures import Results
from promptlab.compare.opened import told_of_elsewhere
from promptlab.compare.points import Point
from promptlab.compare.wording import FAMILY_NAMES, counted, labels, number, shown

FEW_SEEDS = 5


def doubts(results: Results, crossing: str | None = None) -> Iterator[str]:
    """One sentence each, the comparisons first, then what was never measured; `crossing` is that of the crossover."""
    yield from _never_run(results)
    yield from _not_told_apart(results)
    if crossing:
        yield crossing
    yield from _choices(results)
    yield from _prompts(results)
    yield from _answers(results)
    yield from _sample(results)
    yield from _data(results)
    yield from _absent(results)
    yield from _opened(results)
    here = {Option(p.arm, p.labels): p.accuracy for p in results.points if p.family in FAMILIES}
    yield from told_outside(results.outside, here)
    yield from told_forgotten(results.forgotten, "general_sha256" in results.run.get("data", {}))
    others = any(arm.family == ANOTHER_MODEL for arm in results.arms)
    tried = "One task was tried, and one model in both families" if others else "One task and one model were tried"
    yield f"{tried}; another of either may order the arms differently."


def _opened(results: Results) -> Iterator[str]:
    """Whether the test was looked at more than once."""
    run = results.run
    if len(times := run.get("test_opened") or ()) > 1:
        yield (
            f"The test was opened {len(times)} times ({', '.join(times)}), as answers were asked again after the "
            "first: this is no longer a first look."
        )
    if told := told_of_elsewhere(run, run["n_test"]):
        yield told


def _absent(results: Results) -> Iterator[str]:
    for budget in results.budgets:
        lacking = dict.fromkeys(label for p in results.points if p.labels == budget for label in p.absent)
        if lacking:
            yield (
                f"With {labels(budget)} the examples of some seed have none of {', '.join(lacking)}: no arm could "
                "learn that label from them."
            )


def _never_run(results: Results) -> Iterator[str]:
    for family in FAMILIES:
        if family not in results.families:
            more = " but the most frequent answer" if family == BASELINE else ""
            yield f"No arm of {FAMILY_NAMES[family]}{more} was run, so nothing is known of it here."


def _not_told_apart(results: Results) -> Iterator[str]:
    for budget in results.budgets:
        there = [d for d in results.differences if d.budget == budget and d.b != RUNNER_UP]
        pairs = {frozenset((d.a, d.b)): d for d in there}  # one pair may answer two questions
        at = f"With {labels(budget)}" if budget else "Without labels"
        if open_ := [
            d for d in pairs.values() if d.interval.low <= 0 <= d.interval.high and d.interval.low < d.interval.high
        ]:
            yield f"{at} these are not told apart, as the interval of the difference covers zero: {_listed(open_)}."
        if weak := [d for d in pairs.values() if d.interval.excludes_zero and d.p_holm >= 0.05]:
            yield f"{at} the intervals of these leave out zero, but p is above 0.05 after Holm: {_listed(weak)}."


def _listed(differences: Iterable[Difference]) -> str:
    return "; ".join(f"{d.a} and {d.b} ({shown(d.interval, sign=True)}, n = {d.interval.n_items})" for d in differences)


def _choices(results: Results) -> Iterator[str]:
    for best in results.best:
        if len(best.options) > 1:
            at = f"with {labels(best.budget)}" if best.budget else "without labels"
            which = "arm of all" if best.family == "all" else f"{best.family} arm"
            yield f"Which {which} is best {at} is open: the two halves of the test set choose {best.name}."


def _prompts(results: Results) -> Iterator[str]:
    for point in results.capped:
        yield (
            f"{point.arm} with {labels(point.labels)} was capped by the model's context: {point.left_out:.0f} of "
            f"{point.shots + point.left_out:.0f} demonstrations did not fit the prompt. A longer context may do better."
        )


def _answers(results: Results) -> Iterator[str]:
    for budget in results.budgets:
        both = [p for p in results.points if p.labels == budget and p.generated is not None]
        if len(both) > 1:
            scored, written = max(both, key=lambda p: p.accuracy.value), max(both, key=_written)
            if scored.accuracy.value > written.accuracy.value and _written(written) > _written(scored):
                yield (
                    f"With {labels(budget)} the ranking depends on how answers are read: {scored.arm} leads when "
                    f"labels are scored ({number(scored.accuracy.value)}), {written.arm} when the model writes freely "
                    f"({number(_written(written))})."
                )
    failed = sum(p.failed * p.accuracy.n_items * p.accuracy.n_seeds for p in results.points)
    if failed:
        yield f"{failed:.0f} answers failed. They count as wrong, so the arms they hit may be better than shown."


def _written(point: Point) -> float:
    return point.generated.value if point.generated else 0.0


def _sample(results: Results) -> Iterator[str]:
    points = 100 * results.detectable
    yield (
        f"With {counted(results.n_clusters, 'independent test item')} a difference below about {points:.1f} points has "
        "less than an 80 % chance of being seen (two arms near 0.75 that agree as models usually do, r = 0.38)."
    )
    if results.n_clusters < results.n_items:
        come = f"The {results.n_items:,} test items come in {counted(results.n_clusters, 'group')}"
        yield f"{come}; the intervals rest on {'those' if results.n_clusters > 1 else 'that one'}."
    most = results.budgets[-1]
    other = "training examples" if most else "random draws"
    if len(results.seeds) < FEW_SEEDS and results.drawn:
        yield (
            f"{len(results.seeds)} seeds are few: the spread over {other} is itself known only roughly."
            if len(results.seeds) > 1
            else f"One seed was run: other {other} may order the arms differently, and no interval shows it."
        )
    yield f"Nothing is known beyond {labels(most)}." if most else "Only arms without labels were run."


def _data(results: Results) -> Iterator[str]:
    for finding in results.run.get("lint") or ():
        kind = finding["kind"]
        if kind in ("overlap", "groups across", "leak"):
            yield f"Scores may be too high: {finding['message']}"
        elif kind == "duplicates":
            yield f"Texts that are there often count as often, in intervals once: {finding['message']}"
        elif kind == "conflicts":
            yield f"Not every label can be right: {finding['message']}"
    yield from map(str, results.run.get("warnings") or ())
