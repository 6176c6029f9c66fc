"""The last comparison's tests: how often they accept what is no better, by enumeration and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from promptlab.optimizers.acceptance import fewest, mcnemar, verdict


@pytest.mark.parametrize("n", [5, 13, 30])
def test_the_exact_test_holds_its_level_whatever_share_of_items_differs(n):
    p = {(w, d - w): mcnemar(w, d - w, n) for d in range(n + 1) for w in range(d + 1)}
    halves = {(w, lost): math.comb(w + lost, w) / 2 ** (w + lost) for w, lost in p}
    unseen = np.linspace(0.013, 0.997, 37)  # not those that the test itself looks at

    def accepted(limit: float) -> float:
        return max(
            sum(pmf[w + lost] * halves[w, lost] for (w, lost), each in p.items() if each <= limit)
            for pmf in binom.pmf(np.arange(n + 1), n, unseen[:, None])
        )

    assert accepted(0.05) <= 0.05001
    assert accepted(0.01) <= 0.01001


def test_it_accepts_all_that_the_conditional_test_does_and_more():
    n, alpha = 80, 0.05
    pairs = [(w, d - w) for d in range(1, 41, 3) for w in range(d // 2 + 1, d + 1)]
    conditional = {each for each in pairs if binom.sf(each[0] - 1, sum(each), 0.5) <= alpha}
    ours = {each for each in pairs if mcnemar(*each, n) <= alpha}
    assert conditional < ours


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60), st.data())
def test_more_wins_and_fewer_losses_are_more_evidence(n, data):
    wins = data.draw(st.integers(0, n))
    losses = data.draw(st.integers(0, n - wins))
    p = mcnemar(wins, losses, n)
    assert 0 <= p <= 1
    if wins + losses < n:
        assert mcnemar(wins + 1, losses, n) <= p + 1e-12 <= mcnemar(wins, losses + 1, n) + 2e-12
    assert (p == 1) or wins > losses


def test_frequent_small_gains_that_a_seldom_large_loss_outweighs_are_not_accepted():
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random((300, 40)) < 0.97, 0.02, -0.97 * 0.02 / 0.03)  # the mean is 0
    accepted = [verdict(each.tolist(), 0.05) for each in drawn]
    assert sum(each.accepted for each in accepted) <= 0.05 * 300
    assert {each.test for each in accepted} == {"betting"}


def test_graded_scores_that_are_clearly_higher_are_accepted():
    rng = np.random.default_rng(1)
    found = verdict(np.clip(rng.normal(0.15, 0.3, 160), -1, 1).tolist(), 0.05)
    assert (found.accepted, found.test) == (True, "betting")


@pytest.mark.parametrize("alpha", [0.3, 0.1, 0.05, 0.01, 1e-6])
@pytest.mark.parametrize(("test", "graded"), [("exact", False), ("exact", True), ("betting", False), ("betting", True)])
def test_nothing_is_accepted_on_fewer_than_the_fewest_and_something_is_on_so_many(alpha, test, graded):
    n, won = fewest(alpha, test, graded=graded), 1 - 1e-9 if graded else 1
    assert verdict([won] * n, alpha, test).accepted
    assert not verdict([won] * (n - 1), alpha, test).accepted


def test_right_and_wrong_take_fewer_than_a_bet():
    assert [fewest(alpha, graded=False) for alpha in (0.1, 0.05, 0.5**6)] == [4, 5, 6]
    assert [fewest(alpha, "betting") for alpha in (0.05, 0.5**6)] == [7, 9]
