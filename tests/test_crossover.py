"""From how many labels on one arm is ahead of another: known crossovers, curves that never cross, what is not known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from promptlab.compare.crossover import (
    ALWAYS,
    CROSSES,
    NEVER,
    UNDECIDED,
    Curve,
    crossover,
    isotonic,
    learning_curve,
)
from promptlab.compare.statistics import paired_difference, resample

LABELS = (8, 16, 32, 64, 128, 256, 512)


def answered(shares, seed=0, seeds=5, items=250, noise=0.02, labels=LABELS, test_set=0):
    """Right answers at each number of labels: the items of a test set differ in ease, seeds in luck."""
    rng = np.random.default_rng([seed, test_set])
    ease = np.random.default_rng(test_set).uniform(-0.08, 0.08, items)
    return {
        k: rng.random((seeds, items)) < share + ease + noise * rng.normal(size=(seeds, 1))
        for k, share in zip(labels, shares, strict=True)
    }


def met(a, b, items=250, draws=500, seed=0, **settings):
    drawn = resample(items, draws, seed)
    one, other = (learning_curve(answers, np.arange(items), drawn) for answers in (a, b))
    return crossover(one, other, **settings)


def lines(at, up=0.06):
    """A flat arm and one that climbs `up` with every doubling of the labels and crosses it at `at`."""
    doublings = np.log2(np.array(LABELS) / at)
    return np.full(len(LABELS), 0.5), 0.5 + up * doublings


def exact(labels, values):
    """A curve without noise."""
    shares = np.array(values, dtype=float)
    return Curve(tuple(labels), shares, np.repeat(shares[None], 50, axis=0))


def test_a_known_crossover_is_found_with_its_interval():
    flat, rising = lines(90)
    found = met(answered(flat, seed=1), answered(rising, seed=2), names=("ask", "tune"))
    assert found.outcome == CROSSES
    assert found.established
    assert found.low <= 90 <= found.high
    assert found.low < found.n < found.high
    assert (found.a, found.b, found.labels) == ("ask", "tune", LABELS)


@pytest.mark.parametrize(("seeds", "noise"), [(1, 0), (3, 0.02), (5, 0.04)])
def test_the_interval_covers_the_true_crossover_as_often_as_it_says(seeds, noise):
    hits, simulations = 0, 120
    for i in range(simulations):
        at = float(np.random.default_rng([7, i]).uniform(30, 200))
        a, b = (answered(curve, side, seeds, noise=noise, test_set=i) for side, curve in enumerate(lines(at)))
        found = met(a, b, draws=300, seed=i)
        hits += (found.low or 0) <= at <= (found.high or np.inf)
    assert hits / simulations >= 0.9


def test_an_arm_that_stays_behind_never_overtakes_and_one_ahead_from_the_start_always_does():
    low, high = answered(np.linspace(0.4, 0.5, 7)), answered(np.linspace(0.65, 0.7, 7), seed=3)
    never, always = met(high, low), met(low, high)
    assert (never.outcome, never.n, never.low, never.high) == (NEVER, None, None, None)
    assert (always.outcome, always.n, always.low, always.high) == (ALWAYS, None, None, None)
    assert never.established
    assert always.established
    assert never.p_never == always.p_always == 1


def test_where_arms_end_level_there_is_seldom_an_outcome_to_act_on():
    rising, flat = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6], [0.6] * 7
    found = [met(answered(flat, 1, test_set=i), answered(rising, 2, test_set=i)) for i in range(40)]
    assert sum(one.outcome == UNDECIDED for one in found) >= 14
    assert sum(one.established for one in found) <= 6  # one in forty is what the interval allows on this side
    assert all(one.high is None for one in found if one.outcome == UNDECIDED)


def test_identical_arms_do_not_overtake_each_other():
    answers = answered(np.linspace(0.5, 0.7, 7))
    found = met(answers, answers)
    assert (found.outcome, found.n) == (NEVER, None)


def test_a_dip_in_a_curve_is_pooled_and_makes_no_second_crossing():
    flat, dips = exact((8, 32, 128), (0.5, 0.5, 0.5)), exact((8, 32, 128), (0.3, 0.56, 0.48))
    found = crossover(flat, dips)
    assert found.n == pytest.approx(8 * 4 ** (0.2 / 0.22))  # the last two are .52 both


def test_a_prompt_holds_its_last_value_beyond_its_cap_and_fine_tuning_does_not():
    capped, rising = exact((0, 8, 64), (0.3, 0.6, 0.7)), exact((8, 64, 512, 4096), (0.3, 0.5, 0.68, 0.9))
    found = crossover(capped, rising)
    assert found.labels == (8, 64, 512, 4096)
    assert found.n == pytest.approx(512 * 8 ** (0.02 / 0.22))
    assert crossover(rising, capped).labels == (8, 64)


def test_a_prompt_without_labels_is_there_at_every_number_of_labels():
    zero, rising = exact((0,), (0.6,)), exact((8, 32), (0.5, 0.7))
    assert crossover(zero, rising).n == pytest.approx(16)


def test_curves_that_are_known_at_no_common_number_of_labels_have_no_crossover():
    assert crossover(exact((64, 128), (0.5, 0.6)), exact((8, 16), (0.5, 0.6))) is None


def test_a_single_number_of_labels_says_who_is_ahead_there():
    assert crossover(exact((16,), (0.5,)), exact((16,), (0.6,))).outcome == ALWAYS
    assert crossover(exact((16,), (0.5,)), exact((16,), (0.4,))).outcome == NEVER


def test_the_shares_of_resamples_grow_with_the_labels_from_behind_to_ahead():
    flat, rising = lines(64)
    found = met(answered(flat, seed=1), answered(rising, seed=2))
    assert found.ahead[0] < 0.05
    assert found.ahead[-1] > 0.95
    assert len(found.ahead) == len(found.labels)


def test_one_resample_serves_both_arms_so_that_shared_luck_cancels():
    rng = np.random.default_rng(0)
    base = {k: rng.random((4, 300)) < 0.6 for k in (8, 64)}
    gain = rng.random((4, 300)) < 0.1
    better = {8: base[8] & ~gain, 64: base[64] | gain}
    found = met(base, better, items=300)
    assert (found.outcome, found.established) == (CROSSES, True)


def test_copies_of_an_item_in_its_cluster_do_not_narrow_the_interval():
    flat, rising = lines(64)
    a, b = answered(flat, seed=1, items=100), answered(rising, seed=2, items=100)
    drawn = resample(100, 500)
    once = crossover(*(learning_curve(x, np.arange(100), drawn) for x in (a, b)))
    thrice = crossover(
        *(
            learning_curve({k: np.repeat(v, 3, axis=1) for k, v in x.items()}, np.repeat(np.arange(100), 3), drawn)
            for x in (a, b)
        )
    )
    assert (thrice.low, thrice.n, thrice.high) == pytest.approx((once.low, once.n, once.high))


def test_a_curves_interval_is_no_wider_than_the_pigeonhole_bootstraps():
    flat, rising = answered([0.55] * 7, seed=1), answered([0.6] * 7, seed=2)
    drawn = resample(250, 2_000)
    gap = paired_difference(rising[64], flat[64], np.arange(250), drawn)
    one, other = (learning_curve({64: x[64]}, np.arange(250), drawn) for x in (flat, rising))
    assert float(other.values[0] - one.values[0]) == pytest.approx(gap.value)
    low, high = np.quantile(other.draws[:, 0] - one.draws[:, 0], [0.025, 0.975])
    assert high - low < gap.high - gap.low


@given(arrays(float, st.integers(1, 9), elements=st.floats(0, 1)))
@settings(deadline=None)  # the first import of scikit-learn's part takes long
def test_the_monotone_fit_is_scikit_learns(y):
    x = np.arange(len(y))
    assert isotonic(y) == pytest.approx(IsotonicRegression().fit(x, y).predict(x), abs=1e-9)


@given(arrays(float, (4, 6), elements=st.floats(0, 1)))
def test_the_monotone_fit_never_falls_keeps_the_mean_and_changes_nothing_twice(y):
    fitted = isotonic(y)
    assert (np.diff(fitted, axis=-1) >= -1e-12).all()
    assert fitted.mean(axis=-1) == pytest.approx(y.mean(axis=-1))
    assert isotonic(fitted) == pytest.approx(fitted)
    assert fitted[2] == pytest.approx(isotonic(y[2]))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
@settings(max_examples=60)
def test_an_estimate_lies_where_the_fitted_curves_meet_and_is_never_a_number_outside_the_range(pairs):
    labels = LABELS[: len(pairs)]
    a, b = exact(labels, [p[0] for p in pairs]), exact(labels, [p[1] for p in pairs])
    found = crossover(a, b)
    assert found.p_never + found.p_always <= 1
    if found.n is None:
        assert found.outcome in (NEVER, ALWAYS)
    else:
        assert labels[0] - 1e-9 <= found.n <= labels[-1] + 1e-9
        gap = np.interp(np.log(found.n), np.log(labels), isotonic(b.values) - isotonic(a.values))
        assert gap == pytest.approx(0, abs=1e-9)


def test_the_same_resamples_give_the_same_crossover():
    flat, rising = lines(90)
    a, b = answered(flat, seed=1), answered(rising, seed=2)
    assert met(a, b) == met(a, b)
    assert met(a, b, seed=1) != met(a, b)
