"""How the numbers were made, in the sentences that the report prints under them."""

from __future__ import annotations

from collections.abc import Iterator

from promptlab.compare.measures import Results


def methods(results: Results) -> Iterator[str]:
    """One sentence for each thing a careful reader would ask."""
    level = f"{results.confidence:.0%}"
    yield (
        f"Every interval is a {level} percentile interval of a bootstrap with {results.draws:,} draws that resamples "
        "seeds and clusters of test items together; every arm sits on the same resamples, so differences are paired."
        if len(results.seeds) > 1
        else f"Every interval is a {level} percentile interval of a bootstrap with {results.draws:,} draws over "
        "clusters of test items. There was one seed, so the intervals say nothing about other training examples."
    )
    yield (
        "Where every resample gives the same value (all right, or all wrong) the interval is Wilson's, "
        "because a handful of right answers is not certainty."
    )
    yield (
        "The best arm of a family is chosen on one random half of the test clusters and scored on the other half, both "
        "ways round, so that being picked does not flatter it. Where the halves pick different arms both are named."
    )
    yield (
        "p is an exact two-sided McNemar test in which each cluster of items votes for the arm with more right answers "
        "over all seeds; it holds for these training examples, the interval also for others. Holm's adjustment is over "
        "all comparisons of the same question."
    )
    yield "An arm is called ahead only where the paired interval of the difference leaves out zero."
    yield (
        f"An option counts as good as the best where the lower end of its paired difference lies above "
        f"−{results.margin:.2f}. The cheapest of those needs the fewest labels, then no language model, then the "
        "fewest seconds of learning, then the fewest tokens an answer."
    )
    yield "A request that failed, and an answer that could not be read, count as wrong and stay in the denominator."
