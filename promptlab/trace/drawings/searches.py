"""A tree search: every state with its value and what became of it, level by level, and the way to the answer."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from promptlab.trace.redacting import Redactor
from promptlab.types import Answer

Node = Mapping[str, Any]
MOST = 600  # states that are drawn
COLUMN, ROW, WIDTH, HEIGHT = 264, 27, 232, 21  # in pixels
LETTERS = 27  # of a state in its box

FATES = {
    "solved": "a solution",
    "kept": "gone on from",
    "open": "not gone on from yet",
    "passed over": "others were better",
    "pruned": "judged hopeless",
    "dead end": "cannot be a solution",
    "invalid": "against the rules",
}


class Place(NamedTuple):
    """Where a state is drawn: its left edge and its middle."""

    x: float
    y: float


def search_drawn(answer: Answer, redactor: Redactor) -> str:
    """The tree as SVG, with a key to it, and all states as a table below."""
    trace = answer.trace
    if not isinstance(trace, Mapping) or trace.get("kind") != "tree":
        return ""
    nodes, path = chosen(trace["nodes"], trace["path"]), set(trace["path"])
    shown = {node["id"]: redactor.text(str(node["state"])) for node in nodes}
    fates = Counter(node["fate"] for node in trace["nodes"][1:])
    key = "".join(
        f'<li><span class="fate {name.replace(" ", "-")}"></span>{FATES[name]}: {fates[name]:,}</li>'
        for name in FATES
        if fates[name]
    )
    settings = ", ".join(f"{name} {value}" for name, value in trace.items() if name not in NO_SETTINGS)
    left_out = len(trace["nodes"]) - len(nodes)
    limit = f'<p class="limit">{left_out:,} of {len(trace["nodes"]):,} states are not drawn.</p>' if left_out else ""
    about = escape(redactor.text(f"{trace['strategy']}; {settings}" if settings else str(trace["strategy"])))
    return "\n".join(
        [
            f"<h2>Search, {about}</h2>",
            f'<p class="note">It ended: {escape(redactor.text(str(trace["ended"])))}. A number is a state’s value, '
            "where it was judged, a dashed line another state that led to the same one, the strong line the way to the "
            "answer.</p>",
            f'<ul class="key">{key}</ul>{limit}',
            f'<div class="wide-table">{picture(nodes, path, shown)}</div>',
            table(nodes, path, shown, redactor),
        ]
    )


NO_SETTINGS = {"kind", "strategy", "ended", "nodes", "path"}


def chosen(nodes: Sequence[Node], path: Sequence[int]) -> list[Node]:
    """The states to draw: those on the way to the answer and those gone on from, then the others as they were met.

    The first parent of each comes with it, so that all hang together.
    """
    by_id = {node["id"]: node for node in nodes}
    first = [*path, *(node["id"] for node in nodes if node["order"] is not None), *by_id]
    ids: set[int] = set()
    for each in first:
        line = []
        while each not in ids:
            line.append(each)
            if not by_id[each]["parents"]:
                break
            each = by_id[each]["parents"][0]
        if len(ids) + len(line) > MOST:
            break
        ids |= set(line)
    return [node for node in nodes if node["id"] in ids]


def places(nodes: Sequence[Node]) -> dict[int, Place]:
    """A column a level; a state without children takes the next row, others stand in the middle of theirs."""
    children: dict[int, list[int]] = defaultdict(list)
    depth = {node["id"]: node["depth"] for node in nodes}
    for node in nodes:
        if node["parents"]:
            children[node["parents"][0]].append(node["id"])
    rows: dict[int, float] = {}
    waiting, free = [nodes[0]["id"]], 0
    while waiting:
        each = waiting[-1]
        missing = [child for child in children[each] if child not in rows]
        if missing:
            waiting += missing[::-1]
            continue
        waiting.pop()
        if children[each]:
            rows[each] = (rows[children[each][0]] + rows[children[each][-1]]) / 2
        else:
            rows[each], free = free, free + 1
    return {each: Place(depth[each] * COLUMN + 1, row * ROW + ROW / 2) for each, row in rows.items()}


def picture(nodes: Sequence[Node], path: set[int], shown: Mapping[int, str]) -> str:
    """The tree from left to right."""
    at = places(nodes)
    lines = [line(at, parent, node["id"], i, path) for node in nodes for i, parent in enumerate(node["parents"])]
    boxes = [box(node, at[node["id"]], node["id"] in path, shown[node["id"]]) for node in nodes]
    wide = max(place.x for place in at.values()) + WIDTH + 2
    high = max(place.y for place in at.values()) + ROW / 2
    size = f'width="{wide:.0f}" height="{high:.0f}" viewBox="0 0 {wide:.0f} {high:.0f}"'
    return f'<svg class="search" {size} role="img" aria-label="The tree">{"".join([*lines, *boxes])}</svg>'


def line(at: Mapping[int, Place], parent: int, child: int, i: int, path: set[int]) -> str:
    """From a state to one that it led to; dashed for all but the first that did."""
    if parent not in at:
        return ""
    x, y, to = at[parent].x + WIDTH, at[parent].y, at[child]
    middle = (x + to.x) / 2
    kind = "more" if i else "way" if {parent, child} <= path else "line"
    curve = f"M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to.y:.1f} {to.x:.1f} {to.y:.1f}"
    return f'<path class="{kind}" d="{curve}"/>'


def box(node: Node, at: Place, on_path: bool, state: str) -> str:
    """A state with its value; all that is known of it shows where the pointer rests."""
    label = textwrap.shorten(state, LETTERS, placeholder="…") or "…"
    value = "" if node["value"] is None else f"{node['value']:.3g}"
    told = "\n".join(filter(None, [state, f"{FATES.get(node['fate'], node['fate'])}", node["why"]]))
    kind = f"{node['fate'].replace(' ', '-')}{' path' if on_path else ''}"
    return (
        f'<g class="{escape(kind)}"><title>{escape(told)}</title>'
        f'<rect x="{at.x:.1f}" y="{at.y - HEIGHT / 2:.1f}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{at.x + 7:.1f}" y="{at.y + 4:.1f}">{escape(label)}</text>'
        f'<text class="value" x="{at.x + WIDTH - 7:.1f}" y="{at.y + 4:.1f}">{value}</text></g>'
    )


def table(nodes: Sequence[Node], path: set[int], shown: Mapping[int, str], redactor: Redactor) -> str:
    """The same in words, for those who cannot see it, and for what a box has no room for."""
    rows = []
    for node in nodes:
        value = "" if node["value"] is None else f"{node['value']:.3g}"
        cells = (node["depth"], value, FATES.get(node["fate"], node["fate"]), redactor.text(str(node["why"])))
        told = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        won = ' class="won"' if node["id"] in path else ""
        rows.append(f'<tr{won}><th scope="row"><pre>{escape(shown[node["id"]])}</pre></th>{told}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("State", "Step", "Value", "What became of it", "Why"))
    body = f"<table class='states'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<details><summary>All states, as they were met</summary><div class="wide-table">{body}</div></details>'
