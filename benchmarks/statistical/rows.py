"""Rows whose target is a value, or a range, and not a bound."""

from __future__ import annotations

from typing import Any

from harness import row

Row = dict[str, Any]


def equal(name: str, value: float, expected: float, unit: str, n: int, within: float = 0.0, note: str = "") -> Row:
    """A figure that must be the expected one, give or take `within`."""
    made = row(name, value, unit, n=n, target=expected, note=note)
    return {**made, "ok": abs(value - expected) <= within}


def between(made: Row, low: float, high: float, said: str) -> Row:
    """A row whose figure must lie in a range; `said` tells which."""
    value = made["value"]
    return {**made, "ok": value is not None and low <= value <= high, "note": f"{said} [{low:,g}, {high:,g}]"}


def at_most(name: str, value: float, most: float, unit: str, n: int, note: str = "") -> Row:
    return row(name, value, unit, n=n, target=most, at_most=True, note=note)
