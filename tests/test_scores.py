"""Agreement, calibration and repeated tries: against scikit-learn where it has them, else by enumeration."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.compare.calibration import brier, calibration, ece, probabilities
from promptlab.compare.confusion import cohens_kappa, confusion, f1s, kappas, matthews, recalls
from promptlab.compare.trials import pass_at, pass_hat
from promptlab.errors import DataError

GOLDENS = Path(__file__).parents[2] / "shared" / "data" / "recorded" / "goldens"
labellings = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(labellings)
@settings(deadline=None)
def test_kappa_correlation_recall_and_f1_are_scikit_learns(pairs):
    a, b = zip(*pairs, strict=True)
    table = confusion(a, b, 4)
    assert table.tolist() == sklearn.metrics.confusion_matrix(a, b, labels=range(4)).tolist()
    if len({*a, *b}) > 1:  # of a single class theirs warn
        assert matthews(table) == pytest.approx(sklearn.metrics.matthews_corrcoef(a, b), abs=1e-9)
        assert cohens_kappa(table) == pytest.approx(sklearn.metrics.cohen_kappa_score(a, b), abs=1e-9)
    recall = sklearn.metrics.recall_score(a, b, labels=range(4), average=None, zero_division=np.nan)
    f1 = sklearn.metrics.f1_score(a, b, labels=range(4), average=None, zero_division=np.nan)
    assert recalls(table) == pytest.approx(recall, abs=1e-9, nan_ok=True)
    assert f1s(table) == pytest.approx(f1, abs=1e-9, nan_ok=True)


def test_two_labellings_of_one_class_agree_by_chance_alone_so_kappa_says_nothing():
    assert cohens_kappa(confusion([1, 1], [1, 1], 2)) is None
    assert np.isnan(kappas(np.stack([confusion([1, 1], [1, 1], 2), np.zeros((2, 2))]))).all()
    assert matthews(confusion([1, 1], [1, 1], 2)) == 0


def test_cohens_own_kind_of_example():
    assert cohens_kappa(np.array([[20.0, 5], [10, 15]])) == pytest.approx(0.4)


@pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"the goldens are not at {GOLDENS}")
def test_lm_evals_f1_and_correlation_come_out():
    golden = json.loads((GOLDENS / "lmeval_0.4.13_metric_goldens.json").read_text())["f1_binary_and_mcc"]
    table = confusion(*zip(*golden["pairs_gold_pred"], strict=True), 2)
    assert f1s(table)[1] == pytest.approx(golden["f1"], abs=1e-12)
    assert matthews(table) == pytest.approx(golden["mcc"], abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [([0, 1], [0]), ([], []), ([0, 3], [0, 1]), ([0, -1], [0, 1])])
def test_labellings_that_do_not_fit_are_refused(a, b):
    with pytest.raises(DataError):
        confusion(a, b, 3)


# ---- calibration


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@settings(deadline=None)
def test_brier_is_twice_scikit_learns_of_two_classes(some):
    p, truth = np.array([x for x, _ in some]), np.array([y for _, y in some])
    expected = sklearn.metrics.brier_score_loss(truth, p) if len(set(truth)) > 1 else np.mean((p - truth) ** 2)
    assert brier(np.stack([1 - p, p], axis=1), truth) == pytest.approx(2 * expected, abs=1e-9)


def test_ece_by_hand():
    # two bins of [0, .5], (.5, 1]: one item sure by .4 and wrong, two by .8 and .6 of which one is right
    assert ece([0.4, 0.8, 0.6], [0, 1, 0], bins=2) == pytest.approx(1 / 3 * 0.4 + 2 / 3 * 0.2)
    assert ece([0.5, 1.0, 0.0], [0, 1, 0], bins=2) == pytest.approx(0.5 / 3)


def test_who_is_right_as_often_as_sure_is_calibrated_and_who_is_always_sure_is_not():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], size=20_000)
    targets = (rng.random((20_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    honest = calibration(p, targets)
    assert honest.ece < 0.015
    assert honest.confidence == pytest.approx(honest.accuracy, abs=0.015)
    boastful = calibration(np.eye(3)[p.argmax(axis=1)], targets)
    assert boastful.ece == pytest.approx(1 - boastful.accuracy)
    assert boastful.brier > honest.brier


@given(st.lists(st.floats(-800, 0), min_size=2, max_size=6), st.floats(-500, 500))
def test_probabilities_sum_to_one_and_do_not_depend_on_what_all_labels_share(scores, shift):
    p = probabilities([scores])
    assert p.sum() == pytest.approx(1)
    assert probabilities([[s + shift for s in scores]]) == pytest.approx(p, abs=1e-9)


def test_an_impossible_label_has_no_probability_and_a_row_of_them_is_refused():
    assert probabilities([[0.0, -math.inf]]).tolist() == [[1, 0]]
    with pytest.raises(DataError, match="Row 1 has no possible label"):
        probabilities([[0.0, 0.0], [-math.inf, -math.inf]])
    with pytest.raises(DataError, match="Row 0"):
        probabilities([[0.0, math.nan]])


@pytest.mark.parametrize("confidence", [[], [1.2], [math.nan]])
def test_what_is_no_probability_is_refused(confidence):
    with pytest.raises(DataError, match="Confidences"):
        ece(confidence, confidence)


# ---- several tries

tasks = st.lists(st.lists(st.booleans(), min_size=4, max_size=5), min_size=1, max_size=4)


@given(tasks, st.integers(1, 4))
def test_chances_of_k_tries_are_those_over_all_subsets(some, k):
    every = [list(itertools.combinations(tries, k)) for tries in some]
    assert pass_hat(k, some) == pytest.approx(np.mean([np.mean([all(of) for of in task]) for task in every]))
    assert pass_at(k, some) == pytest.approx(np.mean([np.mean([any(of) for of in task]) for task in every]))


def test_a_task_tried_too_seldom_is_refused():
    with pytest.raises(DataError, match="the fewest tries are 1"):
        pass_hat(2, [[True, True], [True]])
