"""The answers that the report's item browser shows, packed small enough to stand inside the page.

Texts are kept once, in a table that everything points into, so that some hundred items with their whole prompts fit.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.compare.cells import Cell, Items, Json, read_cells, read_lines

MOST_ITEMS = 300
MOST_BYTES = 2_600_000
LONGEST_TEXT = 4_000

Cells = Mapping[tuple[str, int, int], Mapping[int, Json]]  # (arm, labels, seed) -> place of the item -> row
Messages = Mapping[int, tuple[str, str]]


def browser_data(
    run_dir: Path,
    most_items: int = MOST_ITEMS,
    most_bytes: int = MOST_BYTES,
    rows: tuple[Items, Sequence[Cell]] | None = None,
) -> tuple[str, int, int]:
    """The browser's JSON, how many items are in it, and how many there are.

    Each cell's first seed only. Where not all items fit, they are taken at even distances through the test set, the
    same in every cell: what is shown is not picked by how an arm did. `rows` are those of the run, if read already.
    """
    items, read = rows or read_cells(run_dir)
    places = _evenly(range(len(items.ids)), most_items)
    cells = _first_seeds(run_dir, read, places)
    messages = _messages(run_dir, {i for found in cells.values() for row in found.values() for i in row["prompt"]})
    while True:
        text = escaped(_packed(cells, messages, places))
        size = len(text.encode())
        if size <= most_bytes or len(places) == 1:
            return text, len(places), len(items.ids)
        places = _evenly(places, min(len(places) - 1, int(len(places) * most_bytes / size * 0.97)))


def escaped(value: Any) -> str:
    """JSON that may stand in a <script> element: nothing in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair, as JSON escapes it
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _first_seeds(run_dir: Path, cells: Sequence[Cell], places: Sequence[int]) -> Cells:
    """The rows of each cell's first seed at these places, each read from where it starts."""
    found: dict[tuple[str, int, int], dict[int, Json]] = {}
    with (run_dir / "rows.jsonl").open("rb") as file:
        for cell in cells:
            assert cell.offsets is not None
            rows = found[cell.arm, cell.labels, cell.seeds[0]] = {}
            for place in places:
                file.seek(int(cell.offsets[0, place]))
                rows[place] = json.loads(file.readline())
    return found


def _evenly(places: Sequence[int], count: int) -> list[int]:
    """`count` of the places (at least one), at even distances."""
    count = min(len(places), max(count, 1))
    return [places[i * len(places) // count] for i in range(count)]


def _messages(run_dir: Path, wanted: set[int]) -> Messages:
    lines: Iterable[Json] = read_lines(run_dir / "messages.jsonl") if wanted else ()
    return {i: (line["role"], _cut(line["content"])) for i, line in enumerate(lines) if i in wanted}


def _cut(text: str) -> str:
    more = len(text) - LONGEST_TEXT
    return text if more <= 0 else f"{text[:LONGEST_TEXT]} [… {more:,} more characters, in messages.jsonl]"


class Numbering(dict[Hashable, int]):
    """Numbers what it is asked for in the order of asking; None is -1."""

    def __missing__(self, key: Hashable) -> int:
        self[key] = number = -1 if key is None else len(self) - (None in self)
        return number

    def listed(self) -> list[Any]:
        return [key for key in self if key is not None]


def _packed(cells: Cells, messages: Messages, places: Sequence[int]) -> Json:
    """The page's data. A row is [answer, right, why, generated text, its answer, its right, chat, last message,
    shots, left out]; a chat is the messages before the last, which most items of a cell share."""
    texts, turns, chats = Numbering(), Numbering(), Numbering()

    def packed(row: Json) -> list[int]:
        made = row["generated"] or {"text": None, "answer": None, "correct": False}
        *before, last = [turns[messages[i]] for i in row["prompt"]] or [-1]
        why = row["error"] or row["why"]
        said = [texts[row["answer"]], int(row["correct"]), texts[None if why is None else _cut(why)]]
        wrote = [texts[None if made["text"] is None else _cut(made["text"])], texts[made["answer"]]]
        asked = [chats[tuple(before)], last, row["shots"], row["left_out"]]
        return [*said, *wrote, int(made["correct"]), *asked]

    some = next(iter(cells.values()))
    items = [
        [some[place]["item"], texts[some[place]["target"]], some[place]["group"], texts[_asked(cells, messages, place)]]
        for place in places
    ]
    shown = [
        {"arm": arm, "labels": labels, "seed": seed, "rows": [packed(rows[place]) for place in places]}
        for (arm, labels, seed), rows in cells.items()
    ]
    said = [[role, texts[content]] for role, content in turns.listed()]
    return {
        "items": items,
        "places": list(places),
        "cells": shown,
        "turns": said,
        "chats": chats.listed(),
        "texts": texts.listed(),
    }


def _asked(cells: Cells, messages: Messages, place: int) -> str | None:
    """The item as some arm was asked it: the last turn of a prompt. None where no arm had a prompt."""
    prompts = (rows[place]["prompt"] for rows in cells.values())
    return next((messages[prompt[-1]][1] for prompt in prompts if prompt), None)
