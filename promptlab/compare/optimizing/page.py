"""One self-contained page for a run: the sentence, the evidence, what speaks against it, and how it was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from promptlab.compare.wording import number, p_shown, share
from promptlab.errors import SetupError
from promptlab.whole import whole

if TYPE_CHECKING:
    from jinja2 import Environment

Json = Mapping[str, Any]
MOST_SHOWN = 60  # candidates in the tree, beyond those on the way to the winner


def write_page(results: Json, folder: Path) -> Path:
    """Write report.html of a run's results, whole or not at all. It needs no network and no other file."""
    path = folder / "report.html"
    html = page(results)
    with whole(path) as out:
        out.write(html)
    return path


def holds_a_search(folder: Path) -> bool:
    """Whether a folder is that of a run of `promptlab optimize`."""
    with suppress(OSError, ValueError):
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return isinstance(run, dict) and run.get("kind") == "optimize"
    return False


def rewritten(folder: Path) -> Path:
    """The page again, of the results of a finished run. Raises SetupError where there are none."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        again = f"promptlab optimize --resume {folder}"
        raise SetupError(f"{folder} holds no finished run (no results.json). Finish it with: {again}") from error
    return write_page(results, folder)


def page(results: Json) -> str:
    """The page's HTML. All text that comes from the run is escaped."""
    from markupsafe import Markup

    template = environment().get_template("optimized.html.jinja")
    tree, hidden = lineage(results)
    return template.render(
        r=results,
        run=results["run"],
        tree=tree,
        hidden=hidden,
        wide=Markup(race_drawn(results["races"])),
        narrow=Markup(race_drawn(results["races"], 340, 170)),
        everything=json.dumps(results["run"], indent=2, ensure_ascii=False),
    )


def environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    own, shared = (PackageLoader(f"promptlab.compare.{room}", ".") for room in ("optimizing", "report"))
    found = Environment(
        loader=ChoiceLoader([own, shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "share": share, "p": p_shown, "count": lambda n: f"{n:,.0f}", "usd": usd_shown}
    found.filters |= {"usd_of_all": lambda usd: "for a price not known" if usd is None else usd_shown(usd)}
    return found


def usd_shown(usd: float | None) -> str:
    return "not known" if usd is None else "$0" if usd == 0 else f"${usd:,.4f}" if usd < 1 else f"${usd:,.2f}"


class Node(NamedTuple):
    """A candidate, and those that were first made from it."""

    candidate: Json
    children: list[Any]
    on_the_way: bool


def lineage(results: Json) -> tuple[list[Node], int]:
    """The candidates as trees, each under its first parent, and how many were left out: those that did worst, of
    many. All that lead to the winner, or the challenger, are there."""
    by_key = {each["key"]: each for each in results["candidates"]}
    way = ancestors(results["challenger"] or results["best"], by_key)
    ranked = sorted(by_key.values(), key=lambda each: -(each["mean"] if each["mean"] is not None else -1))
    kept = set(way)
    for each in ranked:
        if len(kept) >= MOST_SHOWN:
            break
        kept |= ancestors(each["key"], by_key)
    nodes = {key: Node(each, [], key in way) for key, each in by_key.items() if key in kept}
    roots: list[Node] = []
    for node in nodes.values():
        parent = next((nodes[key] for key in node.candidate["parents"] if key in nodes), None)
        (roots if parent is None or parent is node else parent.children).append(node)
    return roots, len(by_key) - len(nodes)


def ancestors(key: str, by_key: Mapping[str, Json]) -> set[str]:
    """A candidate and all that it comes from."""
    found: set[str] = set()
    todo = [key]
    while todo:
        at = todo.pop()
        if at in by_key and at not in found:
            found.add(at)
            todo += by_key[at]["parents"]
    return found


def race_drawn(races: list[Json], width: int = 640, height: int = 190) -> str:
    """The rounds of the races as they were run: best, middle and the seed's mean, by calls so far. "" for none."""
    if len(races) < 2:
        return ""
    left, bottom, most = 38, 24, max(int(each["calls"]) for each in races)
    least = min(int(each["calls"]) for each in races)
    if least == most:  # nobody had to be asked anything more
        return ""

    def x(calls: float) -> float:
        return left + (width - left - 8) * (calls - least) / (most - least)

    def y(mean: float) -> float:
        return 8 + (height - bottom - 8) * (1 - mean)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Scores in the races">']
    for tick in (0.0, 0.5, 1.0):
        parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" class="tick">{tick:.1f}</text>')
    for calls, anchor in ((least, "start"), (most, "end")):
        label = f"{calls:,} calls"
        parts.append(f'<text x="{x(calls):.1f}" y="{height - 6}" text-anchor="{anchor}" class="tick">{label}</text>')
    for name, ink, dash in (("best", "--prompting-1", "none"), ("middle", "--muted", "2 3"), ("seed", "--ink", "7 4")):
        points = [(x(each["calls"]), y(each[name])) for each in races if each[name] is not None]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="var({ink})" stroke-dasharray="{dash}"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="var({ink})"/>' for a, b in points]
    return "".join([*parts, "</svg>"])
