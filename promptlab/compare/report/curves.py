"""The learning curves as an SVG drawing: accuracy by number of labels, with bands and direct labels.

The text stays text and the colours are the page's CSS variables, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.compare.comparisons import ANOTHER_MODEL, BASELINE, CONTROL, FAMILIES, FINE_TUNING, OUTSIDE, PROMPTING
from promptlab.compare.measures import Results
from promptlab.compare.points import Point
from promptlab.compare.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#a0a0a1", "#a0a0a2", "#a0a0a3", "#a0a0a4"  # stand-ins that become CSS variables
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"}
STYLES: dict[str, tuple[Any, str]] = {
    PROMPTING: ("-", "o"),
    FINE_TUNING: ((0, (6, 2.2)), "s"),
    BASELINE: ((0, (1.4, 1.8)), "^"),
}
STYLES |= {CONTROL: ((0, (1, 3)), "x"), ANOTHER_MODEL: ((0, (8, 2, 1.5, 2)), "D")}
COLOURS_A_FAMILY = 4
CHANCE, MOST_FREQUENT = "chance", "most frequent"


@dataclass(frozen=True, slots=True)
class Series:
    """One arm's line. `place` is its number within its family, which picks its colour."""

    name: str
    family: str
    place: int
    points: tuple[Point, ...]

    @property
    def colour(self) -> str:
        return f"#b{(*FAMILIES, *OUTSIDE).index(self.family)}b{self.place % COLOURS_A_FAMILY}b0"

    @property
    def variable(self) -> str:
        kind = "baseline" if self.family in OUTSIDE else self.family  # as quiet: they are no rivals
        return f"--{kind}-{self.place % COLOURS_A_FAMILY + 1}"


def all_series(results: Results) -> list[Series]:
    """The arms that have points, in the run's order."""
    series: list[Series] = []
    for arm in results.arms:
        place = sum(other.family == arm.family for other in series)
        if points := tuple(point for point in results.points if point.arm == arm.name):
            series.append(Series(arm.name, arm.family, place, points))
    return series


