"""Studies that never were: the truth about them is known, so it can be counted how often an interval holds it.

An item is right with the chance that its arm has at this number of labels, plus its own ease (the same for all arms),
plus the luck of the seed with these labels; on a share of the items every seed is right or wrong alike, as models are.
Curves are straight lines over the logarithm of the number of labels. Seeds, items, clusters and noise differ by study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from harness import row
from scipy.special import expit

from promptlab.compare.crossover import ALWAYS, CROSSES, NEVER, UNDECIDED, Crossover, crossover, learning_curve
from promptlab.compare.statistics import Floats, Ints, Matrix, resample, wilson
from statistical.rows import Row, at_most, between

LABELS = (8, 16, 32, 64, 128, 256, 512, 1_024)
DOUBLINGS = np.arange(len(LABELS), dtype=np.float64)
STUDIES = 500


@dataclass(frozen=True)
class Study:
    """One made-up study: how it was laid out, and its two curves."""

    seeds: int
    clusters: Ints
    noise: float
    alike: float
    prompting: Floats
    tuning: Floats


def laid_out(rng: np.random.Generator, prompting: Floats, tuning: Floats) -> Study:
    per_cluster = int(rng.choice([1, 1, 2, 4]))
    clusters = np.arange(int(rng.integers(150, 500))) // per_cluster
    noise, alike = float(rng.uniform(0, 0.05)), float(rng.uniform(0, 0.7))
    return Study(int(rng.choice([3, 5, 5, 10])), clusters, noise, alike, prompting, tuning)


def crossing(rng: np.random.Generator) -> tuple[Study, float]:
    """A study whose arms cross within the labels, and where."""
    at, up, slow = rng.uniform(1.5, 5.5), rng.uniform(0.04, 0.08), rng.uniform(0, 0.02)
    prompting, tuning = 0.55 + slow * (DOUBLINGS - at), 0.55 + up * (DOUBLINGS - at)
    return laid_out(rng, prompting, tuning), float(LABELS[0] * 2**at)


def analysed(study: Study, rng: np.random.Generator, draws: int) -> Crossover:
    """What the library says of it."""
    n = int(study.clusters[-1]) + 1
    lowest, highest = min(study.prompting.min(), study.tuning.min()), max(study.prompting.max(), study.tuning.max())
    room = max(0.0, min(lowest, 1 - highest)) / 2
    ease = room * rng.uniform(-1, 1, n)[study.clusters]
    drawn = resample(n, draws, int(rng.integers(2**31)))
    curves = [
        learning_curve(answered(study, curve, ease, rng), study.clusters, drawn)
        for curve in (study.prompting, study.tuning)
    ]
    found = crossover(curves[0], curves[1], ("prompting", "fine-tuning"))
    assert found is not None
    return found


def answered(study: Study, curve: Floats, ease: Floats, rng: np.random.Generator) -> dict[int, Matrix]:
    found = {}
    for k, mean in zip(LABELS, curve, strict=True):
        chance = mean + ease + study.noise * rng.normal(size=(study.seeds, 1))
        luck = rng.random((study.seeds, len(ease)))
        luck = np.where(rng.random(len(ease)) < study.alike, luck[:1], luck)
        found[k] = luck < chance
    return found


def measure(quick: bool) -> list[Row]:
    studies, draws = (60, 300) if quick else (STUDIES, 1_000)
    return [*coverage(studies, draws), *outcomes(studies // 5, draws), *few_seeds(studies, draws)]


def coverage(studies: int, draws: int) -> list[Row]:
    held, crossed, off, widths = 0, 0, [], []
    for i in range(studies):
        rng = np.random.default_rng([i, 0])
        study, truth = crossing(rng)
        found = analysed(study, rng, draws)
        low, high = interval(found)
        held += low <= truth <= high
        crossed += found.outcome == CROSSES
        if found.n is not None:
            off.append(np.log2(found.n / truth))
        if found.established and found.outcome == CROSSES:
            widths.append(np.log2(high / low))
    share = held / studies
    low, high = wilson(share, studies)
    kept = row(
        "simulated crossovers: 95 % intervals that hold the true one", share, "share", low=low, high=high, n=studies
    )
    noisy = 3 * (0.05 * 0.95 / studies) ** 0.5 if studies < STUDIES else 0.0  # a quick run has few
    return [
        between(kept, 0.92 - noisy, min(1.0, 0.97 + noisy), "must lie in"),
        row("simulated crossovers: said to cross", crossed / studies, "share", n=studies),
        row("simulated crossovers: estimate off by, median", float(np.median(np.abs(off))), "doublings", n=len(off)),
        row(
            "simulated crossovers: width of the interval, median", float(np.median(widths)), "doublings", n=len(widths)
        ),
    ]


def interval(found: Crossover) -> tuple[float, float]:
    """Its ends, with those outside the labels as no labels at all and as ever so many."""
    tail = (1 - found.confidence) / 2
    low = np.inf if found.p_never > 1 - tail else 0.0 if found.low is None else found.low
    high = 0.0 if found.p_always > 1 - tail else np.inf if found.high is None else found.high
    return low, high


def outcomes(studies: int, draws: int) -> list[Row]:
    flat = np.full(len(LABELS), 0.5)
    behind, ahead = flat - 0.2 + 0.01 * DOUBLINGS, flat + 0.13 + 0.01 * DOUBLINGS  # both .13 where nearest
    level = flat + 0.06 * (DOUBLINGS - DOUBLINGS[-1])
    rows = []
    cases: tuple[tuple[str, Floats, Callable[[Crossover], bool], bool], ...] = (
        ("an arm that stays behind: said never to overtake", behind, lambda c: c.outcome == NEVER, True),
        ("an arm ahead from the start: said to be always", ahead, lambda c: c.outcome == ALWAYS, True),
        ("an arm that ends level: undecided", level, lambda c: c.outcome == UNDECIDED, False),
        ("an arm that ends level: something to act on", level, lambda c: c.established, False),
    )
    for name, curve, said, always in cases:
        found = []
        for i in range(studies):
            rng = np.random.default_rng([i, 1])
            found.append(said(analysed(laid_out(rng, flat, curve), rng, draws)))
        share = sum(found) / studies
        rows.append(row(f"simulated: {name}", share, "share", n=studies, target=1.0 if always else None))
    return [*rows, *level_arms(studies * 5)]


def level_arms(studies: int) -> list[Row]:
    """Paired tests of equal arms, by which it shows whether they reject as seldom as they should."""
    from promptlab.compare.clustered import paired_error
    from promptlab.compare.hypotheses import sign_flips
    from promptlab.compare.statistics import paired_difference

    counts = {"paired interval leaves out zero": 0, "flipped signs": 0, "clustered t": 0}
    for i in range(studies):
        rng = np.random.default_rng([i, 2])
        clusters = np.arange(240) // 3
        drawn = resample(80, 400, i)
        ease = rng.uniform(0.3, 0.9, 80)[clusters]
        a, b = (rng.random((1, 240)) < ease for _ in range(2))
        difference = (a.astype(np.float64) - b)[0]
        counts["paired interval leaves out zero"] += paired_difference(a, b, clusters, drawn).excludes_zero
        counts["flipped signs"] += sign_flips(np.bincount(clusters, weights=difference), 500, i) < 0.05
        counts["clustered t"] += paired_error(a[0], b[0], clusters.tolist()).p < 0.05
    most = 0.05 + NormalDist().inv_cdf(0.999) * (0.05 * 0.95 / studies) ** 0.5
    return [
        at_most(f"equal arms told apart at 5 %: {name}", count / studies, round(most, 4), "share", studies)
        for name, count in counts.items()
    ]


def few_seeds(studies: int, draws: int) -> Iterator[Row]:
    """Accuracies, and differences of equal arms, where seeds differ by so much: a standard deviation of logits.

    Of two seeds nothing is asked: how far seeds differ is then known of one difference alone.
    """
    from promptlab.compare.statistics import accuracy, paired_difference

    for seeds, items, spread in ((1, 1_000, 0.0), (2, 1_000, 0.6), (3, 1_000, 0.2), (3, 1_000, 0.6), (5, 1_000, 0.4)):
        clusters, far = np.arange(items), np.random.default_rng(0).normal(0, (1 + spread**2) ** 0.5, 1_000_000)
        truth, held, apart = float(expit(0.8 + far).mean()), 0, 0
        for i in range(studies):
            rng = np.random.default_rng([i, 3])
            drawn, ease = resample(items, draws, i), rng.normal(0, 1, items)
            a, b = (rng.random((seeds, items)) < expit(0.8 + ease + rng.normal(0, spread, (seeds, 1))) for _ in "ab")
            found = accuracy(a, clusters, drawn)
            held += found.low <= truth <= found.high
            apart += paired_difference(a, b, clusters, drawn).excludes_zero
        what = f"{seeds} seeds that differ by {spread:g}, {items:,} items"
        noise = NormalDist().inv_cdf(0.999) * (0.05 * 0.95 / studies) ** 0.5
        least, most = (None, None) if seeds == 2 else (round(0.95 - noise, 4), round(0.05 + noise, 4))
        name = f"simulated: 95 % intervals of accuracies that hold the true one, {what}"
        yield row(name, held / studies, "share", n=studies, target=least)
        name = f"simulated: equal arms told apart, {what}"
        yield row(name, apart / studies, "share", n=studies, target=most, at_most=True)
