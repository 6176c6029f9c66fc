"""An answer's value on its way: as JSON through a cell's file, to the score as it was, and as text into the rows."""

from __future__ import annotations

import json
from typing import Any


def carried(value: Any, output: Any) -> Any:
    """A value as a cell's file has it: text and numbers as they are, all else under what it is.

    `output` is what the task's prompt reads. Raises ValueError for what would not come back as it was.
    """
    value = number(value)
    if value is None or isinstance(value, str | int | float):
        return value
    kind = "list" if isinstance(value, list) else "dict" if isinstance(value, dict) else "output"
    try:
        dumps = getattr(value, "model_dump_json", None)
        told = {kind: json.loads(dumps(by_alias=True) if dumps else json.dumps(value, default=number))}
        if revived(told, output) == value:
            return told
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(
        f"an answer is text, a number, a list or dict of these, or what the task's prompt reads; got {value!r:.200}"
    )


def revived(told: Any, output: Any) -> Any:
    """The value that was carried: what a score is given."""
    if not isinstance(told, dict):
        return told
    [(kind, held)] = told.items()
    return output.model_validate_json(json.dumps(held)) if kind == "output" else held


def in_rows(told: Any) -> Any:
    """What was carried, as a row has it: text, or a number."""
    return json.dumps(*told.values(), ensure_ascii=False) if isinstance(told, dict) else told


def plain(value: Any) -> Any:
    """A target as a row has it: text, or a number."""
    value = number(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def number(value: Any) -> Any:
    """A number of NumPy's, a truth value too, as Python has it; all else as it is."""
    return value.item() if is_number_of_numpy(value) else value


def is_number_of_numpy(value: Any) -> bool:
    """Whether it is one, a truth value too: what classifiers give."""
    return getattr(value, "shape", None) == ()
