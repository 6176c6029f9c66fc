"""Recorded answers of real models through our strategies, against what was recorded and against counting by hand."""

from __future__ import annotations

import json
import sys
from collections import Counter
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "recorded"
pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"the recordings are not at {RECORDED}")
sys.path.insert(0, str(ROOT / "benchmarks"))  # the studies are scripts, not a package

from replays import bbh, game24_samples, gsm8k, last_letters, recorded  # noqa: E402

from promptlab.equality import number_of  # noqa: E402
from promptlab.extraction import read_choice, read_number  # noqa: E402


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    missed = [row["name"] for row in rows if row["ok"] is False]
    assert not missed
    return {row["name"]: row for row in rows}


# ---- GSM8K


@pytest.fixture(scope="module")
def gsm8k_rows() -> dict[str, dict[str, Any]]:
    return by_name(gsm8k.measure(quick=True))


@pytest.fixture(scope="module")
def solutions() -> list[Any]:
    return recorded.lines(recorded.recording("gsm8k_model_solutions*.jsonl.gz"))


def test_every_flag_of_gsm8k_is_reproduced(gsm8k_rows, solutions):
    for model in gsm8k.MODELS:
        assert gsm8k_rows[f"GSM8K {model}: flags reproduced"]["value"] == 1
        flagged = sum(item[model]["is_correct"] for item in solutions) / len(solutions)
        assert gsm8k_rows[f"GSM8K {model}: accuracy"]["value"] == flagged
        assert gsm8k_rows[f"GSM8K {model}: flags reproduced, strictly"]["value"] < 1  # 65,960 is not "65960"


def test_votes_of_four_models_are_those_counted_by_hand(gsm8k_rows, solutions):
    def final(text: str) -> str | None:
        _, marker, answer = text.rpartition("\nA:")
        return answer.strip().replace(",", "") if marker else None

    for name, order in (("list order", gsm8k.MODELS), ("reversed order", gsm8k.MODELS[::-1])):
        right = 0
        for item in solutions:
            counts = Counter(vote for model in order if (vote := final(item[model]["solution"])))
            winner = counts.most_common(1)[0][0] if counts else None  # among equals the first met
            right += winner == final(item["ground_truth"])
        counted = gsm8k_rows[f"GSM8K vote of 4, ties to the {name}"]["value"]
        assert counted == pytest.approx(right / len(solutions))


def test_agreement_tells_how_likely_an_answer_is_right(gsm8k_rows):
    shares = [gsm8k_rows[f"GSM8K, {name}: right"]["value"] for name in ("4 of 4 agree", "3 of 4 agree", "2 of 4 agree")]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95
    assert gsm8k_rows["GSM8K, no two agree: right"]["value"] < 0.03


def test_numbers_are_those_that_lm_eval_finds_on_every_recorded_solution(gsm8k_rows):
    assert gsm8k_rows["GSM8K: the number lm-eval's flexible filter finds"]["value"] == 1
    ours, theirs = gsm8k_rows["GSM8K: right as numbers"], gsm8k_rows["GSM8K: right as lm-eval compares"]
    assert ours["value"] >= theirs["value"]


OTHER_NUMBERS = {  # texts of the goldens of which another number is read here, and why
    "x = 1/2": "a fraction is one number, not its denominator",
    "½": "a fraction in one sign is a number",
    "1e5": "an exponent belongs to its number",
    "３": "full-width digits are digits",
}
OTHER_CHOICES = {
    "(A) or (B)? (B)": "a text that names two options chooses neither",
    "red, not blue": "what is denied is not chosen",
    "The answer is B": "a letter needs no brackets",
    "reddish": "a part of a word is no option",
}


@pytest.fixture(scope="module")
def made_up() -> dict[str, Any]:
    path = RECORDED / "goldens" / "lmeval_0.4.13_metric_goldens.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_numbers_read_otherwise_than_by_lm_eval_are_listed(made_up):
    def theirs(case: Any) -> float | None:
        number = number_of(case["flexible"])
        return None if number is None else float(number)

    differ = {
        case["text"] for case in made_up["gsm8k_regex_cases"] if read_number(case["text"], float)[0] != theirs(case)
    }
    assert differ == set(OTHER_NUMBERS)


def test_choices_read_otherwise_than_by_lm_eval_are_listed(made_up):
    def ours(case: Any) -> str:
        found = read_choice(case["text"], dict(zip("ABCDE", case["choices"], strict=False)))
        return "[invalid]" if found.value is None else f"({found.value})"

    differ = {case["text"] for case in made_up["multi_choice_regex_cases"] if ours(case) != case["out"]}
    assert differ == set(OTHER_CHOICES)


# ---- BIG-Bench Hard


def test_every_task_of_big_bench_hard_has_its_recorded_accuracy():
    rows = by_name(bbh.measure(quick=True))
    for kind in ("cot", "direct"):
        exact = rows[f"BBH {kind}: tasks at the recorded accuracy"]
        assert (exact["value"], exact["n"] >= 13) == (1, True)


# ---- Last Letters


@pytest.fixture(scope="module")
def letters() -> list[Any]:
    return recorded.lines(recorded.recording("last_letters_40_samples*.jsonl.gz"))


def stopped(samples: list[str], rule: str) -> tuple[str, int]:
    """The winner and the number of samples, one sample at a time and without the library."""
    for k in range(1, 41):
        top = Counter(samples[:k]).most_common(2)
        a, b = top[0][1], top[1][1] if len(top) > 1 else 0
        kind, _, figure = rule.partition(" ")
        if kind == "lossless":
            stop = a - b > 40 - k
        elif kind == "beta":
            stop = Fraction(sum(comb(a + b + 1, j) for j in range(a + 1)), 2 ** (a + b + 1)) >= Fraction(figure)
        elif kind == "window":
            stop = k % int(figure) == 0 and len(set(samples[k - int(figure) : k])) == 1
        else:
            stop = False
        if stop:
            break
    return Counter(samples[:k]).most_common(1)[0][0], k


@pytest.fixture(scope="module")
def found(letters) -> dict[str, last_letters.Elected]:
    return {name: last_letters.elected(letters, rule.stop) for name, rule in last_letters.RULES.items()}


@pytest.mark.parametrize("rule", last_letters.RULES)
def test_stops_are_those_counted_by_hand(rule, letters, found):
    by_hand = [stopped(item["samples"], rule) for item in letters]
    assert list(zip(found[rule].winners, found[rule].samples, strict=True)) == by_hand


def test_stopping_early_saves_what_was_measured(letters, found):
    rows = by_name(last_letters.figures(letters, found))
    assert rows["Last Letters, lossless: same winner as all 40"]["value"] == 1
    samples = {rule: rows[f"Last Letters, {rule}: mean samples"]["value"] for rule in last_letters.RULES}
    betas = [samples[f"beta {p}"] for p in (".90", ".95", ".99", ".999")]
    assert betas == sorted(betas)
    assert betas[-1] < samples["lossless"] < 40
    if len(letters) == last_letters.COMPLETE:
        assert [round(mean, 2) for mean in samples.values()] == [rule.samples for rule in last_letters.RULES.values()]


# ---- 100 samples a Game of 24


def test_votes_over_games_of_24_are_between_the_mean_and_the_best():
    rows = by_name(game24_samples.measure(quick=True))
    for kind in ("chain of thought", "input-output"):
        mean, best, vote = (
            rows[f"Game of 24, {kind}: {name}"]["value"]
            for name in ("mean of the samples", "any of 100", "majority of 100")
        )
        assert mean < vote < best
