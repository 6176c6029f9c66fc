"""How the numbers were made, in the sentences that the report prints under them."""

from __future__ import annotations

from collections.abc import Iterator

from promptlab.compare.comparisons import OUTSIDE
from promptlab.compare.measures import Results
from promptlab.compare.statistics import MOST_CLUSTERS


def methods(results: Results) -> Iterator[str]:
    """One sentence for each thing a careful reader would ask."""
    yield from _labels_seen()
    yield from _intervals(results)
    yield (
        "Where every resample gives the same value (all right, or all wrong) the interval is Wilson's, "
        "because a handful of right answers is not certainty."
    )
    yield (
        "The best arm of a family is chosen on one random half of the test clusters and scored on the other half, both "
        "ways round (cross-fitting), as this version has no separate dev file to choose it on: so being picked does "
        "not flatter it. Where the halves pick different arms both are named."
    )
    many = len(results.seeds) > 1
    holds = "; it holds for these training examples, the interval also for others" if many else ""
    yield (
        "p is that of an exact two-sided permutation test, McNemar's where an item is answered once: had the arms been "
        "alike, each cluster's difference in right answers"
        f"{' over all seeds' if many else ''} could as well have been the other way round{holds}. Holm's adjustment is "
        "over all comparisons of the same question."
    )
    if results.crossovers:
        yield (
            "The crossover is the number of labels from which on fine-tuning stays ahead, on curves that are monotone "
            "fits over the logarithm of the number of labels, straight between those tried; a prompt keeps its value "
            "past its last. Its interval comes from the same resamples, each fitted anew. An end that lies outside the "
            "labels tried is given as under or over them; what fewer than three in four resamples share is undecided."
        )
    yield "An arm is called ahead only where the paired interval of the difference leaves out zero."
    yield (
        f"An option counts as good as the best where the lower end of its paired difference lies above "
        f"−{results.margin:.2f}. The cheapest of those needs the fewest labels, then no language model, then the "
        "fewest trained parameters, then the fewest tokens an answer; equal ones go by their order in the run. Seconds "
        "are shown but decide nothing, as they change with the machine and its load."
    )
    if any(arm.family in OUTSIDE for arm in results.arms):
        yield (
            "Controls, and arms of another model than the one that is also fine-tuned, are compared with the best arm "
            "and are never it: the families differ in how the same weights are used, and in nothing else."
        )
    if any(point.learn_calls for point in results.points):
        yield (
            "A search for a prompt is paid for from the same labels, and may make 20 calls for each of them (2,000 at "
            "most) where its arm names no number; all that it asked is counted, trials that came to nothing too."
        )
    yield (
        "An answer that failed (its request, or the training of its arm), and one that could not be read, count as "
        "wrong and stay in the denominator."
    )


def _labels_seen() -> Iterator[str]:
    """Who saw which labels, and when."""
    yield "The test labels are joined once, after every answer is written; no learner sees them."
    yield (
        "Each learner makes its own choices, such as C of the logistic regression or which demonstrations fit the "
        "prompt, inside its k labelled examples: these are its dev data too, paid for from the same label budget."
    )


def _intervals(results: Results) -> Iterator[str]:
    level = f"{results.confidence:.0%}"
    df = "C − 1 degrees of freedom for C clusters"
    if len(results.seeds) > 1:
        df = "the degrees of freedom of what C clusters and S seeds add to it (Satterthwaite 1946)"
    start = (
        f"Every interval is a {level} percentile interval, its sides stretched by t/z, t having {df} "
        f"(Hesterberg 2015), of a bootstrap with {results.draws:,} draws"
    )
    if results.n_clusters > MOST_CLUSTERS:
        yield (
            f"The {results.n_clusters:,} clusters of test items are resampled as {MOST_CLUSTERS:,} random groups of "
            "them, which have the same variance to expect; the tests are over the clusters themselves."
        )
    if len(results.seeds) > 1:
        yield (
            f"{start} that resamples seeds and clusters of test items together; every arm sits on the same resamples, "
            "so differences are paired."
        )
    else:
        yield f"{start} over clusters of test items; every arm sits on the same resamples, so differences are paired."
        if results.drawn:
            yield "There was one seed, so the intervals say nothing about other seeds' training examples."
    if results.run_once:
        yield (
            "Without labels nothing is drawn, so an arm was run once there and its interval is over test items; beside "
            "cells that were drawn it counts for every seed."
            if results.drawn
            else "Without labels nothing is drawn, so every arm was run once."
        )
