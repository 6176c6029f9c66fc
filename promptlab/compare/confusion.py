"""What a table of two labellings says: agreement beyond chance, correlation, and each class's recall and F1.

The table counts items, rows by the one labelling (gold labels, a human), columns by the other (an arm, a judge).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptlab.compare.statistics import Floats
from promptlab.errors import DataError


def confusion(a: Sequence[int], b: Sequence[int], n_classes: int) -> Floats:
    """The table of two labellings of the same items with classes 0 to n - 1, (K, K). No answer has a class of its own.

    Raises DataError where there are no items, not as many of one as of the other, or a class outside the range.
    """
    one, other = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    if len(one) != len(other) or not len(one):
        raise DataError(f"Two labellings of the same items are of one length: there are {len(one)} and {len(other)}.")
    if min(one.min(), other.min()) < 0 or max(one.max(), other.max()) >= n_classes:
        raise DataError(f"Classes go from 0 to {n_classes - 1}. Give what is no answer a number of its own.")
    counts = np.bincount(one * n_classes + other, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.float64)


def kappas(tables: Floats) -> Floats:
    """Cohen's κ (1960, Educ. Psychol. Meas. 20:37) of each table, (..., K, K): (p_o − p_e) / (1 − p_e), the agreement
    beyond that of two labellings with these margins by chance.

    Not a number where there is nothing, or both give one and the same class throughout: chance alone would agree then.
    """
    observed, by_chance = agreements(tables)
    beyond = np.where(by_chance < 1 - 1e-12, 1 - by_chance, np.nan)
    found: Floats = (observed - by_chance) / beyond
    return found


def agreements(tables: Floats) -> tuple[Floats, Floats]:
    """The shares of each table's items on which both labellings agree, and would by chance: p_o and p_e."""
    n = tables.sum(axis=(-2, -1), keepdims=True)
    shares = tables / np.where(n > 0, n, np.nan)
    return np.trace(shares, axis1=-2, axis2=-1), (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)


def cohens_kappa(table: Floats) -> float | None:
    """That of one table; None where it is not defined. With its interval: `agreement.agreement`."""
    found = float(kappas(table))
    return None if np.isnan(found) else found


def matthews(table: Floats) -> float:
    """Matthews's correlation of the two, for any number of classes (Gorodkin 2004, Comput. Biol. Chem. 28:367).

    0 where one of them gives one class throughout.
    """
    n, rows, columns = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread = float((n**2 - rows @ rows) * (n**2 - columns @ columns))
    return float(n * np.trace(table) - rows @ columns) / spread**0.5 if spread > 0 else 0.0


def recalls(table: Floats) -> Floats:
    """The share of each class's items that the columns give to it, (K,); nan where a class has none."""
    support = table.sum(axis=1)
    return np.where(support > 0, np.diag(table) / np.maximum(support, 1), np.nan)


def f1s(table: Floats) -> Floats:
    """Each class's 2 tp / (2 tp + fp + fn), (K,); nan where it is neither asked for nor given."""
    claims = table.sum(axis=0) + table.sum(axis=1)
    return np.where(claims > 0, 2 * np.diag(table) / np.maximum(claims, 1), np.nan)
