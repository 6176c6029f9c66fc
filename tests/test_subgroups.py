"""Scores by whom items are about, intervals of calibration and recall, and what to measure next."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from studies import write_csv
from synthetic import write_run

from promptlab.cli import main
from promptlab.compare.calibration import brier_interval, ece, ece_interval
from promptlab.compare.comparisons import FAMILY_QUESTION, Difference
from promptlab.compare.decision import decide
from promptlab.compare.measures import measure
from promptlab.compare.next_measurement import enough, next_measurement
from promptlab.compare.report import write_report
from promptlab.compare.report.tables import as_markdown
from promptlab.compare.statistics import Interval, accuracy, counted_mean, resample, satterthwaite, variances, wilson

DRAWS = 200


def with_subgroups(folder, of, **settings):
    run = write_run(folder, **settings)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        if (name := of(row)) is not None:
            row["subgroup"] = name
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_a_gap_that_is_there_is_found_and_small_groups_take_no_part(tmp_path):
    def sex(row):
        i = int(row["item"][1:])
        return "other" if i < 8 else "unlike" if row["target"] == "advice" else "like"

    arms = {"majority": ("baseline", "", (0.4,)), "ask": ("prompting", "", (0.9,))}
    run = with_subgroups(tmp_path, sex, arms=arms, budgets=(8,))
    results = measure(run, DRAWS)
    by_arm = {found.arm: found for found in results.subgroups}
    majority, ask = by_arm["majority"], by_arm["ask"]
    assert [(g.name, g.small) for g in majority.groups] == [("like", False), ("other", True), ("unlike", False)]
    assert (majority.best, majority.worst) == ("like", "unlike")
    assert majority.gap.low > 0.4  # it never answers "advice"
    assert ask.gap.low <= 0 <= ask.gap.high
    write_report(run, DRAWS)
    assert "By subgroup" in (run / "report.html").read_text()
    assert "other (small), n = 8" in as_markdown(json.loads((run / "results.json").read_text()))


def test_groups_that_are_all_right_may_differ_either_way_and_no_gap_is_certain(tmp_path):
    def clinic(row):
        return "AB"[int(row["item"][1:]) < 120]

    def gap(name, correct):
        run = with_subgroups(tmp_path / name, clinic, arms={"ask": ("prompting", "", (0.9,))}, budgets=(8,))
        rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
        told = (row | {"correct": correct(clinic(row))} for row in rows)
        (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        return measure(run, DRAWS).subgroups[0].gap

    same, apart = gap("same", lambda name: True), gap("apart", lambda name: name == "A")
    low, _ = wilson(1.0, 60)  # of each clinic's 60 clusters, all of them right
    ends = math.hypot(1 - low, 0.0)  # the other's upper end is 1 as well
    assert (same.value, same.low, same.high) == pytest.approx((0.0, -ends, ends))
    assert (apart.value, apart.low, apart.high) == pytest.approx((1.0, 1 - math.hypot(1 - low, 1 - low), 1.0))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_gap_between_two_clinics_is_not_certain_where_clinics_are_what_was_drawn(tmp_path, seeds):
    """One cluster each: resamples that hold both say nothing of other clinics."""
    run = with_subgroups(tmp_path, lambda row: row["group"], arms={"ask": ("prompting", "", (0.9,))}, budgets=(8,))
    lines = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in lines:
        last = int(row["item"][1:]) % 2 == 0
        row["group"] = row["subgroup"] = "pmid-0" if last else "pmid-1"
        row["cluster"] = int(not last)
        row["correct"] = row["correct"] and last
    kept = [row for row in lines if row["seed"] < seeds]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    results = measure(run, DRAWS)
    [ask] = results.subgroups
    assert [group.accuracy.n_clusters for group in ask.groups] == [1, 1]
    assert ask.gap.value > 0.5
    assert not ask.gap.excludes_zero


def test_a_column_that_an_option_names_gets_scores_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "notes.csv", 60)
    head, *lines = path.read_text().splitlines()
    clinics = [f"{line},{'AB'[i % 2]},{'x' if i % 3 else ''}" for i, line in enumerate(lines)]
    path.write_text("\n".join([f"{head},clinic,ward", *clinics]) + "\n")
    given = ["compare", str(path), "--arms", "tfidf,majority", "--labels", "8", "--seeds", "1", "--jobs", "1", "-q"]
    with pytest.raises(SystemExit) as stop:
        main([*given, "--subgroup", "clinic", "--out", "run", "--queries", "100"])
    assert not stop.value.code
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {group["name"] for group in results["subgroups"][0]["groups"]} <= {"A", "B"}
    assert results["terms"]["queries"] == 100
    with pytest.raises(SystemExit) as stop:
        main([*given, "--subgroup", "sex", "--out", "other"])
    assert stop.value.code
    with pytest.raises(SystemExit) as stop:
        main([*given, "--subgroup", "ward", "--out", "wards"])
    assert not stop.value.code
    told = '20 row(s) with nothing in "ward", which count in no subgroup (first: line 2).'
    results = json.loads((tmp_path / "wards" / "results.json").read_text())
    assert told in results["decision"]["not_established"]


def test_the_mean_of_all_that_counts_is_the_accuracy_where_all_does():
    rng = np.random.default_rng(0)
    correct, clusters, again = rng.random((3, 40)) < 0.7, np.arange(40) // 2, resample(20, DRAWS)
    everything = counted_mean(correct, np.ones((3, 40), bool), clusters, again)
    assert everything == accuracy(correct, clusters, again)
    half = np.broadcast_to(np.arange(40) < 20, (3, 40))
    some = counted_mean(correct, half, clusters, again)
    assert (some.value, some.n_items, some.n_clusters) == (correct[:, :20].mean(), 20, 10)
    assert some.high - some.low > everything.high - everything.low


def test_a_model_that_is_too_sure_by_as_much_has_that_in_its_interval():
    rng = np.random.default_rng(2)
    sure = np.clip(rng.beta(6, 3, size=(2, 1_000)), 0.4, 1)
    right = rng.random(sure.shape) < sure - 0.15
    found = ece_interval(sure, right, np.arange(1_000), resample(1_000, DRAWS))
    assert found.value == ece(sure.ravel(), right.ravel())
    assert 0.1 < found.low < 0.15 < found.high < 0.2
    calibrated = rng.random(sure.shape) < sure
    assert ece_interval(sure, calibrated, np.arange(1_000), resample(1_000, DRAWS)).low < 0.02


def test_brier_is_of_what_was_scored_and_may_be_above_one():
    far = np.full((2, 30), 1.5) + np.linspace(-0.3, 0.3, 30)
    far[:, ::3] = np.nan
    found = brier_interval(far, np.arange(30), resample(30, DRAWS))
    assert found.value == pytest.approx(np.nanmean(far))
    assert 1.3 < found.low < found.value < found.high < 1.7
    assert found.n_items == 20


def test_the_variance_of_a_mean_is_that_of_its_seeds_and_of_its_items():
    rng = np.random.default_rng(0)
    seeds, items = rng.normal(0, 2, size=(50, 1)), rng.normal(0, 3, size=(1, 400))
    by_seeds, by_items = variances(seeds + items, np.arange(400), 400)
    assert by_seeds == pytest.approx(seeds.var(ddof=1) / 50)
    assert by_items == pytest.approx(items.var(ddof=1) / 400)
    assert variances(items, np.arange(400), 400)[0] == 0


def difference(value, seeds, items):
    interval = Interval(value, -0.1, 0.2, 200, 100, 5, "")
    return Difference(FAMILY_QUESTION, 8, "a", "b", "", "", interval, 0, 0, 0, 1, 1, seeds, items)


def test_what_settles_a_difference_is_more_of_what_it_varies_with():
    by_seeds = enough(difference(0.1, 0.05**2, 0.01**2), 0.02, 0.95)
    by_items = enough(difference(0.1, 0.01**2, 0.05**2), 0.02, 0.95)
    assert 5 < by_seeds[0] < 20
    assert by_seeds[1] is None  # seeds alone leave it open
    assert 100 < by_items[1] < 300
    wanted = (0.1 / (1.959964 + 0.841621)) ** 2  # by as many degrees of freedom as can be
    assert by_seeds[0] > int(np.ceil(5 * 0.05**2 / (wanted - 0.01**2)))


@settings(deadline=None)
@given(st.floats(0, 0.2), st.floats(0, 0.1), st.floats(0.001, 0.1))
def test_more_than_is_enough_is_enough_and_less_is_not(value, seeds, items):
    """Also of what is there already: with what is told to be enough nothing more is."""
    found = enough(difference(value, seeds**2, items**2), 0.02, 0.95)
    for n, old, key in zip(found, (5, 100), ("n_seeds", "n_clusters"), strict=True):
        if n is None:
            continue
        assert n >= old
        for there, more in ((n, False), (n - 1, n > old)):
            if there >= old:
                by = {"n_seeds": seeds**2, "n_clusters": items**2}
                by[key] *= old / there
                one = difference(value, *by.values())
                one = replace(one, interval=replace(one.interval, **{key: there}))
                assert (enough(one, 0.02, 0.95)[key == "n_clusters"] > there) == more


@pytest.mark.parametrize(("true", "by_seed"), [(0.05, 0.05), (0.06, 0.05), (0.08, 0.05), (0.05, 0.03)])
def test_so_many_seeds_settle_a_difference_in_four_of_five_studies(true, by_seed):
    """Few are enough, and tell their own spread badly."""
    items, rng, studies = 0.01, np.random.default_rng(0), 4_000
    n, _ = enough(difference(true, by_seed**2 / 5, items**2), 0.0, 0.95)
    assert 5 < n < 20
    each = rng.normal(true, by_seed, size=(studies, n)) + rng.normal(0, items, size=(studies, 1))

    def settled(seeds: np.ndarray) -> float:
        spread = seeds.var(axis=1, ddof=1) / seeds.shape[1]
        df = [satterthwaite(each, items**2, seeds.shape[1], 100) for each in spread]
        return (seeds.mean(axis=1) > stats.t.ppf(0.975, df) * np.sqrt(spread + items**2)).mean()

    assert settled(each) > 0.79 > settled(each[:, :-1])


def test_a_pair_that_is_shown_to_be_as_good_needs_no_measurement_beside_one_that_is_open(tmp_path):
    arms = {"ask": ("prompting", "", (0.8,)), "ask'": ("baseline", "", (0.8,)), "tune": ("fine-tuning", "", (0.8,))}
    results = measure(write_run(tmp_path, arms=arms, budgets=(16,), n_items=60), DRAWS)
    settled = replace(results.between("prompting", "baseline", 16), items_variance=3e-5)
    settled = replace(settled, interval=replace(settled.interval, low=-0.012, high=0.012))
    others = [d for d in results.differences if {d.a_family, d.b_family} != {"prompting", "baseline"}]
    found = next_measurement(replace(results, differences=(settled, *others)), [16])
    assert "tune" in found.said
    assert found.number > (3 if found.what == "seeds" else 60)
    assert next_measurement(replace(results, differences=(settled,)), [16]) is None
    shifted = replace(settled, interval=replace(settled.interval, low=-0.03, high=0.012))  # may be worse: open
    assert next_measurement(replace(results, differences=(shifted,)), [16]).what == "seeds"


def test_what_is_open_comes_with_the_cheapest_measurement_and_what_is_clear_with_none(tmp_path):
    even = {"ask": ("prompting", "", (0.8,)), "tune": ("fine-tuning", "", (0.8,))}
    found = decide(measure(write_run(tmp_path / "a", arms=even, budgets=(16,), n_items=60), DRAWS))
    assert found.p is None
    write_report(tmp_path / "a", DRAWS)
    assert found.next.what in ("seeds", "test items")
    told = json.loads((tmp_path / "a" / "results.json").read_text())
    assert told["decision"]["next"]["said"] in as_markdown(told)
    clear = {"ask": ("prompting", "", (0.9,)), "tune": ("fine-tuning", "", (0.5,))}
    found = decide(measure(write_run(tmp_path / "b", arms=clear, budgets=(16,)), DRAWS))
    assert (found.next, found.p) == (None, 1)
    assert found.headline == "With 16 labels prompt (ask); P > 0.99."


def test_an_established_crossover_is_the_headline(tmp_path):
    found = decide(measure(write_run(tmp_path, seeds=(0, 1, 2, 3, 4)), DRAWS))
    assert found.headline.startswith("From 8 labels prompt (few-shot-knn) up to ")
    assert "; above that fine-tune (head); P " in found.headline
    assert len(found.rule) >= 6
