"""What a study's arms cost, as tables that the page, Markdown and CSV share: each with the columns that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from promptlab.compare.cells import Json
from promptlab.compare.spending import FLOPS, FLOPS_KEPT, USD, USD_KEPT
from promptlab.compare.wording import share

Shown = str | None
Column = tuple[str, Callable[[Json, Json], Shown]]  # its head, and what it shows of a point and its spending


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class CostTable(NamedTuple):
    """Rows are (budget, arm, family, cells)."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[int, str, str, tuple[str, ...]], ...]


def seconds(x: float) -> str:
    return "0" if x == 0 else f"{x:.2f}" if x < 1 else f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def count(x: float) -> str:
    """A mean of counts: one decimal where it is not whole."""
    return f"{x:,.0f}" if abs(x - round(x)) < 0.05 else f"{x:,.1f}"


def large(x: float) -> str:
    """Two digits and a power of ten, as FLOPs and joules need."""
    if x == 0 or 0.01 <= x < 10_000:
        return f"{x:,.3g}"
    digits, power = f"{x:.1e}".split("e")
    return f"{digits} · 10{str(int(power)).translate(RAISED)}"


def usd(x: float) -> str:
    return "$0" if x == 0 else f"${x:,.2f}" if x >= 0.1 else f"${x:.2g}" if x >= 1e-4 else f"${large(x)}"


def _some(x: float | None, show: Callable[[float], str] = count) -> Shown:
    return show(x) if x else None


def _bill(unit: str, part: str, show: Callable[[float], str]) -> Callable[[Json, Json], Shown]:
    def found(point: Json, spent: Json) -> Shown:
        bill = spent["bills"].get(unit)
        return None if bill is None else show(bill[part])

    return found


def _joules(part: str) -> Callable[[Json, Json], Shown]:
    return lambda point, spent: None if spent["joules"] is None else large(spent["joules"][part])


ONCE: tuple[Column, ...] = (
    ("Seconds to learn", lambda p, s: seconds(p["learn_seconds"])),
    ("Trainings", lambda p, s: _some(s["trainings"])),
    ("Tokens trained on", lambda p, s: _some(s["trained_tokens"])),
    ("Trained parameters", lambda p, s: _some(p["trained_parameters"])),
    ("Calls to learn", lambda p, s: _some(p["learn_calls"])),
    ("Tokens to learn", lambda p, s: _some(p["learn_tokens"])),
    ("FLOPs", _bill(FLOPS, "once", large)),
    ("Dollars", _bill(USD, "once", usd)),
    ("Joules", _joules("once")),
    ("Peak memory, MB", lambda p, s: _some(s["peak_bytes"], lambda x: f"{x / 1e6:,.0f}")),
)
QUERY: tuple[Column, ...] = (
    ("Demonstrations (left out)", lambda p, s: _shots(p)),
    ("Calls", lambda p, s: count(s["calls"]) if s["read"] or s["written"] else None),
    ("Tokens in", lambda p, s: _some(s["read"])),
    ("of them a kept prompt saves", lambda p, s: _some(s["reused"])),
    ("Tokens out", lambda p, s: _some(s["written"])),
    ("Milliseconds", lambda p, s: seconds(p["ms_per_answer"])),
    ("Latency, s: half, 95 %", lambda p, s: None if s["latency"] is None else ", ".join(map(seconds, s["latency"]))),
    ("FLOPs", _bill(FLOPS, "query", large)),
    ("FLOPs, prompt kept", _bill(FLOPS_KEPT, "query", large)),
    ("Dollars", _bill(USD, "query", usd)),
    ("Dollars, prompt kept", _bill(USD_KEPT, "query", usd)),
    ("Joules", _joules("query")),
    ("Answers failed", lambda p, s: share(p["failed"])),
)


def _shots(point: Json) -> Shown:
    if not point["shots"] and not point["left_out"]:
        return None
    return count(point["shots"]) + (f" ({count(point['left_out'])})" if point["left_out"] else "")


def cost_tables(results: Json) -> Iterator[CostTable]:
    """Once, and with every query; what no arm has a value for is no column."""
    for title, columns in (("Once, before the first query", ONCE), ("With every query", QUERY)):
        rows = [[show(point, spent) for _, show in columns] for point, spent in pairs(results)]
        known = [i for i in range(len(columns)) if any(row[i] is not None for row in rows)]
        told = [tuple(row[i] or "–" for i in known) for row in rows]
        points = results["points"]
        yield CostTable(
            title,
            tuple(columns[i][0] for i in known),
            tuple((p["labels"], p["arm"], p["family"], row) for p, row in zip(points, told, strict=True)),
        )


def pairs(results: Json) -> Iterator[tuple[Json, Json]]:
    """Each point and what was spent on it."""
    spent = {(s["arm"], s["labels"]): s for s in results["spending"]}
    return ((point, spent[point["arm"], point["labels"]]) for point in results["points"])


PAYBACK_HEADS = ("Labels", "In", "Instead of", "use", "Once", "A query", "Pays from, queries", "interval", "P(never)")


def payback_rows(results: Json) -> Iterator[tuple[str, ...]]:
    """Break-even between the best prompt and the best fine-tuning, in each unit known of both."""
    for found in results["paybacks"]:
        show = usd if found["unit"].startswith("dollars") else large
        once, query = (f"{show(a)} → {show(b)}" for a, b in (found["once"], found["query"]))
        n = "never" if found["n"] is None else f"{found['n']:,.0f}"
        low, high = ("never" if found[end] is None else f"{found[end]:,.0f}" for end in ("low", "high"))
        names = (found["now"]["arm"], found["instead"]["arm"])
        yield (
            f"{found['budget']:,}",
            found["unit"],
            *names,
            once,
            query,
            n,
            f"[{low}, {high}]",
            f"{found['p_never']:.2f}",
        )
