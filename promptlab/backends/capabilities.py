"""The table of what each backend can do, made of what they declare: `can`, `scores` and `native_n`.

A class whose instances declare different things, by the API they ask, has them all in `apis`.
"""

from __future__ import annotations

from promptlab.backends import BACKENDS, load_attribute
from promptlab.options import OPTIONS, beyond_options

COLUMNS = (*OPTIONS, "n", "scores")


def table() -> list[tuple[str, frozenset[str]]]:
    """Every backend by name, or name and API where there are several, and what it can do."""
    rows: list[tuple[str, frozenset[str]]] = []
    for name, path in BACKENDS.items():
        made = load_attribute(path)
        apis: dict[str, frozenset[str]] = getattr(made, "apis", None) or {"": made.can | beyond_options(made)}
        rows += [(f"{name} ({api})" if api else name, can) for api, can in apis.items()]
    return rows


def as_markdown() -> str:
    """The table as the README has it."""
    lines = ["| " + " | ".join(("", *COLUMNS)) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, can in table():
        lines.append("| " + " | ".join((name, *("yes" if column in can else "–" for column in COLUMNS))) + " |")
    return "\n".join(lines)
