"""What arms cost, from how many queries on it pays, and what that changes in the decision."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from studies import a_task, rows_of
from synthetic import write_run

from promptlab import compare, finetuned, in_context, model
from promptlab.cli import main
from promptlab.compare.cells import Cell, Items
from promptlab.compare.comparisons import Option, sure_on
from promptlab.compare.costs import Bill, Shape, break_even
from promptlab.compare.decision import decide
from promptlab.compare.measures import measure
from promptlab.compare.payback import break_even_draws, payback
from promptlab.compare.report import write_report
from promptlab.compare.report.tables import as_csv, as_markdown
from promptlab.compare.spending import (
    FLOPS,
    FLOPS_KEPT,
    SECONDS,
    USD,
    USD_KEPT,
    Expense,
    Terms,
    expenses_of,
    spending_of,
)
from promptlab.errors import SetupError
from promptlab.testing import Script
from promptlab.types import Reply, Usage

DRAWS = 200


def a_cell(n_seeds=2, n_items=4, **columns):
    base = dict.fromkeys(("calls",), 1.0) | dict.fromkeys(("reused_tokens", "cached_tokens", "output_tokens"), 0.0)
    base |= {"input_tokens": 100.0, "cost_usd": np.nan, "latency": np.nan, "seconds": 0.5} | columns
    return Cell("arm", 8, tuple(range(n_seeds)), {k: np.broadcast_to(v, (n_seeds, n_items)) for k, v in base.items()})


def lines(n_seeds=2, **told):
    base = {"learn_seconds": 10.0, "learn_calls": 0, "learn_tokens": 0, "trained_parameters": None, "trainings": 0}
    base |= {"tokens": 0, "attended": 0, "parameters": 1_000, "layers": 2, "width": 10, "local": True, "price": None}
    return [{"arm": "arm", "labels": 8, "seed": seed, **base, **told} for seed in range(n_seeds)]


def test_flops_are_two_a_parameter_and_token_read_six_trained_on_and_attention_on_top():
    plain, shape = Shape(1_000), Shape(1_000, layers=2, width=10)
    assert (plain.answering(100), plain.training(100)) == (2e5, 6e5)
    assert shape.answering(100, attended=5_000) == 2e5 + 4 * 2 * 10 * 5_000
    assert shape.training(100, 5_000) == 3 * shape.answering(100, 5_000)
    assert plain.training(100, trained=0) == 4e5  # adapters of next to no weights: forward, and back through the rest
    found = expenses_of(a_cell(), lines(tokens=100, attended=10_000), Terms())
    assert found[FLOPS].bill == Bill(shape.training(100, 5_000), shape.answering(100, 5_000))
    effort = {"tokens": 100, "attended": 10_000, "trained_parameters": 10, "differentiated": 600}
    effort |= {"read_tokens": 50, "read_attended": 2_000}  # of a reference
    found = expenses_of(a_cell(), lines(**effort), Terms())
    assert found[FLOPS].bill.once == shape.training(100, 5_000, trained=600) + shape.answering(50, 1_000)


def test_a_kept_prompt_is_read_once_and_its_tokens_are_looked_back_on_all_the_same():
    found = expenses_of(a_cell(reused_tokens=60.0), lines(), Terms())
    plain, kept = found[FLOPS].bill, found[FLOPS_KEPT].bill
    assert kept.query == pytest.approx(plain.query - Shape(1_000, 2, 10).answering(60, 1_800))
    assert kept.once == pytest.approx(Shape(1_000, 2, 10).answering(60, 1_800))
    assert kept.query > Shape(1_000, 2, 10).answering(40, 40 * 40 / 2)


def test_dollars_are_a_providers_or_those_of_the_machines_hours_and_of_labels():
    hosted = {"local": False, "parameters": None}
    price = {name: [[0, usd]] for name, usd in (("input", 2.0), ("output", 8.0), ("cached", 0.2), ("cache_write", 2.0))}
    told = lines(learn_tokens=1_000, price={**price, "source": "given"}, **hosted)
    found = expenses_of(a_cell(cost_usd=2e-4, reused_tokens=50.0), told, Terms(usd_per_label=0.5))
    assert (found[USD].bill.once, found[USD].bill.query) == (pytest.approx(8 * 0.5 + 1_000 * 2e-6), pytest.approx(2e-4))
    assert found[USD_KEPT].bill.query == pytest.approx(2e-4 - 50 * 1.8e-6)
    assert SECONDS not in found
    assert FLOPS not in found
    assert USD not in expenses_of(a_cell(), told, Terms())  # a price that is not known is not 0
    local = expenses_of(a_cell(), lines(), Terms(usd_per_hour=3.6))
    assert (local[USD].bill.once, local[USD].bill.query) == (pytest.approx(0.01), pytest.approx(0.0005))
    assert USD not in expenses_of(a_cell(), lines(), Terms())


def test_a_model_elsewhere_that_tells_no_tokens_was_asked_all_the_same_and_is_not_free():
    elsewhere = lines(local=False, parameters=None)
    assert expenses_of(a_cell(input_tokens=0.0), elsewhere, Terms()) == {}
    assert expenses_of(a_cell(input_tokens=0.0, calls=0.0), elsewhere, Terms())[FLOPS].bill == Bill(0.0, 0.0)


def test_a_run_of_an_earlier_version_has_no_costs_that_it_did_not_count():
    old = [{"arm": "arm", "labels": 8, "seed": seed, "learn_seconds": 1.0} for seed in (0, 1)]
    assert expenses_of(a_cell(), old, Terms()) == {}


def test_latency_is_of_the_answers_that_were_timed_and_energy_of_watts_that_are_given():
    latency = np.array([[1.0, 2.0, np.nan, 3.0]] * 2)
    found = spending_of(a_cell(latency=latency), lines(peak_bytes=5), Terms(watts=100))
    assert (found.latency, found.n_timed, found.peak_bytes) == ((2.0, 3.0), 6, 5)
    assert found.joules == Bill(1_000, 50)
    without = spending_of(a_cell(), lines(), Terms())
    assert (without.latency, without.joules) == (None, None)


def sure(n_items=60):
    items = Items(tuple(map(str, range(n_items))), np.zeros(n_items, int), np.arange(n_items), n_items, (), 0.0)
    return sure_on(items, DRAWS, 0.95)


def expense(once, query, n_seeds=3, n_items=60, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return Expense(
        once * (1 + noise * rng.normal(size=n_seeds)), query * (1 + noise * rng.normal(size=(n_seeds, n_items)))
    )


def test_break_even_is_that_of_the_means_and_certain_where_nothing_varies():
    a, b = (Option("prompt", 8), expense(0, 2)), (Option("tune", 8), expense(100, 1))
    found = payback(8, FLOPS, a, b, sure())
    assert found.n == found.low == found.high == break_even(Bill(0, 2), Bill(100, 1)) == 100
    never = payback(8, FLOPS, a, (Option("tune", 8), expense(100, 3)), sure())
    assert (never.n, never.low, never.high, never.p_never) == (None, None, None, 1)


def test_the_interval_of_break_even_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        a = Option("prompt", 8), expense(10, 2, n_seeds=8, noise=0.3, seed=2 * seed)
        b = Option("tune", 8), expense(100, 1, n_seeds=8, noise=0.3, seed=2 * seed + 1)
        found = payback(8, FLOPS, a, b, sure())
        covered += found.low <= 90 <= found.high
    assert 85 <= covered <= 99


def test_draws_that_never_pay_are_infinite_and_what_is_cheaper_at_once_pays_from_none_on():
    now, instead = (np.zeros(4), np.array([2.0, 1, 1, 1])), (np.array([10.0, 10, -1, -1]), np.array([1.0, 1, 1, 0.5]))
    assert break_even_draws(now, instead).tolist() == [10, np.inf, 0, 0]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder, tiny = tmp_path_factory.mktemp("run"), model("tiny")
    arms = {"few-shot": in_context(tiny), "sft": finetuned(tiny, "sft")}
    compare(arms, a_task(16, 12), (0, 8), 2, out=folder, terms=Terms(queries=10_000, watts=20))
    return folder


def test_a_study_says_what_training_costs_and_from_how_many_queries_on_it_pays(studied):
    results = json.loads((studied / "results.json").read_text())
    found = {(p["budget"], p["unit"]): p for p in results["paybacks"]}
    flops = found[8, FLOPS]
    assert (flops["now"]["arm"], flops["instead"]["arm"]) == ("few-shot", "sft")
    assert 0 < flops["low"] <= flops["n"] <= flops["high"]
    assert flops["n"] == pytest.approx((flops["once"][1] - flops["once"][0]) / (flops["query"][0] - flops["query"][1]))
    assert found[8, FLOPS_KEPT]["n"] is None or found[8, FLOPS_KEPT]["n"] > flops["n"]
    assert results["terms"]["queries"] == json.loads((studied / "run.json").read_text())["terms"]["queries"] == 10_000
    page = (studied / "report.html").read_text()
    for head in (
        "With every query",
        "Tokens trained on",
        "Joules",
        "From how many queries on",
        "10,000 queries a month",
    ):
        assert head in page


def test_the_tables_have_learning_calibration_costs_and_break_even(studied):
    results = json.loads((studied / "results.json").read_text())
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    [sft] = [row for row in rows if row["arm"] == "sft"]
    assert float(sft["ece_low"]) <= float(sft["ece"]) <= float(sft["ece_high"])
    assert float(sft["recall yes_low"]) <= float(sft["recall yes"])
    assert {"learn_calls", "learn_tokens", "brier", "FLOPs once", "latency_p95_s"} <= sft.keys()
    text = as_markdown(results)
    for head in ("calibration error", "share that is found", "Once, before the first query", "Pays from", "The rule"):
        assert head in text


def counted(run, cells, rows=()):
    """A made-up run with what its cells and rows took: for each arm what to add to its lines."""
    size = {"parameters": 1_000_000, "layers": 0, "width": 0, "local": True, "price": None, "trainings": 1}
    for name, base, more in (
        ("cells", {**size, "attended": 0, "tokens": 0}, dict(cells)),
        ("rows", {}, dict(rows)),
    ):
        told = [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]
        told = [line | base | more.get(line["arm"], {}) for line in told]
        (run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    return run


def test_without_queries_what_is_needed_decides_among_equals_and_with_them_the_bill(tmp_path):
    arms = {"same": ("prompting", "", (0.8,)), "same'": ("fine-tuning", "", (0.8,))}
    run = write_run(tmp_path, arms=arms, budgets=(16,))
    counted(run, {"same'": {"tokens": 50_000}}, {"same": {"input_tokens": 536}, "same'": {"input_tokens": 40}})

    def verdict(terms):
        [found] = decide(measure(run, DRAWS, terms=terms)).per_budget
        return found

    assert verdict(Terms()).verdict == "prompting"
    assert verdict(Terms(queries=1, months=1)).verdict == "prompting"
    many = verdict(Terms(queries=10_000))
    assert (many.verdict, many.p) == ("fine-tuning", 1)
    assert "it costs" in many.because
    assert "FLOPs" in many.because
    headline = decide(measure(run, DRAWS, terms=Terms(queries=10_000))).headline
    assert "fine-tune (same')" in headline.lower()
    assert headline.endswith("P > 0.99 at your 10,000 queries a month.")


def test_where_cost_decides_what_is_as_good_and_cheaper_still_is_told(tmp_path):
    arms = {"same": ("prompting", "", (0.5, 0.8)), "same'": ("fine-tuning", "", (None, 0.8))}
    counted(write_run(tmp_path, arms=arms, budgets=(0, 16)), {}, {})
    results = measure(tmp_path, DRAWS, terms=Terms(queries=10, usd_per_label=2))
    said = decide(results).per_budget[-1].because
    assert said.endswith("it costs $32.00 against $32.00 in all")
    as_good = (Option("same", 0), *results.choice.equivalent)
    found = decide(replace(results, choice=replace(results.choice, equivalent=as_good))).per_budget[-1]
    assert found.verdict == "prompting"
    assert found.because == f"{said}; as good as the best of all and cheaper still, at $0.00: same (no labels)"


HOSTED = {"local": False, "parameters": None}


def test_a_hosted_prompt_and_a_baseline_here_are_compared_in_dollars_with_this_machine_at_none(tmp_path):
    arms = {"same": ("prompting", "", (0.8,)), "same'": ("baseline", "", (0.8,))}
    took = {"same": {"cost_usd": 1e-4}, "same'": {"seconds": 0.1}}
    counted(write_run(tmp_path, arms=arms, budgets=(16,)), {"same": HOSTED}, took)
    results = measure(tmp_path, DRAWS, terms=Terms(queries=1_000))
    assert {(c.family, c.unit): c.total for c in results.chances} == {
        ("prompting", USD): pytest.approx(1e-4 * 12_000),
        ("baseline", USD): 0,
    }
    told = decide(results)
    assert [(v.verdict, v.p) for v in told.per_budget] == [("baseline", 1)]
    assert any("An hour of this machine counts as $0" in line for line in told.rule)
    dear = measure(tmp_path, DRAWS, terms=Terms(queries=1_000, usd_per_hour=3_600))  # a dollar a second
    assert [(v.verdict, v.p) for v in decide(dear).per_budget] == [("prompting", 1)]
    assert not any("counts as $0" in line for line in decide(dear).rule)


def test_the_rule_says_at_which_numbers_of_labels_no_cost_was_known(tmp_path):
    arms = {"same": ("prompting", "", (0.6, 0.8)), "same'": ("baseline", "", (None, 0.8))}
    run = counted(write_run(tmp_path, arms=arms, budgets=(0, 16)), {"same": HOSTED}, {"same": {"cost_usd": 1e-4}})
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        if row["labels"] == 16:
            row.pop("cost_usd", None)
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rule = " ".join(decide(measure(run, DRAWS, terms=Terms(queries=0.5, months=0.5))).rule)
    assert "by dollars at 0 labels, by what it needs (no cost is known of all) at 16 labels" in rule
    assert "over 0.5 queries a month for 0.5 months" in rule


def test_what_labels_cost_counts_where_the_machines_hours_are_not_known(tmp_path):
    arms = {"same": ("prompting", "", (0.8,)), "same'": ("fine-tuning", "", (0.8,))}
    counted(write_run(tmp_path, arms=arms, budgets=(16,)), {"same'": {"tokens": 50_000}})
    results = measure(tmp_path, DRAWS, terms=Terms(queries=10, usd_per_label=5))
    assert {(c.unit, c.total) for c in results.chances} == {(USD, 80)}
    [verdict] = decide(results).per_budget
    assert (verdict.verdict, verdict.p) == ("prompting", 1)  # of equal costs the one that needs less
    assert any("An hour of this machine counts as $0" in line for line in decide(results).rule)
    assert USD in {p.unit for p in results.paybacks}
    assert results.terms.usd_per_hour is None


class Free(Script):
    """A hosted model whose tokens cost nothing, which is known."""

    def __init__(self):
        super().__init__(lambda request: Reply(text="yes", usage=Usage(40, output_tokens=1, cost_usd=0.0)))


def test_a_cost_that_is_known_to_be_nothing_is_not_unknown(tmp_path):
    results = compare({"few-shot": in_context(Free())}, a_task(16, 12), (0,), 1, out=tmp_path)
    assert {row["cost_usd"] for row in rows_of(tmp_path)} == {0.0}
    [spent] = results["spending"]
    assert spent["bills"][USD] == {"once": 0.0, "query": 0.0}


@pytest.mark.parametrize("terms", [{"queries": -1}, {"queries": 1e300}, {"months": 0}, {"watts": float("nan")}])
def test_terms_that_cannot_be_are_refused(terms):
    with pytest.raises(SetupError):
        Terms(**terms)


def test_the_report_takes_other_terms_and_prints_the_decision_as_json(studied, capsys):
    before = json.loads((studied / "results.json").read_text())
    with pytest.raises(SystemExit) as stop:
        main(["report", str(studied), "--queries", "5", "--usd-per-hour", "2", "--json"])
    assert not stop.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((studied / "results.json").read_text())["decision"]
    assert {"headline", "p", "rule", "next", "per_budget"} <= printed.keys()
    assert USD in {p["unit"] for p in json.loads((studied / "results.json").read_text())["paybacks"]}
    write_report(studied)
    after = json.loads((studied / "results.json").read_text())
    assert {**after, "run": None} == {**before, "run": None}


def test_a_decision_is_read_and_printed_as_json_whatever_the_terminals_encoding(studied):
    locale = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "promptlab", "report", str(studied), "--json"]
    done = subprocess.run(command, env=locale, capture_output=True)
    assert done.returncode == 0, done.stderr
    kept = (studied / "results.json").read_text(encoding="utf-8")
    assert not kept.isascii()
    assert json.loads(done.stdout) == json.loads(kept)["decision"]


def test_the_page_is_opened_where_the_decision_is_printed_too(studied, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(studied), "--json", "--open"])
    assert not stop.value.code
    assert "headline" in json.loads(capsys.readouterr().out)
    assert opened == [str(studied / "report.html")]


def test_a_term_that_is_typed_leaves_the_runs_other_terms_as_they_are(studied):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(studied), "--watts", "65"])
    assert not stop.value.code
    terms = json.loads((studied / "results.json").read_text())["terms"]
    assert (terms["queries"], terms["months"], terms["watts"]) == (10_000, 12, 65)
    write_report(studied)
