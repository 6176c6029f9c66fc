"""A run's tables as Markdown and as CSV, from its results.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import groupby

from promptlab.compare.cells import Json
from promptlab.compare.markdown import one_line, table
from promptlab.compare.statistics import Interval
from promptlab.compare.wording import labels, share, shown

SPANS = ("accuracy", "macro_f1", "generated")  # of a point, with an interval each
PLAIN = (
    "format_errors",
    "no_answer",
    "failed",
    "shots",
    "left_out",
    "learn_seconds",
    "trained_parameters",
    "input_tokens",
    "output_tokens",
    "ms_per_answer",
)


def as_markdown(results: Json) -> str:
    """The decision, a table of the arms at each number of labels, the differences, and what was not established."""
    decision = results["decision"]
    parts = [f"**{one_line(decision['sentence'])}**", *_arms(results), *_differences(results)]
    parts.append("Not established:\n\n" + "\n".join(f"- {one_line(doubt)}" for doubt in decision["not_established"]))
    return "\n\n".join(parts) + "\n"


def _arms(results: Json) -> Iterator[str]:
    heads = ("arm", "family", "accuracy", "macro-F1", "no answer", "failed", "tokens in", "out", "s to learn")
    for budget, points in groupby(results["points"], lambda point: point["labels"]):
        rows = [
            (
                point["arm"],
                point["family"],
                shown(Interval(**point["accuracy"])),
                shown(Interval(**point["macro_f1"])) if point["macro_f1"] else "–",
                share(point["no_answer"]),
                share(point["failed"]),
                f"{point['input_tokens']:,.0f}",
                f"{point['output_tokens']:,.0f}",
                f"{point['learn_seconds']:,.1f}",
            )
            for point in points
        ]
        yield f"{_at(budget)}:\n\n{table(heads, rows)}"


def _differences(results: Json) -> Iterator[str]:
    heads = ("labels", "A", "B", "A − B", "better, worse, equal", "p", "p after Holm")
    for question, found in groupby(
        sorted(results["differences"], key=lambda d: d["question"]), lambda d: str(d["question"])
    ):
        rows = [
            (
                f"{d['budget']:,}",
                d["a"],
                d["b"],
                shown(Interval(**d["interval"]), sign=True),
                f"{d['wins']:,}, {d['losses']:,}, {d['ties']:,}",
                f"{d['p']:.3g}",
                f"{d['p_holm']:.3g}",
            )
            for d in found
        ]
        yield f"{question}:\n\n{table(heads, rows)}"


def _at(budget: int) -> str:
    return f"With {labels(budget)}" if budget else "Without labels"


def as_csv(results: Json) -> str:
    """A row for each arm and number of labels, unrounded: what spreadsheets and plots read."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spans = [f"{name}{end}" for name in SPANS for end in ("", "_low", "_high")]
    writer.writerow(["arm", "family", "labels", "n_items", "n_clusters", "n_seeds", *spans, *PLAIN])
    for point in results["points"]:
        found = [point[name] or {"value": None, "low": None, "high": None} for name in SPANS]
        values = [interval[end] for interval in found for end in ("value", "low", "high")]
        n = [point["accuracy"][name] for name in ("n_items", "n_clusters", "n_seeds")]
        row = [point["arm"], point["family"], point["labels"], *n, *values, *(point[name] for name in PLAIN)]
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()
