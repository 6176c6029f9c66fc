"""Where fine-tuning overtakes prompting in a run: the best of each family, and every pair of their arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from promptlab.compare.cells import Cell
from promptlab.compare.comparisons import FINE_TUNING, PROMPTING, Option, Sure, aligned, cross_fitted
from promptlab.compare.crossover import ALWAYS, NEVER, UNDECIDED, Crossover, Curve, crossover, learning_curve
from promptlab.compare.statistics import Matrix
from promptlab.compare.wording import labels, number


def crossovers(cells: Sequence[Cell], family: Mapping[str, str], sure: Sure) -> tuple[Crossover, ...]:
    """The families' first, if both were run at two numbers of labels or more, then the arms' in the order of the run.

    The best of a family is chosen at each number of labels as everywhere here: see `comparisons.cross_fitted`.
    """
    some = [cell for cell in cells if family[cell.arm] in (PROMPTING, FINE_TUNING)]
    if {family[cell.arm] for cell in some} != {PROMPTING, FINE_TUNING}:
        return ()
    scored = aligned(some)
    arms = {
        name: {o.labels: m for o, m in scored.items() if o.arm == name} for name in dict.fromkeys(c.arm for c in some)
    }
    members = {name: {o: m for o, m in scored.items() if family[o.arm] == name} for name in (PROMPTING, FINE_TUNING)}
    curves = {name: _curve(_best(among, sure), sure) for name, among in members.items()}
    alone = {name: _curve(correct, sure) for name, correct in arms.items()}
    prompts, tuned = ([name for name in arms if family[name] == of] for of in (PROMPTING, FINE_TUNING))
    pairs = [((PROMPTING, FINE_TUNING), curves), *((pair, alone) for pair in product(prompts, tuned))]
    found = (crossover(of[a], of[b], (a, b), sure.confidence) for (a, b), of in pairs)
    return tuple(one for one in found if one is not None and len(one.labels) > 1)


def _curve(correct: Mapping[int, Matrix], sure: Sure) -> Curve:
    return learning_curve(correct, sure.items.clusters, sure.resamples)


def _best(among: Mapping[Option, Matrix], sure: Sure) -> dict[int, Matrix]:
    """The right answers of a family's best at each number of labels; what needs none can be had at all of them."""
    budgets = sorted({option.labels for option in among})
    there = {k: {o: m for o, m in among.items() if o.labels in (0, k)} for k in budgets}
    return {k: cross_fitted(options, sure.items)[1] for k, options in there.items()}


def told(found: Crossover) -> str:
    """A crossover as a clause, with what it rests on."""
    first, last = labels(found.labels[0]), labels(found.labels[-1])
    if found.outcome == NEVER:
        return f"{found.b} is not seen to overtake {found.a} within {last} ({_likely(found.p_never)})"
    if found.outcome == ALWAYS:
        return f"{found.b} is ahead of {found.a} from {first} on, the fewest tried ({_likely(found.p_always)})"
    if found.outcome == UNDECIDED:
        rest = (("it does not", found.p_never), ("it is ahead all along", found.p_always))
        shares = ", ".join(f"{_likely(p)} that {what}" for what, p in rest if p >= 0.01)
        return f"whether {found.b} overtakes {found.a} between {found.labels[0]:,} and {last} is undecided ({shares})"
    at = "somewhere" if found.n is None else f"at {labels(round(found.n))}"
    return f"{found.b} overtakes {found.a} {at} {ends(found)}"


def _likely(p: float) -> str:
    return "P > 0.99" if p > 0.99 else f"P = {number(p)}"  # no share of resamples is certainty


def ends(found: Crossover) -> str:
    """The interval of a crossover; an end that was not seen is given as below, or above, what was tried."""
    low = f"under {found.labels[0]:,}" if found.low is None else f"{round(found.low):,}"
    high = f"over {found.labels[-1]:,}" if found.high is None else f"{round(found.high):,}"
    return f"[{low}, {high}]"


def families(found: Sequence[Crossover]) -> Crossover | None:
    """The crossover of the families among them."""
    return next((one for one in found if (one.a, one.b) == (PROMPTING, FINE_TUNING)), None)


def doubted(found: Crossover, open_: Sequence[int]) -> str | None:
    """What of a crossover is not established; `open_` are the numbers of labels at which, each by itself, the two are
    not told apart. None where nothing is in doubt."""
    if not found.established:
        likely = found.outcome in (NEVER, ALWAYS)
        start = "Likely but not established" if likely else "Where fine-tuning overtakes prompting is not established"
        return f"{start}: {told(found)}."
    inside = [k for k in open_ if found.labels[0] <= k <= found.labels[-1]]
    if found.outcome != ALWAYS or not inside:
        return None
    one = labels(inside[0])
    return f"All numbers of labels together say that {told(found)}; {one} by themselves do not tell the two apart."
