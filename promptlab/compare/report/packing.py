"""Every row of a run, packed into its page: who was right in bits, the rest in chunks that are opened when looked at.

A million rows are some hundred kilobytes of bits and a few megabytes of chunks: the page filters all items by the bits
alone and unpacks only the chunks of the items that it shows. Prompts and whole texts stand in the files beside it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.compare.cells import Cell, Items, Json, read_lines

CHUNK = 1_000  # items
MOST_BYTES = 6_000_000  # of the chunks; where they are larger, items go without their text
LONGEST_TEXT = 300


def all_rows(run_dir: Path, items: Items, cells: Sequence[Cell]) -> Json:
    """What the page's script takes all rows from.

    An item of a chunk is [id, target, group, text]; its answers are a list for each cell and seed, in the order of
    `cells`, of places in the chunk's own `texts`, where null is no answer. `elsewhere` is whether there are texts of
    items that were left out.
    """
    texts = _texts(run_dir, items)
    chunks = list(_chunks(items, cells, texts))
    if len(texts) and sum(map(len, chunks)) > MOST_BYTES:
        chunks, texts = list(_chunks(items, cells, {})), {}
    told = [
        {"arm": cell.arm, "labels": cell.labels, "seed": seed, "right": _bits(right)}
        for cell in cells
        for seed, right in zip(cell.seeds, cell.correct, strict=True)
    ]
    elsewhere = not texts and items.asked is not None and bool((items.asked >= 0).any())
    return {"n": len(items.ids), "chunk": CHUNK, "cells": told, "chunks": chunks, "elsewhere": elsewhere}


def _texts(run_dir: Path, items: Items) -> Mapping[int, str]:
    """What asked for each item, by the message's number; none of them where even their beginnings are too many."""
    if items.asked is None or len(items.ids) * LONGEST_TEXT > 20 * MOST_BYTES:
        return {}
    wanted = set(items.asked[items.asked >= 0].tolist())
    lines: Iterator[Json] = read_lines(run_dir / "messages.jsonl") if wanted else iter(())
    return {i: _short(line["content"]) for i, line in enumerate(lines) if i in wanted}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} […]"


def _chunks(items: Items, cells: Sequence[Cell], texts: Mapping[int, str]) -> Iterator[str]:
    asked = items.asked if items.asked is not None else np.full(len(items.ids), -1)
    for start in range(0, len(items.ids), CHUNK):
        some = range(start, min(start + CHUNK, len(items.ids)))
        told = [(items.ids[i], items.labels[i], items.groups[i], texts.get(int(asked[i]))) for i in some]
        codes = np.concatenate([cell.columns["answer"][:, some.start : some.stop] for cell in cells]).astype(np.int64)
        known, numbers = np.unique(codes, return_inverse=True)
        said = [items.answer_text(int(code)) for code in known]
        answers = numbers.reshape(codes.shape)
        yield _deflated({"items": told, "texts": said, "answers": answers.tolist()})


def _bits(right: Any) -> str:
    """One bit an item, the first in the lowest."""
    return _packed(np.packbits(right, bitorder="little").tobytes())


def _deflated(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _packed(text.encode("utf-8", "backslashreplace"))


def _packed(raw: bytes) -> str:
    """As the browser's DecompressionStream("deflate") takes it (RFC 1950), in base64."""
    return base64.b64encode(zlib.compress(raw, 6)).decode()
