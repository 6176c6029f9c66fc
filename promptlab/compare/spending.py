"""What each arm of a run costs, once and with every query, in every unit that is known: FLOPs, seconds, dollars.

rows (tokens, seconds, dollars) ──┐
cells.jsonl (training, model) ────┼── expenses: once (seeds,), each query (seeds, items) ── bills ── break-even
terms (what a run cannot know) ───┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from promptlab.backends.prices import at
from promptlab.compare.cells import Cell, Json
from promptlab.compare.costs import Bill, Shape
from promptlab.compare.statistics import Floats
from promptlab.errors import SetupError

# "Prompt kept": what a prompt begins with is read once (prefix caching).
FLOPS, FLOPS_KEPT, SECONDS = "FLOPs", "FLOPs, prompt kept", "seconds"
USD, USD_KEPT = "dollars", "dollars, prompt kept"
MOST = 1e15  # of any term
UNITS = (USD, USD_KEPT, FLOPS, FLOPS_KEPT, SECONDS)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run cannot know of its use. `queries` are those a month, `months` how long it will be used.

    `usd_per_hour` is what the machine that learns and answers costs, for the time that it does; `watts` its draw then;
    `usd_per_label` what a labelled example costs. None is not known. Raises SetupError for what cannot be.
    """

    queries: float | None = None
    months: float = 12.0
    usd_per_hour: float | None = None
    watts: float | None = None
    usd_per_label: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 <= value <= MOST:
                raise SetupError(f"{field.name} is a number from 0 to {MOST:g}, got {value}.")
        if not self.months:
            raise SetupError("months is more than 0: a thing of no use costs nothing.")

    @classmethod
    def of(cls, told: Json | None) -> Terms:
        return cls(**(told or {}))

    @property
    def in_all(self) -> float | None:
        """Queries over all the months."""
        return None if self.queries is None else self.queries * self.months

    def counted(self, cells: Sequence[Cell]) -> Terms:
        """These, with the machine's hours at 0 dollars where nobody said what they cost and others are known: those of
        labels or of a hosted model, beside which what runs here would have no cost to compare."""
        others = self.usd_per_label or any(not np.isnan(cell.columns["cost_usd"]).all() for cell in cells)
        return replace(self, usd_per_hour=0.0) if self.usd_per_hour is None and others else self


class Expense(NamedTuple):
    """What is paid once, (seeds,), and for each query, (seeds, items), in one unit."""

    once: Floats
    query: Floats

    @property
    def bill(self) -> Bill:
        return Bill(float(self.once.mean()), float(self.query.mean()))


Expenses = Mapping[str, Expense]  # by unit


@dataclass(frozen=True, slots=True)
class Spending:
    """What an arm with so many labels took, means over seeds and items, and its bills by unit.

    `reused` are the tokens read that a kept prompt saves, `cached` those that the provider did not read again.
    `latency` (seconds) are the 50th and 95th percentile of the `n_timed` answers of a hosted model that were fetched
    and not from a cache; None for an engine, which answers many at a time. `joules` are seconds times the watts given.
    """

    arm: str
    labels: int
    calls: float
    read: float
    reused: float
    cached: float
    written: float
    trainings: float | None
    trained_tokens: float | None
    bills: Mapping[str, Bill]
    joules: Bill | None
    latency: tuple[float, float] | None
    n_timed: int
    peak_bytes: int | None
    prices: str | None


def spending_of(cell: Cell, lines: Sequence[Json], terms: Terms) -> Spending:
    """Of one arm at one number of labels; `lines` are those of its seeds in cells.jsonl."""
    column, bills = cell.columns, {unit: e.bill for unit, e in expenses_of(cell, lines, terms).items()}
    timed = column["latency"][~np.isnan(column["latency"])]
    p50, p95 = np.quantile(timed, [0.5, 0.95]) if len(timed) else (np.nan, np.nan)
    watts, seconds = terms.watts, bills.get(SECONDS)
    peaks = [line["peak_bytes"] for line in lines if line.get("peak_bytes")]
    return Spending(
        arm=cell.arm,
        labels=cell.labels,
        calls=float(column["calls"].mean()),
        read=float(column["input_tokens"].mean()),
        reused=float(column["reused_tokens"].mean()),
        cached=float(column["cached_tokens"].mean()),
        written=float(column["output_tokens"].mean()),
        trainings=_mean(lines, "trainings"),
        trained_tokens=_mean(lines, "tokens"),
        bills=bills,
        joules=Bill(watts * seconds.once, watts * seconds.query) if watts is not None and seconds else None,
        latency=(float(p50), float(p95)) if len(timed) else None,
        n_timed=len(timed),
        peak_bytes=max(peaks, default=None),
        prices=next((line["price"]["source"] for line in lines if line.get("price")), None),
    )


