"""Rows with intervals: shares of right answers, and paired differences of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import row

from promptlab import Answer, ModelError
from promptlab.compare.hypotheses import sign_flips
from promptlab.compare.statistics import paired_difference, resample, wilson

Rows = list[dict[str, Any]]


def share(name: str, right: Sequence[bool], target: float | None = None, note: str = "") -> dict[str, Any]:
    """A share of right answers with Wilson's interval."""
    p = sum(right) / len(right)
    low, high = wilson(p, len(right))
    return row(name, p, "accuracy", low=low, high=high, n=len(right), target=target, note=note)


def at_chance(found: dict[str, Any], chance: float) -> dict[str, Any]:
    """The same row, asked to hold chance in its interval."""
    return {**found, "target": chance, "ok": found["low"] <= chance <= found["high"], "note": "at chance"}


def difference(
    name: str, a: Sequence[bool], b: Sequence[bool], target: float | None = None, note: str = "", p: float | None = None
) -> dict[str, Any]:
    """Right answers of a less those of b on the same items: a paired bootstrap, and McNemar's exact p.

    With `p` the row holds only if McNemar's is below it too.
    """
    A, B = np.array([a], dtype=bool), np.array([b], dtype=bool)
    found = paired_difference(A, B, np.arange(len(a)), resample(len(a)))
    chance = sign_flips(A[0].astype(np.float64) - B[0])
    words = f"{sum(a) / len(a):.3f} against {sum(b) / len(b):.3f}, p = {chance:.1g}" + (f"; {note}" if note else "")
    made = row(name, found.value, "difference", low=found.low, high=found.high, n=len(a), target=target, note=words)
    return made if p is None else {**made, "ok": bool(made["ok"]) and chance < p}


def mean(name: str, values: Sequence[float], unit: str, target: float | None = None, note: str = "") -> dict[str, Any]:
    """A mean with its normal interval."""
    x = np.asarray(values, dtype=float)
    half = 1.96 * float(x.std(ddof=1)) / math.sqrt(len(x))
    m = float(x.mean())
    return row(name, m, unit, low=m - half, high=m + half, n=len(x), target=target, note=note)


def likeliest(labels: Sequence[str], scores: Sequence[float]) -> str:
    return labels[max(range(len(labels)), key=scores.__getitem__)]


def value(answer: Answer | ModelError) -> Any:
    """What was concluded; None where the request failed, a chat that outgrew the context for instance."""
    return None if isinstance(answer, ModelError) else answer.value
