"""From a run's rows to where fine-tuning overtakes prompting: in results.json, the sentence, doubts and the page."""

import json
import re
from dataclasses import replace

import pytest
from synthetic import write_run

from promptlab.compare.crossover import ALWAYS, CROSSES, NEVER, UNDECIDED
from promptlab.compare.decision import decide
from promptlab.compare.doubts import doubts
from promptlab.compare.measures import measure
from promptlab.compare.overtaking import families, told
from promptlab.compare.report import write_report

DRAWS = 400
BUDGETS = (0, 8, 32, 128)
AHEAD_LATE = {"ask": ("prompting", "", (0.5, 0.6, 0.66, 0.68)), "tune": ("fine-tuning", "", (None, 0.4, 0.62, 0.9))}
BEHIND = {"ask": ("prompting", "", (0.6, 0.7, 0.75, 0.8)), "tune": ("fine-tuning", "", (None, 0.4, 0.5, 0.55))}
AHEAD = {"ask": ("prompting", "", (0.3, 0.3, 0.3, 0.3)), "tune": ("fine-tuning", "", (None, 0.6, 0.7, 0.8))}


def measured(folder, arms, **settings):
    return measure(write_run(folder, arms=arms, **settings), DRAWS)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return measure(write_run(tmp_path_factory.mktemp("run")), DRAWS)


def test_the_best_of_the_families_come_first_and_then_every_pair_of_arms(results):
    pairs = [(one.a, one.b) for one in results.crossovers]
    prompts, tuned = ("few-shot", "few-shot-knn"), ("head", "lora")
    assert pairs == [("prompting", "fine-tuning"), *((a, b) for a in prompts for b in tuned)]
    assert all(one.labels == (8, 32, 128) for one in results.crossovers)


def test_the_planted_crossover_is_established_and_in_the_sentence(results):
    found = families(results.crossovers)
    assert (found.outcome, found.established) == (CROSSES, True)
    assert found.low < 31 < found.high  # few-shot-knn .66 to .74 meets head .44 to .75 there
    sentence = decide(results).sentence
    assert re.search(rf"Fine-tuning overtakes prompting at {found.n:.0f} labels \[\d+, \d+\]\. Accuracy", sentence)
    assert not [doubt for doubt in doubts(results) if "established" in doubt]


def test_the_familys_crossover_is_against_its_best_prompt_and_so_not_before_the_arms_own(results):
    by_pair = {(one.a, one.b): one for one in results.crossovers}
    best = families(results.crossovers)
    assert best.n >= by_pair["few-shot", "head"].n
    assert best.n <= by_pair["few-shot-knn", "lora"].n


@pytest.mark.parametrize(
    ("arms", "outcome", "said"),
    [
        (BEHIND, NEVER, "is not seen to overtake prompting within 128 labels (P > 0.99)"),
        (AHEAD, ALWAYS, "is ahead of prompting from 8 labels on, the fewest tried (P > 0.99)"),
        (AHEAD_LATE, CROSSES, "Fine-tuning overtakes prompting at "),
    ],
)
def test_an_established_outcome_is_said_in_the_sentence(tmp_path, arms, outcome, said):
    results = measured(tmp_path, arms)
    found = families(results.crossovers)
    assert (found.outcome, found.established) == (outcome, True)
    assert said in decide(results).sentence
    assert said in decide(results).crossover


def test_what_is_not_established_stands_among_the_doubts_and_not_in_the_sentence(tmp_path):
    level = {"ask": ("prompting", "", (0.5, 0.6, 0.6, 0.7)), "tune": ("fine-tuning", "", (None, 0.4, 0.5, 0.71))}
    results = measured(tmp_path, level, n_items=120)
    found = families(results.crossovers)
    assert not found.established
    decision = decide(results)
    assert "overtake" not in decision.sentence
    assert "overtake" in decision.crossover
    assert [doubt for doubt in decision.not_established if "established: " in doubt and told(found) in doubt]


def test_an_undecided_crossover_says_how_likely_what_is(results):
    found = replace(families(results.crossovers), outcome=UNDECIDED, n=None, p_never=0.6, p_always=0.002, high=None)
    assert told(found) == (
        "whether fine-tuning overtakes prompting between 8 and 128 labels is undecided (P = 0.60 that it does not)"
    )
    open_end = replace(families(results.crossovers), n=90.2, low=40.4, high=None)
    assert told(open_end) == "fine-tuning overtakes prompting at 90 labels [40, over 128]"
    assert not open_end.established


@pytest.mark.parametrize("family", ["prompting", "fine-tuning"])
def test_one_family_alone_has_no_crossover(tmp_path, family):
    results = measured(tmp_path, {"one": (family, "", (0.6,)), "words": ("baseline", "", (0.4,))}, budgets=(8,))
    assert results.crossovers == ()
    assert decide(results).crossover is None


def test_a_single_number_of_labels_has_no_crossover(tmp_path):
    arms = {"ask": ("prompting", "", (0.6,)), "tune": ("fine-tuning", "", (0.7,))}
    assert measured(tmp_path, arms, budgets=(8,)).crossovers == ()


def test_a_prompt_without_labels_is_overtaken_too(tmp_path):
    arms = {"ask": ("prompting", "", (0.65, None, None, None)), "tune": ("fine-tuning", "", (None, 0.4, 0.6, 0.9))}
    found = families(measured(tmp_path, arms).crossovers)
    assert found.outcome == CROSSES
    assert 20 < found.n < 90


def test_results_json_and_the_pages_first_screen_have_it(tmp_path):
    run = write_run(tmp_path, n_items=80)
    page = write_report(run, DRAWS).read_text()
    found = json.loads((run / "results.json").read_text())
    assert found["crossovers"][0]["told"][1:] in found["decision"]["crossover"]
    assert {"n", "low", "high", "p_never", "p_always", "outcome", "established"} <= set(found["crossovers"][0])
    plain = re.sub(r"<[^>]+>", "", page)
    assert plain.index(found["decision"]["crossover"]) < plain.index("How accuracy grows")
    assert "Crossover of each pair of arms" in plain


def test_what_one_number_of_labels_leaves_open_is_not_said_to_be_so_from_the_first_on(tmp_path):
    """The curve borrows from its neighbours what the comparison at one number of labels does not show."""
    arms = {"ask": ("prompting", "", (0.7, 0.7, 0.7)), "tune": ("fine-tuning", "", (0.72, 0.9, 0.9))}
    results = measured(tmp_path, arms, budgets=(8, 32, 128), n_items=120)
    assert decide(results).per_budget[0].verdict == "undecided"
    sure = [replace(one, outcome=ALWAYS, n=None, p_always=0.98, p_never=0.0) for one in results.crossovers]
    found = decide(replace(results, crossovers=tuple(sure)))
    assert "fewest tried" not in found.sentence
    expected = (
        "All numbers of labels together say that fine-tuning is ahead of prompting from 8 labels on, the fewest tried "
        "(P = 0.98); 8 labels by themselves do not tell the two apart."
    )
    assert found.crossover == expected
    assert expected in found.not_established


def test_what_is_not_established_says_so_wherever_it_stands(tmp_path):
    results = measured(tmp_path, AHEAD)
    likely = [replace(one, p_always=0.9, p_never=0.1) for one in results.crossovers]
    found = decide(replace(results, crossovers=tuple(likely)))
    assert found.crossover.startswith("Likely but not established: fine-tuning is ahead of prompting from 8 labels on")
