"""From rows to a decision: what is said, what is not said, and what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from synthetic import ARMS, write_run

from promptlab.compare.cells import Items
from promptlab.compare.comparisons import Option, cross_fitted
from promptlab.compare.decision import decide
from promptlab.compare.measures import measure
from promptlab.compare.methods import methods
from promptlab.compare.results import write_results
from promptlab.compare.statistics import BOTH, ITEMS, RUN_ONCE
from promptlab.errors import DataError

DRAWS = 300


@pytest.fixture(scope="module")
def crossing_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("crossing"))


@pytest.fixture(scope="module")
def results(crossing_run):
    return measure(crossing_run, DRAWS)


def decided(tmp_path, arms, **settings):
    """The decision for arms given as name: (family, accuracy at each of the budgets)."""
    described = {name: (family, "", curve) for name, (family, curve) in arms.items()}
    run = write_run(tmp_path / "run", arms=described, **settings)
    return decide(measure(run, DRAWS))


def test_a_planted_crossing_is_found(results):
    assert (results.crossing.prompting_until, results.crossing.fine_tuning_from) == (8, 128)
    verdicts = {v.budget: v.verdict for v in decide(results).per_budget}
    assert (verdicts[8], verdicts[32], verdicts[128]) == ("prompting", "undecided", "fine-tuning")


def test_the_sentence_gives_each_choice_with_its_interval_and_its_lead(results):
    sentence = decide(results).sentence
    number = r"[+−]?\d\.\d\d"
    interval = rf"{number} \[{number}, {number}\]"
    assert re.search(
        rf"with 8 labels prompt \(few-shot-knn, {interval}, {interval} over the best fine-tuning\)", sentence
    )
    assert re.search(rf"from 128 labels fine-tune \(head, {interval}, {interval} over the best prompt\)", sentence)
    assert "n = 240 test items, 3 seeds" in sentence


def test_arms_whose_interval_covers_zero_are_not_told_apart(tmp_path):
    found = decided(
        tmp_path, {"ask": ("prompting", (0.8,)), "tune": ("fine-tuning", (0.8,))}, budgets=(16,), n_items=120
    )
    assert found.per_budget[0].verdict == "undecided"
    assert "prompting and fine-tuning are not told apart" in found.sentence
    assert any("With 16 labels these are not told apart" in doubt for doubt in found.not_established)


def test_a_baseline_that_is_as_good_is_said_plainly(tmp_path):
    arms = {"ask": ("prompting", (0.6, 0.65)), "tune": ("fine-tuning", (0.5, 0.7)), "tfidf": ("baseline", (0.9, 0.92))}
    found = decided(tmp_path, arms, budgets=(16, 64))
    assert found.sentence.startswith(
        "At every number of labels tried (16 to 64) you need neither prompting nor fine-tuning"
    )


def test_of_arms_that_are_right_on_the_same_items_the_cheapest_is_chosen(tmp_path):
    arms = {"same": ("prompting", (0.8,)), "same'": ("fine-tuning", (0.8,)), "words": ("baseline", (0.5,))}
    found = decided(tmp_path, arms, budgets=(16,))
    assert found.per_budget[0].verdict == "prompting"
    assert "cheaper and within 0.02 of same'" in found.sentence
    arms = {"same": ("prompting", (0.8,)), "same'": ("baseline", (0.8,))}
    assert decided(tmp_path / "b", arms, budgets=(16,)).per_budget[0].verdict == "baseline"


def test_an_arm_at_the_level_of_the_most_frequent_label_is_not_recommended(tmp_path):
    found = decided(tmp_path, {"ask": ("prompting", (0.4,)), "tune": ("fine-tuning", (0.35,))}, budgets=(8,))
    assert found.per_budget[0].verdict == "nothing"
    assert "nothing is shown to be better than always answering the commonest class of the test" in found.sentence


def test_one_option_above_the_commonest_class_is_enough_to_go_on(tmp_path):
    arms = {"ask": ("prompting", "", (0.9,)), "tune": ("fine-tuning", "", (0.4,)), "majority": ("baseline", "", (0.4,))}
    results = measure(write_run(tmp_path, arms=arms, budgets=(8,), seeds=(0,)), DRAWS)
    assert results.above == (Option("ask", 8),)
    assert decide(results).per_budget[0].verdict == "prompting"
    assert decide(replace(results, above=(Option("ask", 32),))).per_budget[0].verdict == "nothing"


def test_the_bar_is_cleared_by_an_interval_corrected_for_the_number_of_options(tmp_path):
    alone = {"ask0": ("prompting", "", (0.6,))}
    many = {f"ask{i}": ("prompting", "", (0.6,)) for i in range(40)}
    one, all_of_them = (
        measure(write_run(tmp_path / str(len(arms)), arms=arms, budgets=(8,), seeds=(0,), n_items=240), 2_000)
        for arms in (alone, many)
    )
    assert one.point(Option("ask0", 8)).accuracy == all_of_them.point(Option("ask0", 8)).accuracy
    assert one.above == (Option("ask0", 8),)
    assert Option("ask0", 8) not in all_of_them.above
    found = decide(replace(all_of_them, above=()))
    assert "its interval at 99.9%, as the highest of 40 is picked" in found.rule[1]
    assert "but not at the 99.9% asked of the highest of 40" in found.sentence


def test_where_only_the_commonest_answer_was_given_nothing_failed(tmp_path):
    found = decided(tmp_path, {"majority": ("baseline", (0.4,))}, budgets=(8,))
    assert found.per_budget[0].verdict == "nothing"
    assert "failed" not in found.sentence


def test_of_arms_that_are_never_right_the_one_named_did_not_fail(tmp_path):
    arms = {"ask": ("prompting", "", (0.0,)), "tune": ("fine-tuning", "", (0.0,))}
    results = measure(write_run(tmp_path, arms=arms, budgets=(8,)), DRAWS)
    broken = tuple(replace(point, failed=1.0) if point.arm == "ask" else point for point in results.points)
    assert "the highest is tune" in decide(replace(results, points=broken)).sentence


def test_where_every_answer_failed_there_is_no_verdict(tmp_path):
    results = measure(write_run(tmp_path, arms={"ask": ("prompting", "", (0.9,))}, budgets=(8,)), DRAWS)
    failed = tuple(replace(point, failed=1.0) for point in results.points)
    found = decide(replace(results, points=failed))
    assert found.per_budget[0].verdict == "failed"
    assert "nothing was answered" in found.sentence


def test_the_commonest_class_alone_has_not_failed(tmp_path):
    found = decided(tmp_path, {"majority": ("baseline", (0.4,))}, budgets=(8,))
    assert found.per_budget[0].verdict == "nothing"
    assert "the highest is majority, 0." in found.sentence


@pytest.mark.parametrize(
    ("arms", "said", "missing"),
    [
        ({"tune": ("fine-tuning", (0.9,))}, "only fine-tuning was run", ("prompting", "the baseline")),
        (
            {"words": ("baseline", (0.9,)), "majority": ("baseline", (0.4,))},
            "only the baseline was run",
            ("prompting",),
        ),
        (
            {"ask": ("prompting", (0.6,)), "words": ("baseline", (0.9,))},
            "a baseline is as good as prompting or better",
            ("fine-tuning",),
        ),
        ({"ask": ("prompting", (0.9,)), "words": ("baseline", (0.6,))}, "prompt (ask", ("fine-tuning",)),
    ],
)
def test_what_was_never_run_is_no_rival_and_said_to_be_missing(tmp_path, arms, said, missing):
    found = decided(tmp_path, arms, budgets=(8,))
    assert said in found.sentence
    for family in missing:
        assert any(doubt.startswith(f"No arm of {family}") for doubt in found.not_established)


def test_always_giving_the_most_frequent_answer_is_never_named_best_beside_a_real_arm(tmp_path):
    arms = {"words": ("baseline", "", (0.45,)), "majority": ("baseline", "", (0.46,)), "ask": ("prompting", "", (0.5,))}
    results = measure(write_run(tmp_path, arms=arms, budgets=(8,), n_items=40), DRAWS)
    assert all(option.arm != "majority" for best in results.best for option in best.options)


def test_where_the_most_frequent_answer_itself_leads_nothing_works_yet(tmp_path):
    arms = {"ask": ("prompting", (0.2,)), "tune": ("fine-tuning", (0.25,)), "majority": ("baseline", (0.4,))}
    found = decided(tmp_path, arms, budgets=(8,))
    assert found.per_budget[0].verdict == "nothing"
    assert found.per_budget[0].families[0] == "baseline"
    assert "the highest is tune, 0.2" in found.sentence
    assert "as good or better" not in found.sentence


def test_what_needs_no_labels_competes_at_every_budget(tmp_path):
    arms = {
        "ask": ("prompting", (0.9, None)),
        "shots": ("prompting", (None, 0.6)),
        "tune": ("fine-tuning", (None, 0.6)),
    }
    found = decided(tmp_path, arms, budgets=(0, 16))
    assert found.per_budget[1].verdict == "prompting"
    assert "ask (no labels)" in found.per_budget[1].because


def test_an_arm_that_makes_no_use_of_labels_is_told_once(tmp_path):
    arms = {"ask": ("prompting", "", (0.9, None)), "words": ("baseline", "", (None, 0.6))}
    run = write_run(tmp_path, arms=arms, budgets=(0, 16), n_items=60)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    again = [row | {"labels": 16} for row in rows if row["arm"] == "ask"]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + again))
    names = {name for d in measure(run, DRAWS).differences for name in (d.a, d.b)}
    assert names == {"ask (no labels)", "words"}


def test_the_cheapest_choice_spends_no_labels_that_gain_nothing(tmp_path):
    described = {"same": ("prompting", "", (None, 0.8)), "tune": ("fine-tuning", "", (None, 0.5))}
    run = write_run(tmp_path, arms=described, budgets=(8, 64), n_items=60)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    more = [row | {"labels": 8} for row in rows if row["labels"] == 64 and row["arm"] == "same"]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more + rows))
    choice = measure(run, DRAWS).choice
    assert choice.cheapest == Option("same", 8)
    assert set(choice.equivalent) == {Option("same", 8), Option("same", 64)}


def test_how_long_learning_took_decides_nothing(tmp_path):
    arms = dict.fromkeys(("slow", "slow'"), ("fine-tuning", "", (0.8,))) | {"ask": ("prompting", "", (0.3,))}
    run = write_run(tmp_path, arms=arms, budgets=(8,), n_items=60)
    cells = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]
    found = []
    for seconds in ({"slow": 90.0, "slow'": 1.0}, {"slow": 1.0, "slow'": 90.0}):
        timed = [cell | {"learn_seconds": seconds.get(cell["arm"], 0.0)} for cell in cells]
        (run / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in timed))
        results = measure(run, DRAWS)
        found.append((results.choice, results.by_cost, decide(results).sentence))
    assert found[0] == found[1]
    assert found[0][0].cheapest == Option("slow", 8)
    small = [cell | {"trained_parameters": {"slow": 900, "slow'": 30}.get(cell["arm"])} for cell in cells]
    (run / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in small))
    assert measure(run, DRAWS).choice.cheapest == Option("slow'", 8)


def test_the_limits_of_the_run_are_told(results):
    told = " ".join(decide(results).not_established)
    for words in (
        "With 32 labels these are not told apart",
        "few-shot with 128 labels was capped by the model's context: 80 of 128",
        "80 % chance",
        "3 seeds are few",
        "Nothing is known beyond 128 labels",
        "Scores may be too high: 3 test items also stand in the training rows",
        "Not every label can be right: 2 text(s) occur with different labels",
        "outside this data set",
        "forget",
        "240 test items come in 120 groups",
        "answers failed",
    ):
        assert words in told


def test_one_seed_is_said_to_be_one(tmp_path):
    found = decided(tmp_path, {"ask": ("prompting", (0.8,)), "tune": ("fine-tuning", (0.5,))}, budgets=(8,), seeds=(0,))
    assert any(doubt.startswith("One seed was run") for doubt in found.not_established)
    assert "1 seed." in found.sentence


def test_without_labels_nothing_is_said_of_other_training_examples(tmp_path):
    arms = {"ask": ("prompting", "", (0.8,)), "think": ("prompting", "", (0.5,))}
    results = measure(write_run(tmp_path, arms=arms, budgets=(0,)), DRAWS)
    found = decide(results)
    intervals = [i for p in results.points for i in (p.accuracy, p.macro_f1, p.generated)]
    intervals += [d.interval for d in results.differences] + [b.accuracy for b in results.best]
    assert {i.method for i in intervals} == {RUN_ONCE}
    told = " ".join((found.sentence, *found.not_established, *methods(results)))
    assert "run once" in found.sentence
    assert not re.search(r"[Oo]ne seed|1 seed|other training examples|seeds", told)


def test_an_arm_that_draws_without_labels_is_told_to_have_run_with_one_seed(tmp_path):
    run = write_run(tmp_path, arms={"ask": ("prompting", "", (0.8,))}, budgets=(0,))
    listed = json.loads((run / "run.json").read_text())
    listed["arms"][0]["draws_without_labels"] = True
    (run / "run.json").write_text(json.dumps(listed))
    results = measure(run, DRAWS)
    assert results.points[0].accuracy.method == ITEMS
    assert any(doubt.startswith("One seed was run: other random draws") for doubt in decide(results).not_established)


def test_beside_labels_a_cell_without_them_says_it_was_run_once(results):
    methods_of = {(p.arm, p.labels): p.accuracy.method for p in results.points}
    assert methods_of["few-shot", 0] == RUN_ONCE
    assert methods_of["few-shot", 8] == BOTH
    assert any("run once" in method for method in methods(results))


def test_who_saw_which_labels_is_told(results):
    told = " ".join(methods(results))
    for words in ("test labels are joined once, after every answer is written", "C of the logistic regression", "dev"):
        assert words in told


def test_a_ranking_that_depends_on_how_answers_are_read_is_told(tmp_path):
    arms = {"ask": ("prompting", "", (0.9,)), "shots": ("prompting", "", (0.7,))}
    run = write_run(tmp_path, arms=arms, budgets=(8,), n_items=60)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["generated"] = {"text": "", "answer": None, "correct": False} if row["arm"] == "ask" else row["generated"]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert any("ranking depends on how answers are read" in d for d in decide(measure(run, DRAWS)).not_established)


def test_choosing_the_best_of_equal_arms_does_not_flatter_it():
    rng, items = np.random.default_rng(0), Items(("",) * 80, np.zeros(80), np.arange(80), 80, (), 0.0)
    naive, fair = [], []
    for _ in range(300):
        scored = {Option(str(i), 8): rng.random((1, 80)) < 0.5 for i in range(8)}
        naive.append(max(matrix.mean() for matrix in scored.values()))
        fair.append(cross_fitted(scored, items)[1].mean())
    assert np.mean(naive) > 0.56
    assert np.mean(fair) == pytest.approx(0.5, abs=0.012)


def test_an_arm_that_is_clearly_best_keeps_its_own_score():
    rng, items = np.random.default_rng(1), Items(("",) * 80, np.zeros(80), np.arange(80) // 2, 40, (), 0.0)
    scored = {Option("a", 8): rng.random((2, 80)) < 0.4, Option("b", 8): rng.random((2, 80)) < 0.9}
    options, matrix = cross_fitted(scored, items)
    assert options == (Option("b", 8),)
    assert (matrix == scored[options[0]]).all()


def test_a_failed_request_stays_in_the_denominator_as_wrong(crossing_run, results):
    rows = [json.loads(line) for line in (crossing_run / "rows.jsonl").read_text().splitlines()]
    cell = [row for row in rows if (row["arm"], row["labels"]) == ("few-shot", 8)]
    assert any(row["error"] for row in cell)
    point = results.point(Option("few-shot", 8))
    assert point.accuracy.value == pytest.approx(sum(row["correct"] for row in cell) / len(cell))
    assert point.failed == pytest.approx(sum(row["error"] is not None for row in cell) / len(cell))


def test_results_are_plain_json_and_the_same_every_time(crossing_run):
    write_results(measure(crossing_run, DRAWS), crossing_run)
    first = (crossing_run / "results.json").read_bytes()
    assert {"decision", "points", "differences", "crossing", "choice", "methods"} <= set(json.loads(first))
    write_results(measure(crossing_run, DRAWS), crossing_run)
    assert (crossing_run / "results.json").read_bytes() == first


def damaged(tmp_path, change):
    run = write_run(tmp_path, n_items=20)
    rows = (run / "rows.jsonl").read_text().splitlines(keepends=True)
    (run / "rows.jsonl").write_text("".join(change(rows)))
    return run


def test_a_missing_answer_is_named_not_dropped(tmp_path):
    run = damaged(tmp_path, lambda rows: rows[:-1])
    with pytest.raises(DataError, match=r"'majority' with 128 labels, seed 2, lacks 1 of 20 items, such as 's0019'"):
        measure(run, DRAWS)


def test_an_answer_given_twice_is_an_error(tmp_path):
    run = damaged(tmp_path, lambda rows: [rows[0], *rows])
    with pytest.raises(DataError, match=r"'few-shot' with 0 labels, seed 0, answered item 's0000' twice"):
        measure(run, DRAWS)


def test_a_torn_line_is_named(tmp_path):
    run = damaged(tmp_path, lambda rows: [*rows[:4], rows[4][:30]])
    with pytest.raises(DataError, match=r"rows\.jsonl, line 5 is not JSON"):
        measure(run, DRAWS)


def test_an_arm_that_the_run_does_not_list_is_an_error(tmp_path):
    run = write_run(tmp_path, n_items=20)
    listed = json.loads((run / "run.json").read_text())
    listed["arms"] = [arm for arm in listed["arms"] if arm["name"] != "lora"]
    (run / "run.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"has the arms \['lora'\]"):
        measure(run, DRAWS)


def test_a_directory_that_holds_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"run\.json does not exist"):
        measure(tmp_path)


def test_every_arm_of_the_run_has_its_points(results):
    expected = sum(share is not None for _, _, curve in ARMS.values() for share in curve)
    assert len(results.points) == expected


def test_nothing_that_a_plain_interval_would_show_comes_with_the_level_that_is_asked_and_what_to_do(tmp_path):
    arms = {"ask": ("prompting", "", (0.6,)), "tune": ("fine-tuning", "", (0.35,))}
    results = replace(measure(write_run(tmp_path, arms=arms, budgets=(8,)), DRAWS), above=())
    assert results.nearly_above(8).arm == "ask"
    found = decide(results)
    assert "(the highest is ask, 0.53" in found.headline
    assert "but not at the 97.5% asked of the highest of 2)" in found.headline
    assert found.next.what == "seeds"
    assert found.next.said.startswith("Run with --seeds 6: it takes no new labels and may show that ask, now")
    many = replace(
        measure(write_run(tmp_path / "many", arms=arms, budgets=(8,), seeds=tuple(range(6))), DRAWS), above=()
    )
    assert decide(many).next.said.startswith("Test on about 480 items: it may show that ask, now")
    low = replace(results, majority=0.9)
    assert (decide(low).next, "the highest is" in decide(low).headline) == (None, False)


def test_the_methods_tell_how_an_interval_is_made(tmp_path, results):
    said = " ".join(methods(results))
    assert "stretched by t/z, t having the degrees of freedom of what C clusters and S seeds add to it" in said
    alone = measure(write_run(tmp_path, seeds=(0,)), DRAWS)
    assert "t having C − 1 degrees of freedom for C clusters" in " ".join(methods(alone))


def test_copies_in_one_side_flatter_nobody(tmp_path):
    lint = [{"kind": "duplicates", "message": "33 of 47 rows repeat an earlier text"}]
    lint += [{"kind": "overlap", "message": "2 test texts are in train too"}]
    found = decide(measure(write_run(tmp_path, lint=lint), DRAWS)).not_established
    assert "Scores may be too high: 2 test texts are in train too" in found
    assert "Texts that are there often count as often, in intervals once: 33 of 47 rows repeat an earlier text" in found