def learning_curves(results: Results, width: int = 920, height: int = 460) -> str:
    """An inline <svg> of `width` by `height` CSS pixels; the same bytes for the same results.

    Numbers of labels are set at equal distances. Hollow points are prompts that did not hold all demonstrations. An
    arm that needs no labels runs on as a thin line.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    small = width < 600
    settings: Any = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": f"promptlab {width}",  # ids that neither change nor clash between two drawings on a page
        "text.parse_math": False,  # an arm may be called "$5"
        "font.size": 12 if small else 13,
    }
    with rc_context(settings):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        letter = 6.2 if small else 6.9  # an average one, in pixels; a page's font is known only when it is read
        longest = max(len(arm.name) for arm in results.arms) + len("0.00  ")
        room = min(34 + letter * max(longest, 19), width * (0.42 if small else 0.34))
        left, bottom = 40, 44
        box = (left / width, bottom / height, (width - left - room) / width, (height - bottom - 14) / height)
        axes = figure.add_axes(box)
        series = all_series(results)
        _frame(axes, results)
        ends = [_draw(axes, one, results.budgets) for one in series] + _references(axes, results)
        _label(axes, ends, gap=17 if small else 18, letters=round((room - 34) / letter))
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(out.getvalue(), series)


@dataclass(frozen=True, slots=True)
class End:
    """Where a line ends, and what to write there."""

    x: float
    y: float
    text: str
    colour: str


def _frame(axes: Axes, results: Results) -> None:
    """Axes that show little more than the data: a light grid, no box."""
    bars = list(_bars(results).values())
    bottom = np.floor(max(0.0, min([*bars, *(p.accuracy.low for p in results.points)]) - 0.03) * 10) / 10
    top = np.ceil(min(1.0, max([*bars, *(p.accuracy.high for p in results.points)]) + 0.005) * 10) / 10
    axes.set_xlim(-0.25, max(len(results.budgets) - 1, 0) + 0.08)
    axes.set_ylim(bottom, max(top, bottom + 0.1))
    axes.set_xticks(range(len(results.budgets)), [f"{k:,}" for k in results.budgets])
    axes.set_yticks(np.arange(bottom, max(top, bottom + 0.1) + 0.01, 0.1))
    axes.yaxis.set_major_formatter("{x:.1f}")
    axes.set_xlabel("Labelled examples", color=MUTED, labelpad=8)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.tick_params(length=0, labelcolor=MUTED, pad=8)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw(axes: Axes, series: Series, budgets: Sequence[int]) -> End:
    style, marker = STYLES[series.family]
    xs = [budgets.index(point.labels) for point in series.points]
    ys = [point.accuracy.value for point in series.points]
    lows, highs = [p.accuracy.low for p in series.points], [p.accuracy.high for p in series.points]
    axes.fill_between(xs, lows, highs, color=series.colour, alpha=0.13, linewidth=0)
    axes.plot(xs, ys, color=series.colour, linestyle=style, linewidth=2.2, solid_capstyle="round")
    for x, y, low, high, point in zip(xs, ys, lows, highs, series.points, strict=True):
        if len(xs) == 1:
            axes.plot([x, x], [low, high], color=series.colour, linewidth=1.6)
        face = PAPER if point.left_out else series.colour
        axes.plot([x], [y], marker, color=series.colour, markerfacecolor=face, markersize=7, markeredgewidth=1.8)
    last = len(budgets) - 1
    if xs[-1] == 0 < last:
        axes.plot([0, last], [ys[-1]] * 2, color=series.colour, linewidth=0.9)
        return End(last, ys[-1], f"{number(ys[-1])}  {series.name}", series.colour)
    return End(xs[-1], ys[-1], f"{number(ys[-1])}  {series.name}", series.colour)


def _bars(results: Results) -> dict[str, float]:
    """What is reached without a model: by chance among classes, and by the most frequent answer if any comes twice."""
    chance = {} if results.chance is None else {CHANCE: results.chance}
    return chance | ({MOST_FREQUENT: results.majority} if results.majority * results.n_items > 1.5 else {})


def _references(axes: Axes, results: Results) -> list[End]:
    """Chance, and the most frequent answer unless an arm already gives it."""
    constant = {round(p.accuracy.value, 9) for p in results.points if p.family == BASELINE}
    bars = _bars(results).items()
    lines = {f"{number(y)}  {name}": y for name, y in bars if name == CHANCE or round(y, 9) not in constant}
    last = len(results.budgets) - 1
    for y in lines.values():
        axes.plot([-0.25, last], [y, y], color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
    return [End(last, y, text, MUTED) for text, y in lines.items()]


def _label(axes: Axes, ends: Sequence[End], gap: float, letters: int) -> None:
    """Write each line's name at its end, at most `letters` long, moved as little as keeps them `gap` pixels apart."""
    axes.figure.canvas.draw()
    ordered = sorted(ends, key=lambda end: end.y)
    starts = [tuple(map(float, axes.transData.transform((end.x, end.y)))) for end in ordered]
    right, pixels = float(axes.bbox.x1), "figure pixels"
    for end, (x, wanted), y in zip(ordered, starts, spread([y for _, y in starts], gap), strict=True):
        if right - x < 60:  # a line that ends early keeps no leader across the plot
            leader = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (right + 16, y), (x + 6, wanted), pixels, pixels, arrowprops=leader)
        axes.annotate(
            _short(end.text, letters), (right + 20, y), xycoords=pixels, va="center_baseline", color=end.colour
        )


def _short(text: str, letters: int) -> str:
    """The text, without its middle where it is too long: names often differ at their end."""
    half = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[: letters - 1 - half]}…{text[-half:]}"


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The positions nearest to the wanted ones (ascending) that are at least `gap` apart.

    With gap x rank taken off this is isotonic regression, so neighbours that clash are pooled (PAV, Ayer et al. 1955).
    """
    pools: list[tuple[float, int]] = []  # mean, size
    for rank, y in enumerate(wanted):
        mean, size = y - gap * rank, 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, size = (mean * size + other * n) / (size + n), size + n
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [y + gap * rank for rank, y in enumerate(flat)]


def _inline(svg: str, series: Sequence[Series]) -> str:
    """The drawing without what only a file needs, in the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg aria-hidden="true" \1', svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]+", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for stand_in, variable in VARIABLES.items() | {(one.colour, one.variable) for one in series}:
        svg = svg.replace(stand_in, f"var({variable})")
    return svg.strip()