def expenses_of(cell: Cell, lines: Sequence[Json], terms: Terms) -> Expenses:
    """In every unit that is known of it; seconds are of what ran on this machine, dollars those of providers' prices,
    of the machine's hours and of labels."""
    by_seed = {line["seed"]: line for line in lines}
    if set(cell.seeds) - by_seed.keys() or any("local" not in line for line in lines):
        return {}  # of an earlier version, which did not count
    told = [by_seed[seed] for seed in cell.seeds]
    found = _flops(cell, told) | _dollars(cell, told, terms)
    if all(line["local"] for line in told):
        found[SECONDS] = Expense(_of(told, "learn_seconds"), cell.columns["seconds"])
    return found


def _flops(cell: Cell, told: Sequence[Json]) -> dict[str, Expense]:
    """None of what asks no model; not known of a model whose weights are elsewhere."""
    column = cell.columns
    n = column["input_tokens"] + column["output_tokens"]
    silent = (
        not n.any()
        and not column["calls"].any()
        and not _of(told, "learn_tokens").any()
        and not _of(told, "tokens").any()
    )
    if not silent and not all(line.get("parameters") for line in told):
        return {}
    shapes = [Shape(line.get("parameters") or 0, line.get("layers") or 0, line.get("width") or 0) for line in told]
    once = np.array(
        [
            shape.training(
                line["tokens"], line["attended"] / 2, line.get("differentiated") or line.get("trained_parameters")
            )
            + shape.answering(line.get("read_tokens", 0), line.get("read_attended", 0) / 2)
            + shape.answering(line.get("learn_tokens", 0))
            for shape, line in zip(shapes, told, strict=True)
        ]
    )
    calls, kept = np.maximum(column["calls"], 1), column["reused_tokens"]
    attended = n**2 / calls / 2
    rows = [(shape, n[i], attended[i], kept[i], calls[i]) for i, shape in enumerate(shapes)]
    full = np.array([shape.answering(tokens, seen) for shape, tokens, seen, _, _ in rows])
    saved = np.array([shape.answering(k, k**2 / c / 2) for shape, _, _, k, c in rows])
    first = np.array([shape.answering(k.max(), k.max() ** 2 / 2) for shape, _, _, k, _ in rows])
    return {FLOPS: Expense(once, full), FLOPS_KEPT: Expense(once + first, full - saved)}


def _dollars(cell: Cell, told: Sequence[Json], terms: Terms) -> dict[str, Expense]:
    column = cell.columns
    labels = cell.labels * (terms.usd_per_label or 0.0)
    if all(line["local"] for line in told):
        if terms.usd_per_hour is None:
            return {}
        rate = terms.usd_per_hour / 3600
        return {USD: Expense(labels + rate * _of(told, "learn_seconds"), rate * column["seconds"])}
    paid = column["cost_usd"]
    asked = column["input_tokens"] + column["output_tokens"] > 0
    if np.isnan(paid[asked]).any() or not asked.any():
        return {}
    query = np.where(asked, paid, 0.0)
    a_token = query.sum() / (column["input_tokens"] + column["output_tokens"]).sum()
    once = labels + a_token * _of(told, "learn_tokens")  # a search's tokens at what those of its answers cost
    found = {USD: Expense(once, query)}
    if price := next((line["price"] for line in told if line.get("price")), None):
        mean = int(column["input_tokens"].mean())
        less = (at(_tiers(price["input"]), mean) - at(_tiers(price["cached"]), mean)) / 1e6
        again = np.maximum(column["reused_tokens"] - column["cached_tokens"], 0)
        found[USD_KEPT] = Expense(once, np.maximum(query - less * again, 0.0))
    return found


def _tiers(told: Any) -> tuple[tuple[int, float], ...]:
    return tuple((int(start), float(usd)) for start, usd in told)


def _of(told: Sequence[Json], name: str) -> Floats:
    return np.array([line.get(name) or 0 for line in told], dtype=np.float64)


def _mean(lines: Sequence[Json], name: str) -> float | None:
    there = [line[name] for line in lines if line.get(name) is not None]
    return float(np.mean(there)) if there else None
