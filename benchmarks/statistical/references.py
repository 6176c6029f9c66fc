"""The same numbers as other tools: scipy, statsmodels and scikit-learn inspect and lm-eval as recorded."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from replays.recorded import RECORDED, absent

from promptlab.compare.calibration import brier
from promptlab.compare.clustered import clustered_error, mean_error, paired_error, pooled_error
from promptlab.compare.confusion import cohens_kappa, confusion, f1s, matthews
from promptlab.compare.costs import break_even, few_shot, few_shot_cached, fine_tuned
from promptlab.compare.crossover import isotonic
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.statistics import benjamini_hochberg, holm, student, wilson
from promptlab.equality import agreement, number_of
from promptlab.extraction import read_choice, read_number
from statistical.rows import Row, at_most, equal

NUMBERS = {
    "x = 1/2": "a fraction is one number",
    "½": "a fraction in one sign is a number",
    "1e5": "an exponent belongs to its number",
    "３": "a full-width digit is a digit",
}
CHOICES = {
    "(A) or (B)? (B)": "a text that names two options chooses neither",
    "red, not blue": "what is denied is not chosen",
    "The answer is B": "a letter needs no brackets",
    "reddish": "a part of a word is no option",
}


def measure(quick: bool) -> list[Row]:
    rows = [*packages(8 if quick else 200), *bills()]
    folder = RECORDED / "goldens"
    if not folder.is_dir():
        return [*rows, absent("inspect and lm-eval")]
    inspect = json.loads((folder / "inspect_ai_goldens.json").read_text(encoding="utf-8"))
    lm_eval = json.loads((folder / "lmeval_0.4.13_metric_goldens.json").read_text(encoding="utf-8"))
    return [*rows, *as_inspect(inspect["clustered"]), *as_lm_eval(lm_eval)]


def packages(cases: int) -> list[Row]:
    """The largest difference to each reference over random inputs."""
    import scipy.stats
    import sklearn.isotonic
    import sklearn.metrics
    import statsmodels.api
    from statsmodels.stats.contingency_tables import mcnemar as exact
    from statsmodels.stats.multitest import multipletests

    worst: dict[str, float] = {}

    def compared(name: str, ours: Any, theirs: Any) -> None:
        gap = np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max()
        worst[name] = max(worst.get(name, 0.0), float(gap))

    for i in range(cases):
        rng = np.random.default_rng([i, 3])
        x, y = rng.normal(size=(2, 40))
        groups, p = rng.integers(0, 9, 40), rng.random(10) ** 3
        wins, losses = map(int, rng.integers(1, 60, 2))
        a, b = rng.integers(0, 4, (2, 60))
        shares = rng.dirichlet(np.ones(2), 50)
        truth = np.arange(50) % 2
        few = rng.normal(0.3, 1, 9)
        fit = statsmodels.api.OLS(x, np.ones(40)).fit(cov_type="cluster", cov_kwds={"groups": groups})
        t = scipy.stats.ttest_rel(x, y)
        flips = scipy.stats.permutation_test((few,), np.sum, permutation_type="samples", n_resamples=np.inf)
        table = confusion(a.tolist(), b.tolist(), 4)
        compared("clustered error (statsmodels)", clustered_error(x, groups.tolist()).error, fit.bse[0])
        compared("paired t: p (scipy)", paired_error(x, y).p, t.pvalue)
        compared("paired t: interval (scipy)", paired_error(x, y).interval(), tuple(t.confidence_interval()))
        whole = sign_flips(np.array([1.0] * wins + [-1.0] * losses))
        compared("McNemar, exact (statsmodels)", whole, exact([[0, wins], [losses, 0]]).pvalue)
        compared("McNemar, exact (scipy)", whole, scipy.stats.binomtest(wins, wins + losses).pvalue)
        compared("Holm (statsmodels)", holm(list(p)), multipletests(p, method="holm")[1])
        compared("Benjamini-Hochberg (statsmodels)", benjamini_hochberg(list(p)), multipletests(p, method="fdr_bh")[1])
        compared("Benjamini-Hochberg (scipy)", benjamini_hochberg(list(p)), scipy.stats.false_discovery_control(p))
        if (
            abs(few.sum()) > 0.01
        ):  # nearer to 0 scipy may lose the observed flip to rounding: .996 where fractions say 1
            compared("flipped signs, all (scipy)", sign_flips(few), min(1, flips.pvalue))
        interval = scipy.stats.binomtest(wins, 60).proportion_ci(method="wilson")
        compared("Wilson (scipy)", wilson(wins / 60, 60), (interval.low, interval.high))
        compared("Student's t (scipy)", student(wins, 0.975), scipy.stats.t.ppf(0.975, wins))
        monotone = sklearn.isotonic.IsotonicRegression().fit_transform(np.arange(40), x)
        compared("monotone fit (scikit-learn)", isotonic(x), monotone)
        compared("kappa (scikit-learn)", cohens_kappa(table), sklearn.metrics.cohen_kappa_score(a, b))
        compared("Matthews (scikit-learn)", matthews(table), sklearn.metrics.matthews_corrcoef(a, b))
        compared("F1 by class (scikit-learn)", f1s(table), sklearn.metrics.f1_score(a, b, average=None))
        compared(
            "Brier (scikit-learn)", brier(shares, truth), 2 * sklearn.metrics.brier_score_loss(truth, shares[:, 1])
        )
    return [at_most(f"largest difference: {name}", gap, 1e-9, "", cases) for name, gap in worst.items()]


def bills() -> list[Row]:
    """Liu et al. 2022 (arXiv 2205.05638), section 4.2: T0 of 11 billion, an encoder-decoder, against GPT-3 of 175."""
    half, query, prefix = 11e9 / 2, 103, 41 * 98
    tuned, prompted = fine_tuned(half, 1_000 * 8 * query, query), few_shot(175e9, prefix, query)
    found = (
        ("training", tuned.once, 2.72e16, 0.005e16, "FLOPs"),
        ("a query, fine-tuned", tuned.query, 1.13e12, 0.005e12, "FLOPs"),
        ("a query, GPT-3 with 41 demonstrations", prompted.query, 1.44e15, 0.005e15, "FLOPs"),
        ("break-even", break_even(prompted, tuned), 18.9, 0.05, "queries"),
        ("break-even, prefix cached", break_even(few_shot_cached(175e9, prefix, query), tuned), 738, 0.5, "queries"),
        ("break-even, the same model prompted", break_even(few_shot(half, prefix, query), tuned), 615, 0.5, "queries"),
    )
    return [equal(f"T-Few: {name}", value or 0.0, known, unit, 1, within) for name, value, known, within, unit in found]


def as_inspect(golden: Any) -> list[Row]:
    clusters, x = zip(*golden["clusters_values"], strict=True)
    plain, clustered = mean_error(x), clustered_error(x, clusters)
    gaps = {
        "standard error": [plain.error - golden["stderr"]],
        "clustered standard error": [clustered.error - golden["stderr_cluster"]],
        "t interval": np.subtract(plain.interval(), list(golden["ci95_t"].values())),
        "clustered t interval": np.subtract(clustered.interval(), list(golden["ci95_t_cluster"].values())),
    }
    return [
        at_most(f"inspect 0.3.285, {name}: difference", float(np.abs(gap).max()), 1e-12, "", len(x))
        for name, gap in gaps.items()
    ]


def as_lm_eval(golden: Any) -> list[Row]:
    """Equal, or different for the reason that the note gives."""
    binary, graded, labels, pooled = (
        golden[k] for k in ("mean_stderr_bin", "mean_stderr_cont", "f1_binary_and_mcc", "pooled")
    )
    table = confusion(*zip(*labels["pairs_gold_pred"], strict=True), 2)
    gaps = {
        "mean and error of right and wrong": np.subtract(
            mean_error(binary["x"])[:2], (binary["mean"], binary["stderr"])
        ),
        "mean and error of scores": np.subtract(mean_error(graded["x"])[:2], (graded["mean"], graded["stderr"])),
        "F1 of one class": [f1s(table)[1] - labels["f1"]],
        "Matthews's correlation": [matthews(table) - labels["mcc"]],
        "pooled error": [pooled_error(pooled["stderrs"], pooled["sizes"]) - pooled["value"]],
    }
    rows = [
        at_most(f"lm-eval 0.4.13, {name}: difference", float(np.abs(gap).max()), 1e-12, "", 1)
        for name, gap in gaps.items()
    ]
    median = golden["median_even_upper"]
    exact = [case for case in golden["exact_match_cases"] if not case["kwargs"]]
    same = sum(agreement(case["pred"], case["ref"]).strict == bool(case["exact_match"]) for case in exact)
    numbers, choices = golden["gsm8k_regex_cases"], golden["multi_choice_regex_cases"]
    return [
        *rows,
        equal(
            "lm-eval 0.4.13, median of 1 to 4: theirs above ours",
            median["lm_eval_median"] - float(np.median(median["x"])),
            0.5,
            "",
            1,
            note="of an even number they take the upper of the middle two, we their mean",
        ),
        equal("lm-eval 0.4.13, exact match without options: the same", same, len(exact), "cases", len(exact)),
        listed("numbers read in odd texts", numbers, number_differs, NUMBERS),
        listed("options chosen in odd texts", choices, choice_differs, CHOICES),
    ]


def number_differs(case: Any) -> bool:
    number = number_of(case["flexible"])
    return bool(read_number(case["text"], float).value != (None if number is None else float(number)))


def choice_differs(case: Any) -> bool:
    found = read_choice(case["text"], dict(zip("ABCDE", case["choices"], strict=False))).value
    return bool(case["out"] != ("[invalid]" if found is None else f"({found})"))


def listed(name: str, cases: list[Any], differs: Any, reasons: dict[str, str]) -> Row:
    """Texts that are read otherwise than by lm-eval, all of which must have a reason, and no other may."""
    unlike = {case["text"] for case in cases if differs(case)}
    note = f"{len(unlike)} differ: " + "; ".join(f"“{text}”: {why}" for text, why in reasons.items())
    made = equal(f"lm-eval 0.4.13, {name}: unlike without a reason", len(unlike - set(reasons)), 0, "texts", len(cases))
    return {**made, "ok": unlike == set(reasons), "note": note}
