"""A run folder of promptlab's own: rows.jsonl, a series for each arm and number of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptlab.compare.cells import Json, read_json, read_lines
from promptlab.compare.logs.shape import Keys, Sample, Source
from promptlab.errors import DataError


def is_run(path: Path) -> bool:
    return (path / "rows.jsonl").exists()


def read(path: Path, keys: Keys) -> Source:
    """Series are called "arm@labels". `correct` is the score; `writing` is the same arm's where it wrote freely."""
    run = read_json(path / "run.json") if (path / "run.json").exists() else {}
    if (kind := run.get("kind", "compare")) != "compare":
        raise DataError(f"{path} holds a run of `promptlab {kind}`, whose answers are no log of a study's.")
    said = {name: str(run.get(name) or "") for name in ("task", "model", "started")}
    return Source(path, "promptlab", _samples(path, keys.series), said["task"], said["model"], said["started"])


def _samples(path: Path, wanted: str) -> Iterator[Sample]:
    texts = _texts(path / "messages.jsonl")
    seen = set()
    for number, row in enumerate(read_lines(path / "rows.jsonl"), 1):
        series = f"{row['arm']}@{row['labels']}"
        if wanted and series != wanted and series in seen:
            continue
        seen.add(series)
        made = row.get("generated")
        scores = {"correct": float(row["correct"])} | ({} if made is None else {"writing": float(made["correct"])})
        yield Sample(
            item=row["item"],
            series=series,
            scores=scores,
            repeat=row["seed"],
            target=_as_text(row["target"]),
            answer=_as_text(row["answer"]),
            group=row["group"],
            cluster=row["cluster"],
            text=texts.get(row["prompt"][-1]) if row["prompt"] else None,
            why=row.get("error") or row.get("why"),
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            seconds=row["seconds"],
            place=f"line {number}",
        )


def _texts(path: Path) -> dict[int, str]:
    """What was said in each message; those of a user only, as an item's text is the last of these."""
    if not path.exists():
        return {}
    lines: Iterator[Json] = read_lines(path)
    return {number: line["content"] for number, line in enumerate(lines) if line["role"] == "user"}


def _as_text(value: Any) -> str | None:
    """Of a number too, which a task's targets may be."""
    return None if value is None else str(value)
