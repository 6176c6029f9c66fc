"""Rows with their picture, and rows that hold a figure against the one stated."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from behaviours.figures import Rows
from harness import as_text, row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#2f6f9f", "#d1662b", "#3f8f5f", "#8a8a8a"


@dataclass(frozen=True, slots=True)
class Shown:
    """Rows and, where there is one, their picture."""

    rows: Rows
    figure: Figure | None = None

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        table = f"<pre>{escape(chr(10).join(map(as_text, self.rows)))}</pre>"
        if self.figure is None:
            return table
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=80)
        return f'{table}<img src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'


def stated(name: str, value: float, unit: str, figure: str, note: str = "") -> dict[str, Any]:
    """A figure as the lecture, or a sum by hand, states it: `ok` if the computed value rounds to it."""
    _, _, decimals = figure.partition(".")
    wanted = float(figure)
    words = f"must round to {figure}" + (f"; {note}" if note else "")
    ok = abs(value - wanted) <= 0.5 * 10 ** -len(decimals) + 1e-9
    return {**row(name, value, unit, target=wanted, note=words), "ok": ok}


def close(name: str, a: Any, b: Any, at_most: float = 1e-6, note: str = "") -> dict[str, Any]:
    """The greatest difference between two tensors that should be one."""
    return row(name, float((a - b).abs().max()), "difference", target=at_most, at_most=True, note=note)


def panels(*widths: float, height: float = 3.6) -> tuple[Figure, Sequence[Axes]]:
    """A figure of panels side by side, of these widths in inches."""
    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=9)
    return figure, list(axes)


def bars(axes: Axes, found: Rows, names: Sequence[str], colours: Sequence[str]) -> None:
    """Shares with their intervals, side by side."""
    for i, (each, colour) in enumerate(zip(found, colours, strict=True)):
        interval = [[each["value"] - each["low"]], [each["high"] - each["value"]]]
        axes.bar(i, each["value"], color=colour, width=0.6, yerr=interval, capsize=4)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="accuracy", ylim=(0, 1))


def smooth(values: Sequence[float], over: int = 5) -> list[float]:
    """Each value's mean with those shortly before it."""
    return [math.fsum(values[max(0, i - over + 1) : i + 1]) / min(i + 1, over) for i in range(len(values))]
