"""A run's tables as Markdown and as CSV, from its results.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from promptlab.compare.cells import Json
from promptlab.compare.markdown import line, table
from promptlab.compare.report.cost_tables import PAYBACK_HEADS, cost_tables, pairs, payback_rows
from promptlab.compare.spending import UNITS
from promptlab.compare.statistics import Interval
from promptlab.compare.wording import labels, share, shown

SPANS = ("accuracy", "macro_f1", "generated", "ece", "brier")  # of a point, with an interval each
PLAIN = (
    "format_errors",
    "no_answer",
    "failed",
    "shots",
    "left_out",
    "learn_seconds",
    "learn_calls",
    "learn_tokens",
    "trained_parameters",
    "input_tokens",
    "output_tokens",
    "ms_per_answer",
)
SPENT = ("calls", "reused", "cached", "trainings", "trained_tokens", "n_timed", "peak_bytes")


def as_markdown(results: Json) -> str:
    """The decision, the arms at each number of labels, differences, subgroups, costs, and what was not established."""
    decision = results["decision"]
    parts = [f"**{line(decision['headline'])}**", line(decision["sentence"])]
    if decision["next"]:
        parts.append(f"Cheapest next measurement: {line(decision['next']['said'])}")
    parts += [*_arms(results), *_classes(results), *_differences(results), *_subgroups(results), *_costs(results)]
    parts.append("The rule:\n\n" + "\n".join(f"{i}. {line(rule)}" for i, rule in enumerate(decision["rule"], 1)))
    parts.append("Not established:\n\n" + "\n".join(f"- {line(doubt)}" for doubt in decision["not_established"]))
    return "\n\n".join(parts) + "\n"


def _arms(results: Json) -> Iterator[str]:
    elsewhere = {(one["arm"], one["labels"]): one["accuracy"] for one in results["outside"]}
    heads = ["arm", "family", "accuracy", "macro-F1", "calibration error", "Brier", "no answer", "failed"]
    heads += ["outside"] if elsewhere else []
    for budget, points in groupby(results["points"], lambda point: point["labels"]):
        rows = [
            (
                point["arm"],
                point["family"],
                shown(Interval(**point["accuracy"])),
                *(_span(point[name]) for name in ("macro_f1", "ece", "brier")),
                share(point["no_answer"]),
                share(point["failed"]),
                *([_span(elsewhere.get((point["arm"], point["labels"])))] if elsewhere else []),
            )
            for point in points
        ]
        yield f"{_at(budget)}:\n\n{table(heads, rows)}"


def _span(told: Json | None) -> str:
    return shown(Interval(**told)) if told else "–"


def _classes(results: Json) -> Iterator[str]:
    """Each class's recall."""
    if names := list(results["points"][0]["recall"]):
        points = results["points"]
        rows = [(f"{p['labels']:,}", p["arm"], *(_span(p["recall"][name]) for name in names)) for p in points]
        yield f"Of each class, the share that is found:\n\n{table(('labels', 'arm', *names), rows)}"


def _subgroups(results: Json) -> Iterator[str]:
    if not results["subgroups"]:
        return
    groups = results["subgroups"][0]["groups"]
    names = [f"{group['name']}{' (small)' if group['small'] else ''}, n = {group['n_items']:,}" for group in groups]
    rows = []
    for found in results["subgroups"]:
        gap = "–"
        if found["gap"]:
            gap = f"{shown(Interval(**found['gap']), sign=True)}, {found['best']} and {found['worst']}"
        rows.append((f"{found['labels']:,}", found["arm"], *(_span(g["accuracy"]) for g in found["groups"]), gap))
    yield f"By subgroup:\n\n{table(('labels', 'arm', *names, 'largest gap'), rows)}"


def _costs(results: Json) -> Iterator[str]:
    for found in cost_tables(results):
        rows = [(f"{budget:,}", arm, *cells) for budget, arm, _, cells in found.rows]
        yield f"{found.title}:\n\n{table(('labels', 'arm', *found.heads), rows)}"
    if rows := list(payback_rows(results)):
        yield f"From how many queries on the dearer start has paid:\n\n{table(PAYBACK_HEADS, rows)}"


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
    columns = [dict(_columns(point, spent, results)) for point, spent in pairs(results)]
    heads = list(dict.fromkeys(name for row in columns for name in row))
    writer.writerow(heads)
    for row in columns:
        values = (row.get(name) for name in heads)
        writer.writerow(["" if value is None else value for value in values])
    return out.getvalue()


def _columns(point: Json, spent: Json, results: Json) -> Iterator[tuple[str, Any]]:
    yield from ((name, point[name]) for name in ("arm", "family", "labels"))
    yield from ((name, point["accuracy"][name]) for name in ("n_items", "n_clusters", "n_seeds"))
    same = next((one for one in results["subgroups"] if _of(one) == _of(point)), None)
    spans = {name: point[name] for name in SPANS}
    if results["outside"]:
        spans["outside"] = next((o["accuracy"] for o in results["outside"] if _of(o) == _of(point)), None)
    spans |= {f"recall {name}": found for name, found in point["recall"].items()}
    spans |= {f"accuracy {group['name']}": group["accuracy"] for group in same["groups"]} if same else {}
    for name, interval in spans.items():
        for key, end in (("value", ""), ("low", "_low"), ("high", "_high")):
            yield f"{name}{end}", interval and interval[key]
    yield from ((name, point[name]) for name in PLAIN)
    yield from ((name, spent[name]) for name in SPENT)
    yield from zip(("latency_p50_s", "latency_p95_s"), spent["latency"] or (None, None), strict=True)
    for unit in UNITS:
        bill = spent["bills"].get(unit) or {"once": None, "query": None}
        yield from ((f"{unit.replace(', ', ' ')} {part}", bill[part]) for part in ("once", "query"))


def _of(one: Json) -> tuple[str, int]:
    return one["arm"], one["labels"]
