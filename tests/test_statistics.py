"""The statistics: against scipy and scikit-learn where there is a closed form, by simulation where there is none."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from promptlab.compare.hypotheses import not_worse, sign_flips
from promptlab.compare.statistics import (
    SAME,
    WILSON,
    accuracy,
    benjamini_hochberg,
    holm,
    macro_f1,
    paired_difference,
    pooled,
    resample,
    smallest_detectable_difference,
    votes,
    wilson,
)


def matrices(seeds: int = 3, items: int = 12):
    return arrays(bool, (seeds, items))


def alone(n: int) -> np.ndarray:
    """Every item its own cluster."""
    return np.arange(n)


@given(n=st.integers(1, 5_000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys_wilson(n, share, confidence):
    k = round(share * n)
    expected = scipy.stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k / n, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_what_the_step_down_rule_rejects(ps):
    adjusted = holm(ps)
    for level in (0.01, 0.05, 0.5):
        rejected, order = set(), sorted(range(len(ps)), key=lambda i: ps[i])
        for rank, i in enumerate(order):
            if (len(ps) - rank) * ps[i] > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_on_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("n", "rho", "points"),
    [
        (250, 0.38, 8.5),
        (250, 0, 10.9),
        (250, 0.7, 5.9),
        (500, 0.38, 6.0),
        (500, 0, 7.7),
        (500, 0.7, 4.2),
        (1_273, 0.38, 3.8),
        (1_273, 0, 4.8),
        (1_273, 0.7, 2.6),
        (3_080, 0.38, 2.4),
        (3_080, 0, 3.1),
        (3_080, 0.7, 1.7),
    ],
)
def test_the_smallest_detectable_difference_reproduces_the_power_table(n, rho, points):
    # The published figures are rounded to a tenth of a point, some of them upwards.
    assert 100 * smallest_detectable_difference(n, 0.75, rho) == pytest.approx(points, abs=0.06)


def test_the_smallest_detectable_difference_is_detected_with_the_stated_power():
    n, p, rho = 400, 0.75, 0.38
    delta, se = smallest_detectable_difference(n, p, rho), math.sqrt(2 * p * (1 - p) * (1 - rho) / n)
    z = scipy.stats.norm.ppf(0.975)
    assert scipy.stats.norm.sf(z - delta / se) == pytest.approx(0.8, abs=1e-9)


def test_copies_of_an_item_in_its_cluster_add_no_certainty():
    correct = np.random.default_rng(1).random((1, 60)) < 0.7
    once = accuracy(correct, alone(60), resample(60))
    thrice = accuracy(np.repeat(correct, 3, axis=1), np.repeat(alone(60), 3), resample(60))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (thrice.n_items, thrice.n_clusters) == (180, 60)


def test_the_bootstrap_over_items_agrees_with_scipys():
    correct = np.random.default_rng(2).random((1, 400)) < 0.7
    found = accuracy(correct, alone(400), resample(400, draws=8_000))
    expected = scipy.stats.bootstrap(
        (correct[0],), np.mean, n_resamples=8_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    assert "one seed" in found.method


def test_the_variance_over_few_seeds_is_not_understated():
    # Two seeds whose means differ: the standard error of their mean is half the difference, sd / sqrt(2).
    correct = np.zeros((2, 1_000), bool)
    correct[0, :800], correct[1, :600] = True, True
    found = accuracy(correct, alone(1_000), resample(1_000))
    assert found.low < 0.6
    assert found.high > 0.8


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds):
    rng = np.random.default_rng(4)
    drawn, hits, simulations = resample(120, draws=400), 0, 300
    for _ in range(simulations):
        item, seed = rng.normal(size=120), rng.normal(size=(seeds, 1)) * (0.3 if seeds > 1 else 0)
        correct = item + seed + rng.normal(size=(seeds, 120)) < 0.9
        truth = scipy.stats.norm.cdf(0.9 / math.sqrt(2 + (0.09 if seeds > 1 else 0)))
        found = accuracy(correct, alone(120), drawn)
        hits += found.low <= truth <= found.high
    assert 0.89 <= hits / simulations <= 0.985


def test_the_paired_interval_covers_the_true_difference():
    rng, drawn, hits, simulations = np.random.default_rng(5), resample(150, draws=400), 0, 300
    for _ in range(simulations):
        ease = rng.random(150)
        a, b = ease[None] + rng.normal(size=(1, 150)) > 0.4, ease[None] + rng.normal(size=(1, 150)) > 0.8
        uniform = np.linspace(0, 1, 2_001)
        truth = np.mean(scipy.stats.norm.cdf(uniform - 0.4) - scipy.stats.norm.cdf(uniform - 0.8))
        found = paired_difference(a, b, alone(150), drawn)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / simulations <= 0.985


def test_pairing_makes_the_interval_narrower_than_two_separate_ones():
    rng, drawn = np.random.default_rng(6), resample(300)
    a = rng.random((1, 300)) < 0.7
    b = a ^ (rng.random((1, 300)) < 0.05)
    gap = paired_difference(a, b, alone(300), drawn)
    separate = [accuracy(one, alone(300), drawn) for one in (a, b)]
    assert gap.high - gap.low < 0.6 * math.hypot(*(one.high - one.low for one in separate))


@given(matrices())
@settings(max_examples=30)
def test_an_arm_does_not_differ_from_itself(a):
    found = paired_difference(a, a.copy(), alone(12), resample(12, draws=50))
    assert (found.value, found.low, found.high, found.method) == (0, 0, 0, SAME)


@given(a=matrices(), b=matrices())
@settings(max_examples=50)
def test_swapping_the_arms_flips_the_difference(a, b):
    drawn, clusters = resample(6, draws=50), np.arange(12) // 2
    there, back = (paired_difference(*pair, clusters, drawn) for pair in ((a, b), (b, a)))
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12)
    assert votes(a, b, clusters, 6) == (
        votes(b, a, clusters, 6)[1],
        votes(b, a, clusters, 6)[0],
        votes(b, a, clusters, 6)[2],
    )


@given(a=matrices(), b=matrices())
@settings(max_examples=50)
def test_an_interval_holds_its_estimate_and_stays_in_range(a, b):
    drawn = resample(12, draws=50)
    share, gap = accuracy(a, alone(12), drawn), paired_difference(a, b, alone(12), drawn)
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert share.low < share.high
    assert -1 <= gap.low <= gap.value <= gap.high <= 1


@given(matrices())
@settings(max_examples=30)
def test_the_order_of_the_items_does_not_matter(a):
    drawn, clusters, order = resample(4, draws=50), np.arange(12) % 4, np.random.default_rng(0).permutation(12)
    assert accuracy(a, clusters, drawn) == accuracy(a[:, order], clusters[order], drawn)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_not_certainty(right):
    found = accuracy(np.full((3, 30), right), alone(30), resample(30))
    expected = scipy.stats.binomtest(30 * right, 30).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.method == WILSON


def test_one_arm_always_right_and_the_other_never_is_not_certainty_either():
    found = paired_difference(np.ones((1, 20), bool), np.zeros((1, 20), bool), alone(20), resample(20))
    assert found.value == 1
    assert 0.7 < found.low < 0.9
    assert found.high == 1


def test_with_one_seed_and_single_items_votes_are_the_discordant_pairs():
    a = np.array([[True, True, False, False, True]])
    b = np.array([[True, False, True, False, False]])
    assert votes(a, b, alone(5), 5) == (2, 1, 2)


@given(arrays(np.int64, (2, 15), elements=st.integers(-1, 3)), arrays(np.int64, 15, elements=st.integers(0, 3)))
@settings(max_examples=50)
def test_macro_f1_is_scikit_learns(answers, targets):
    classes = [k for k in range(4) if k in targets or k in answers]
    found = macro_f1(answers, targets, 4, alone(15), resample(15, draws=20))
    one_by_one = []
    for row in answers:
        present = [k for k in classes if k in targets or k in row]
        one_by_one.append(f1_score(targets, row, labels=present, average="macro", zero_division=0))
    assert found.value == pytest.approx(np.mean(one_by_one), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_the_same_arguments_give_the_same_resamples_and_another_seed_others():
    a, b, c = resample(9, 20, seed=1), resample(9, 20, seed=1), resample(9, 20, seed=2)
    assert (a.clusters == b.clusters).all()
    assert (a.seeds(4) == b.seeds(4)).all()
    assert (a.clusters != c.clusters).any()


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("n_clusters", [1, 2, 4, 10, 40])
def test_equal_arms_are_told_apart_in_about_five_of_a_hundred_studies_however_few_the_groups(n_clusters, seeds):
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(n_clusters), 4)
    drawn, apart = resample(n_clusters, 500), 0
    for _ in range(300):
        rates = rng.beta(2, 2, size=(2, n_clusters))[:, clusters]  # each group has rates of its own
        a, b = rng.random((2, seeds, len(clusters))) < rates[:, None]
        apart += paired_difference(a, b, clusters, drawn).excludes_zero
    assert apart <= 30  # 10 %; percentiles alone gave 33 % at 2 groups and 15 % at 4


def in_logits(rng, seeds, items, spread):
    """Whether each seed is right on each item: a seed is better or worse by about `spread`, an item easier or not."""
    return rng.logistic(size=(seeds, items)) < 1 + rng.normal(size=(seeds, 1)) * spread + 1.5 * rng.normal(size=items)


@pytest.mark.parametrize(("seeds", "items", "spread", "most"), [(3, 400, 0.5, 0.1), (5, 1_000, 0.4, 0.07)])
def test_equal_arms_are_told_apart_in_few_of_a_hundred_studies_however_few_the_seeds(seeds, items, spread, most):
    drawn, rng, apart, studies = resample(items, 400), np.random.default_rng(3), 0, 300
    for _ in range(studies):
        a, b = in_logits(rng, seeds, items, spread), in_logits(rng, seeds, items, spread)
        apart += paired_difference(a, b, alone(items), drawn).excludes_zero
    assert apart / studies <= most  # by the degrees of freedom of the items alone 0.13 and 0.093


def test_a_macro_f1_of_three_seeds_is_as_sure_as_their_accuracy_where_both_are_alike():
    drawn, targets, rng = resample(400), np.arange(400) % 2, np.random.default_rng(5)
    right = rng.random((3, 400)) < np.array([[0.9], [0.7], [0.8]])
    of_f1 = macro_f1(np.where(right, targets, 1 - targets), targets, 2, alone(400), drawn)
    of_all = accuracy(right, alone(400), drawn)
    assert of_f1.high - of_f1.low == pytest.approx(of_all.high - of_all.low, rel=0.1)
    assert of_all.high - of_all.low > 0.3  # the standard error of three such seeds is 0.06, t with two degrees 4.3


# ---- many comparisons, scores, and "no worse than"


@given(st.lists(st.floats(0, 1), max_size=12))
def test_benjamini_hochberg_is_scipys(ps):
    expected = scipy.stats.false_discovery_control(ps).tolist() if ps else []
    assert benjamini_hochberg(ps) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_lies_between_the_p_values_and_holms(ps):
    for p, fdr, fwer in zip(ps, benjamini_hochberg(ps), holm(ps), strict=True):
        assert p - 1e-12 <= fdr <= fwer + 1e-12


@given(st.lists(st.sampled_from([-2.0, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0]), min_size=2, max_size=9))
@settings(max_examples=40, deadline=None)
def test_flipping_every_sign_is_scipys_permutation_test(differences):
    found = scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flips(np.array(differences)) == pytest.approx(min(1, found.pvalue), abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([1, 3]))
def test_of_right_and_wrong_answers_flipping_signs_is_mcnemars_test(wins, losses, seeds):
    differences = np.array([seeds] * wins + [-seeds] * losses + [0] * 30, dtype=float)
    expected = scipy.stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_flips(differences) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_flipping_the_signs_of_whole_numbers_is_exact_without_going_through_all_flips(differences):
    some = np.array(differences, dtype=float)
    assert sign_flips(some) == pytest.approx(sign_flips(some / 7), abs=1e-9)  # no whole numbers: all 2^n flips


def test_a_p_value_too_small_for_the_sums_behind_it_is_not_below_nought():
    """5,000 clusters apart by -3 to 4: p is about 1e-60, and sums of thousands of products are exact to 1e-16."""
    apart = np.tile([-3.0, -2, -1, 1, 2, 3, 4, 4], 625)
    assert 0 <= sign_flips(apart) < 1e-14


def test_five_seeds_that_agree_are_more_than_one_that_does():
    """Of 100 items a wins 40 in four of five runs; b wins 60 in one of five."""
    apart = np.array([4.0] * 40 + [-1.0] * 60)
    assert sign_flips(apart) < 0.001
    assert sign_flips(np.sign(apart)) > 0.05


def test_flipping_some_signs_comes_near_to_flipping_all_and_is_never_nought():
    differences = np.random.default_rng(0).normal(0.4, 1, 13)
    assert sign_flips(differences, draws=8_000) == pytest.approx(sign_flips(differences), abs=0.02)
    assert sign_flips(np.full(60, 0.3), draws=1_000) == pytest.approx(1 / 1_001)
    assert sign_flips(differences, draws=500) == sign_flips(differences, draws=500)


def test_equal_arms_are_called_different_in_about_five_of_a_hundred_tests():
    rng = np.random.default_rng(1)
    rejected = sum(sign_flips(rng.normal(size=40), draws=400, seed=i) <= 0.05 for i in range(300))
    assert 4 <= rejected <= 28


def test_no_worse_than_a_margin_is_about_the_lower_end_alone():
    gap = paired_difference(np.ones((1, 50), bool), np.arange(50)[None] % 10 > 0, alone(50), resample(50))
    assert not_worse(gap, 0.0)
    turned = paired_difference(np.arange(50)[None] % 10 > 0, np.ones((1, 50), bool), alone(50), resample(50))
    assert not not_worse(turned, 0.05)
    assert not_worse(turned, -turned.low + 1e-9)
    assert not not_worse(turned, -turned.low)


# ---- many clusters


def test_few_clusters_are_resampled_as_they_are():
    clusters = np.array([0, 0, 1, 2])
    assert pooled(clusters, 3, most=3)[0] is clusters


def test_many_clusters_are_pooled_whole_and_evenly():
    clusters = np.repeat(np.arange(1_000), 3)
    handfuls, n = pooled(clusters, 1_000, most=100)
    assert n == 100
    assert (handfuls.reshape(-1, 3) == handfuls[::3, None]).all()  # no cluster is torn apart
    assert set(np.bincount(handfuls, minlength=n)) == {30}


def test_pooled_clusters_give_the_interval_of_the_clusters_themselves():
    rng = np.random.default_rng(3)
    effect = np.repeat(rng.normal(size=8_000), 2)
    correct = (rng.random((1, 16_000)) < 1 / (1 + np.exp(-2 * effect))).astype(bool)
    clusters = np.repeat(np.arange(8_000), 2)
    handfuls, n = pooled(clusters, 8_000, most=1_000)
    whole = accuracy(correct, clusters, resample(8_000, draws=1_000))
    rough = accuracy(correct, handfuls, resample(n, draws=1_000))
    assert rough.value == whole.value
    assert rough.high - rough.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_resamples_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch):
    whole = resample(37, draws=50)
    monkeypatch.setattr("promptlab.compare.statistics.DRAWN_AT_ONCE", 100)
    assert (resample(37, draws=50).clusters == whole.clusters).all()
