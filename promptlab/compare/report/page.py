"""One self-contained page for a run: the decision, the evidence for it, its limits, and the answers themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.compare.cells import Cell, Items, read_cells, read_json
from promptlab.compare.comparisons import QUESTIONS, Difference
from promptlab.compare.decision import as_chance, decide
from promptlab.compare.measures import Results, measure
from promptlab.compare.methods import methods
from promptlab.compare.overtaking import ends
from promptlab.compare.report.browser import browser_data, escaped
from promptlab.compare.report.cost_tables import PAYBACK_HEADS, cost_tables, payback_rows
from promptlab.compare.report.curves import all_series, learning_curves
from promptlab.compare.report.packing import all_rows
from promptlab.compare.results import as_json, write_results
from promptlab.compare.spending import Terms
from promptlab.compare.wording import counted, labels, number, p_shown, plain, share, shown
from promptlab.whole import whole

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(run_dir: Path, draws: int = 2_000, margin: float = 0.02, terms: Terms | None = None) -> Path:
    """Write results.json and report.html into a run's directory, each whole or not at all; give the page's path.

    The page needs no network and no other file. `terms` None are those of the run. Raises DataError for a directory
    that holds no finished run.
    """
    rows = read_cells(run_dir, read_json(run_dir / "run.json").get("labels") or ())
    results = measure(run_dir, draws, margin, rows=rows, terms=terms)
    html, path = page(results, run_dir, rows), run_dir / "report.html"
    write_results(results, run_dir)
    with whole(path) as out:
        out.write(html)
    return path


def page(results: Results, run_dir: Path, rows: tuple[Items, Sequence[Cell]]) -> str:
    """The page's HTML. All text that comes from the run is escaped."""
    from markupsafe import Markup

    items, cells = rows
    data, n_shown, n_all = browser_data(run_dir, rows=rows)
    if n_shown < n_all or len(results.seeds) > 1:
        data = f'{data[:-1]},"all":{escaped(all_rows(run_dir, items, cells))}}}'
    run, told = results.run, as_json(results)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            results=results,
            run=run,
            decision=decide(results),
            methods=list(methods(results)),
            wide=Markup(learning_curves(results, 920, 470)),
            narrow=Markup(learning_curves(results, 350, 400)),
            series=all_series(results),
            questions=[(q, found) for q in QUESTIONS if (found := [d for d in results.differences if d.question == q])],
            reach=_reach(results.differences),
            costs=list(cost_tables(told)),
            payback_heads=PAYBACK_HEADS,
            paybacks=list(payback_rows(told)),
            data=Markup(data),
            start=json.dumps(_start(results)),
            n_shown=n_shown,
            n_all=n_all,
            everything=json.dumps(run, indent=2, ensure_ascii=False),
        )
    )


def _start(results: Results) -> dict[str, str | int]:
    """What the browser shows first: the best arm against the best of another family, at the most labels."""
    budget = results.budgets[-1]
    best = results.best_at(budget)
    families = sorted((name for name in best if name != "all"), key=lambda name: -best[name].accuracy.value)
    arms = [best[name].options[0].arm for name in families]
    return {"a": arms[0], "b": arms[1] if len(arms) > 1 else results.arms[-1].name, "labels": budget}


def _reach(differences: tuple[Difference, ...]) -> float:
    """Half the width of the axis that the differences are drawn on."""
    ends = [abs(x) for d in differences for x in (d.interval.low, d.interval.high)]
    return max([0.05, *ends]) * 1.05


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("promptlab.compare.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"shown": shown, "number": number, "labels": labels, "share": share, "chance": as_chance}
    found.filters |= {"counted": counted, "p": p_shown, "plain": _plain, "given": plain, "ends": ends}
    return found


def _plain(value: Any) -> str:
    """A value of run.json as a person would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
