"""Standard errors by formula: to the last bit those of other tools, and of statsmodels and scipy."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.compare.clustered import clustered_error, mean_error, paired_error, pooled_error
from promptlab.errors import DataError

GOLDENS = Path(__file__).parents[2] / "shared" / "data" / "recorded" / "goldens"
recorded = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"the goldens are not at {GOLDENS}")

rows = st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 6)), min_size=2, max_size=40)
spread_out = rows.filter(lambda some: len({cluster for _, cluster in some}) > 1)


def apart(some):
    return [x for x, _ in some], [cluster for _, cluster in some]


@given(spread_out)
@settings(deadline=None)
def test_a_clustered_error_is_statsmodels_of_a_regression_on_nothing(some):
    x, clusters = apart(some)
    fitted = sm.OLS(x, np.ones(len(x))).fit(cov_type="cluster", cov_kwds={"groups": np.array(clusters)})
    # theirs has (n - 1)/(n - k) besides, which is 1 for a mean
    assert clustered_error(x, clusters).error == pytest.approx(float(np.sqrt(fitted.cov_params()[0, 0])), abs=1e-9)


@given(spread_out)
def test_items_of_their_own_cluster_give_the_plain_error(some):
    x, _ = apart(some)
    assert clustered_error(x, range(len(x))).error == pytest.approx(mean_error(x).error, abs=1e-12)


@given(spread_out, st.randoms(use_true_random=False))
def test_neither_the_order_of_the_items_nor_the_clusters_names_matter(some, random):
    x, clusters = apart(some)
    turned = random.sample(some, len(some))
    again = clustered_error(*apart([(value, f"abstract {cluster}") for value, cluster in turned]))
    assert again.error == pytest.approx(clustered_error(x, clusters).error, abs=1e-12)


def test_copies_in_a_cluster_add_no_certainty_and_alone_they_would():
    x = np.random.default_rng(0).normal(size=50)
    thrice = np.repeat(x, 3)
    assert clustered_error(thrice, np.repeat(np.arange(50), 3).tolist()).error == pytest.approx(mean_error(x).error)
    assert mean_error(thrice).error < 0.6 * mean_error(x).error


def test_a_paired_error_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    found, expected = paired_error(a, b), scipy.stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)
    assert paired_error(a, a).p == 1
    assert paired_error(a, a + 1).p == 0


def test_paired_differences_may_be_clustered():
    rng = np.random.default_rng(2)
    a, b, clusters = rng.normal(size=40), rng.normal(size=40), (np.arange(40) // 4).tolist()
    assert paired_error(a, b, clusters) == clustered_error(a - b, clusters)
    assert paired_error(a, b, clusters).df == 9


@recorded
def test_inspects_errors_and_intervals_come_out_to_the_last_bit():
    golden = json.loads((GOLDENS / "inspect_ai_goldens.json").read_text())["clustered"]
    clusters, x = zip(*golden["clusters_values"], strict=True)
    plain, clustered = mean_error(x), clustered_error(x, clusters)
    assert plain.error == pytest.approx(golden["stderr"], abs=1e-12)
    assert clustered.error == pytest.approx(golden["stderr_cluster"], abs=1e-12)
    for found, theirs in ((plain, golden["ci95_t"]), (clustered, golden["ci95_t_cluster"])):
        assert found.interval() == pytest.approx((theirs["lower"], theirs["upper"]), abs=1e-12)


@recorded
def test_lm_evals_means_and_errors_come_out_to_the_last_bit():
    goldens = json.loads((GOLDENS / "lmeval_0.4.13_metric_goldens.json").read_text())
    for name in ("mean_stderr_bin", "mean_stderr_cont"):
        found = mean_error(goldens[name]["x"])
        assert (found.value, found.error) == pytest.approx((goldens[name]["mean"], goldens[name]["stderr"]), abs=1e-12)
    pooled = goldens["pooled"]
    assert pooled_error(pooled["stderrs"], pooled["sizes"]) == pytest.approx(pooled["value"], abs=1e-12)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: mean_error([1.0]), "at least two values"),
        (lambda: clustered_error([1, 2, 3], ["a", "a", "a"]), "one cluster"),
        (lambda: clustered_error([1, 2, 3], ["a", "b"]), "3 values came with 2 clusters"),
        (lambda: paired_error([1, 2, 3], [1, 2]), "there are 3 and 2"),
    ],
)
def test_what_has_no_spread_is_refused_and_says_why(ask, said):
    with pytest.raises(DataError, match=said):
        ask()
