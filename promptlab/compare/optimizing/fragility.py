"""How a prompt's answers hang on what should not matter: format, order, names, wording, noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from promptlab.compare.optimizing.reporter import sure_of
from promptlab.compare.optimizing.variants import Variant, variants
from promptlab.compare.statistics import Interval
from promptlab.errors import ModelError, SetupError
from promptlab.optimizers.proposing import instruction_in, meta
from promptlab.program import Program, ask, attempt, gather
from promptlab.prompt import Prompt
from promptlab.splits import clusters
from promptlab.types import Example, Reply

FRAGILE = -3  # the first number of its branches
EACH = 3  # variants on an axis
FIRST_LOOK = 0.6  # of the calls; the rest asks the extremes again, on fresh items
FEWEST = 8  # items of a look


@dataclass(frozen=True)
class Axis:
    """One axis in the first look: the spread over its variants, and its worst variant asked again on fresh items.

    `mean`, `sd`, `low` and `high` are over the variants on `n` common items, and `low` to `high` is wider than what is
    true, as extremes of noisy means are. `worst_fresh` and `drop` (worst minus the prompt as it is) are not. `flips`
    is the share of items whose answer is another than the prompt's as it is, over all variants and looks.
    """

    axis: str
    variants: int
    n: int
    mean: float
    sd: float
    low: float
    high: float
    worst: str
    best: str
    worst_fresh: Interval
    drop: Interval
    flips: float


@dataclass(frozen=True)
class Fragility:
    """All axes, the prompt as it is on both looks, and the spread between the two extremes on fresh items."""

    axes: tuple[Axis, ...]
    as_it_is: Interval
    fresh: Interval
    best: str
    worst: str
    spread: float
    flips: float
    calls: int
    failed: int

    def told(self) -> dict[str, Any]:
        return asdict(self)


async def fragility(
    prompt: Prompt,
    items: Sequence[Example],
    *,
    solve: Callable[[Any, Prompt], Program[Any]],
    score: Callable[[Any, Any], float],
    pool: Sequence[Example] = (),
    calls: int = 500,
    each: int = EACH,
    reword: int = EACH,
    seed: int = 0,
) -> Fragility:
    """FormatSpread (Sclar et al. 2023, arXiv 2310.11324), for more than formats and in one look rather than a bandit.

    Differs: six axes instead of one; every variant is asked the same items, a share of `calls`; and the worst and best
    are asked again, with the prompt as it is, on items, and groups of them, that they were not found on (theirs are the
    extremes of noisy means, which are too far apart). `pool` is where other demonstrations come from, `reword` how many
    paraphrases are asked of the proposer. A call is an answer: a strategy may need more for it. Raises SetupError for
    items or calls too few.
    """
    paraphrases = await reworded_by_proposer(prompt, reword)
    tried = variants(prompt, pool, paraphrases, each, seed)
    axes = list(dict.fromkeys(variant.axis for variant in tried))
    base = Variant("", "as it is", prompt)
    left, again = calls - reword * bool(prompt.instruction), len(axes) + 2
    order = by_groups(Random(f"{seed}/fragility").sample(list(items), len(items)))
    n1 = min(int(FIRST_LOOK * left / (len(tried) + 1)), math.ceil(FIRST_LOOK * len(order)))
    others = not_with(order, n1)
    n2 = min((left - n1 * (len(tried) + 1)) // again, len(others))
    if min(n1, n2) < FEWEST:
        least = FEWEST * (len(tried) + 1 + again) + reword
        raise SetupError(
            f"{len(items)} items and {calls} calls are too few for {len(tried)} variants on {len(axes)} axes: it takes "
            f"{2 * FEWEST} items and about {math.ceil(least / FIRST_LOOK)} calls."
        )
    first = await look([base, *tried], order[:n1], solve, score)
    worst = {axis: min((v for v in tried if v.axis == axis), key=lambda v: mean(first[key(v)])) for axis in axes}
    best = {axis: max((v for v in tried if v.axis == axis), key=lambda v: mean(first[key(v)])) for axis in axes}
    top = max([base, *best.values()], key=lambda v: mean(first[key(v)]))
    fresh_items = others[:n2]
    fresh = await look([base, *worst.values(), *([top] if top is not base else [])], fresh_items, solve, score)
    found = [axis_of(axis, tried, first, fresh, base, worst[axis], best[axis], fresh_items) for axis in axes]
    bottom = min(worst.values(), key=lambda v: mean(first[key(v)]))
    failed = sum(cell.failed for each_look in (first, fresh) for cells in each_look.values() for cell in cells)
    asked = sum(len(cells) for each_look in (first, fresh) for cells in each_look.values())
    return Fragility(
        tuple(found),
        interval(first[key(base)], order[:n1]),
        interval(fresh[key(base)], fresh_items),
        f"{top.axis}: {top.name}".removeprefix(": "),
        f"{bottom.axis}: {bottom.name}",
        mean(fresh[key(top)]) - mean(fresh[key(bottom)]),
        fmean([axis.flips for axis in found]),
        asked + reword * bool(prompt.instruction),
        failed,
    )


def by_groups(items: Sequence[Example]) -> list[Example]:
    """The items in their order, but those of one group or text side by side, where its first one stands."""
    of = clusters(items)  # numbered as they first occur
    return [items[i] for i in sorted(range(len(items)), key=of.__getitem__)]


def not_with(items: Sequence[Example], n: int) -> list[Example]:
    """Those after the first n that share neither group nor text with one of them."""
    of = clusters(items)
    seen = set(of[:n])
    return [item for item, cluster in zip(items[n:], of[n:], strict=True) if cluster not in seen]


@dataclass(frozen=True)
class Cell:
    """A variant's answer to an item, in the task's own labels, and what it was worth."""

    value: Any
    score: float
    failed: bool


Looked = dict[tuple[str, str], list[Cell]]


def key(variant: Variant) -> tuple[str, str]:
    return variant.axis, variant.name


async def look(tried: Sequence[Variant], items: Sequence[Example], solve: Any, score: Any) -> Looked:
    """Every variant on every item, an item on one branch whichever variant asks it."""
    flat = await gather(
        (cell_of(variant, item, solve, score) for variant in tried for item in items),
        branches=[(FRAGILE, *branch_of(item)) for _ in tried for item in items],
    )
    n = len(items)
    return {key(variant): flat[i * n : (i + 1) * n] for i, variant in enumerate(tried)}


def branch_of(item: Example) -> tuple[int, ...]:
    """By what it says: where an item stands in a look does not matter."""
    import hashlib

    return (int.from_bytes(hashlib.sha256(f"{item.id}/{item.input}".encode("utf-8", "replace")).digest()[:4], "big"),)


async def cell_of(variant: Variant, item: Example, solve: Any, score: Any) -> Cell:
    answer = await attempt(solve(variant.noise(item.input), variant.prompt))
    if isinstance(answer, ModelError):
        return Cell(None, 0.0, True)
    value = variant.meant(answer.value)
    return Cell(value, float(score(value, item.target)), False)


async def reworded_by_proposer(prompt: Prompt, n: int) -> list[str]:
    """What the proposer makes of the instruction, said otherwise; nothing where there is none or it says nothing."""
    if not prompt.instruction:
        return []
    text = meta("vary", instruction=prompt.instruction)
    replies = await gather(
        (attempt(ask(text, to="proposer", max_tokens=512, temperature=0.9)) for _ in range(n)),
        branches=[(FRAGILE - 1, i) for i in range(n)],
    )
    said = [instruction_in(reply.text) for reply in replies if isinstance(reply, Reply)]
    fits = [text for text in said if 0 < len(text) <= 3 * len(prompt.instruction) + 40 and any(map(str.isalpha, text))]
    return [text for text in fits if text != prompt.instruction]


def mean(cells: Sequence[Cell]) -> float:
    return fmean(cell.score for cell in cells)


def right(cells: Sequence[Cell]) -> Any:
    return np.array([[cell.score == 1 for cell in cells]])


def interval(cells: Sequence[Cell], items: Sequence[Example]) -> Interval:
    return sure_of(items).accuracy(right(cells))


def axis_of(
    axis: str,
    tried: Sequence[Variant],
    first: Looked,
    fresh: Looked,
    base: Variant,
    worst: Variant,
    best: Variant,
    items: Sequence[Example],
) -> Axis:
    mine = [variant for variant in tried if variant.axis == axis]
    means = [mean(first[key(variant)]) for variant in mine]
    sure = sure_of(items)
    both = [(first[key(v)], first[key(base)]) for v in mine] + [(fresh[key(worst)], fresh[key(base)])]
    flips = [a.value != b.value for one, other in both for a, b in zip(one, other, strict=True)]
    return Axis(
        axis,
        len(mine),
        len(first[key(base)]),
        fmean(means),
        pstdev(means),
        min(means),
        max(means),
        worst.name,
        best.name,
        sure.accuracy(right(fresh[key(worst)])),
        sure.difference(right(fresh[key(worst)]), right(fresh[key(base)])),
        fmean(flips),
    )
