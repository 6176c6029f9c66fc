"""Recorded runs of real models: where fine-tuning overtakes demonstrations, and which methods beat zero-shot."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from harness import row
from replays.recorded import RECORDED, absent, recording, reproduced

from promptlab.compare.crossover import Crossover, Curve, crossover, learning_curve
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.statistics import Matrix, Resamples, benjamini_hochberg, holm, resample
from statistical.rows import Row, between, equal

DEMONSTRATIONS = "icl_predictions_trec_banking77.csv.gz"
TUNED = "finetuning_curves_trec_banking77.csv"
MEDICAL = "medagents_runs*.csv.gz"
COMPLETE, SIGNIFICANT, AFTER_HOLM = 189, 49, 16  # tests on the runs of all models; half of them have no known figures
MODEL = "llama-2-7b-80k"
ITEMS = 250  # of the test, the same for all
EXPECTED = {"trec": (115, 696, 0.0), "banking77": (3_376, 15_409, 0.02)}  # interval and P(never) of another analysis
FEWEST = 30  # items in common, for a test


def measure(quick: bool) -> list[Row]:
    rows = crossovers(draws=500 if quick else 4_000) if (RECORDED / TUNED).is_file() else [absent("crossovers")]
    runs = recording(MEDICAL)
    return rows + ([absent("medical questions")] if runs is None else medical(runs))


class Tuned(NamedTuple):
    """The accuracy of each run at each number of labels, and how many rows of the file repeat another."""

    runs: dict[int, dict[str, float]]
    repeated: int


def crossovers(draws: int) -> list[Row]:
    rows, repeated = [], 0
    for name, (low, high, never) in EXPECTED.items():
        answers, tuned = demonstrated(name), fine_tuned(name)
        repeated += tuned.repeated
        drawn = resample(ITEMS, draws)
        found = overtaken(answers, tuned.runs, drawn)
        made = row(f"{name}: crossover", found.n, "labels", low=found.low, high=found.high, n=ITEMS)
        rows += [
            between(made, low, high, "another analysis has"),
            equal(f"{name}: P(never up to 16,384 labels)", found.p_never, never, "share", draws, within=0.015),
        ]
    told = "counted once; 61 are reported of the whole collection, this file has 118 rows of 100 runs"
    rows.append(row("fine-tuning curves: rows that repeat a run", repeated, "rows", n=118, note=told))
    return [*rows, *one_seed(demonstrated("trec")[250], fine_tuned("trec").runs[256])]


def demonstrated(name: str) -> dict[int, Matrix]:
    """Right answers, (runs, items), by number of random demonstrations, up to 2,000."""
    cells: dict[int, dict[tuple[str, str], bool]] = defaultdict(dict)
    for each in table(RECORDED / DEMONSTRATIONS):
        if (each["model"], each["dataset"], each["retrieval"]) == (MODEL, name, "0"):
            cells[int(each["n_shots"])][each["run"], each["id"]] = each["correct"] == "1"
    found = {}
    for shots, cell in cells.items():
        runs, items = (sorted(set(of)) for of in zip(*cell, strict=True))
        found[shots] = np.array([[cell[run, item] for item in items] for run in runs])
    return found


def fine_tuned(name: str) -> Tuned:
    """A run that stands there several times counts once; one that failed counts."""
    rows = [each for each in table(RECORDED / TUNED) if each["file"] == name]
    runs: dict[int, dict[str, float]] = defaultdict(dict)
    for each in rows:
        runs[int(each["n_examples"])][each["run"]] = float(each["accuracy"])
    return Tuned(dict(runs), len(rows) - sum(map(len, runs.values())))


def overtaken(answers: dict[int, Matrix], runs: dict[int, dict[str, float]], drawn: Resamples) -> Crossover:
    """Of the fine-tuned only the accuracy of each run is known, so their items are drawn as binomial noise."""
    labels = tuple(sorted(runs))
    accuracy = np.array([[runs[k][run] for run in sorted(runs[k])] for k in labels])  # (K, runs)
    weights = drawn.seeds(accuracy.shape[1])
    means = weights @ accuracy.T / weights.sum(axis=1, keepdims=True)
    values = accuracy.mean(axis=1)
    noise = np.random.default_rng(0).binomial(ITEMS, values, size=means.shape) / ITEMS - values
    prompts = learning_curve(answers, np.arange(ITEMS), drawn)
    found = crossover(prompts, Curve(labels, values, means + noise), ("demonstrations", "fine-tuning"))
    assert found is not None
    return found


def one_seed(answers: Matrix, runs: dict[str, float]) -> list[Row]:
    """How often one run of each, about 250 labels, does not name the arm that is better over all runs."""
    prompts, tuned = answers.mean(axis=1), np.array(list(runs.values()))
    lead = tuned - prompts[:, None]
    lead = lead * np.sign(lead.mean())
    tied = np.abs(lead) < 1e-9
    wrong, level = float(((lead < 0) & ~tied).mean()), float(tied.mean())
    note = f"{wrong:.2f} name the other, {level:.2f} neither"
    return [
        equal("trec, 250 labels, one seed: wrong", wrong + level, 0.40, "share", lead.size, within=0.005, note=note)
    ]


def medical(path: Path) -> list[Row]:
    """Each method against zero-shot on the items both answered; an item answered twice counts as it was first."""
    runs: dict[tuple[str, str, str], dict[str, bool]] = defaultdict(dict)
    for each in table(path):
        if each["split"] == "test_hard":
            run = runs[each["dataset"], each["model"], each["method"]]
            run.setdefault(each["item"], each["pred"].strip() == each["gold"].strip())
    p = []
    for (data, model, method), answers in sorted(runs.items()):
        zero = runs[data, model, "zero_shot"]
        common = [item for item in answers if item in zero]
        if method != "zero_shot" and len(common) >= FEWEST:
            p.append(sign_flips(np.array([float(answers[item]) - zero[item] for item in common])))  # McNemar's
    whole = len(p) == COMPLETE
    told = "" if whole else f"half of the models; {COMPLETE}, {SIGNIFICANT} and {AFTER_HOLM} are known of all"
    counts = {
        "p < .05": (p, SIGNIFICANT if whole else None),
        "p < .05 after Holm": (holm(p), AFTER_HOLM if whole else None),
        "p < .05 after Benjamini-Hochberg": (benjamini_hochberg(p), None),
    }
    return [
        row("medical questions: methods against zero-shot", len(p), "tests", n=sum(map(len, runs.values())), note=told),
        *(
            reproduced(f"medical questions: {name}", sum(x < 0.05 for x in found), "tests", len(p), known, 0)
            for name, (found, known) in counts.items()
        ),
    ]


def table(path: Path) -> list[dict[str, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
