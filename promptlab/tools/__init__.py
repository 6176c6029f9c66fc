"""Tools that ship with promptlab, one a file. A new one is a file and a row of this table; one of a user's own needs
neither, and is passed as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import NamedTuple

from promptlab.errors import SetupError
from promptlab.tool import Tool, as_tool, named_apart


class Row(NamedTuple):
    """Where a tool is, and what it is made of: that follows its name and a colon. With None it is one as it is."""

    path: str
    made_of: str | None = None
    needs: bool = False


TOOLS = {
    "calculator": Row("promptlab.tools.calculator:calculator"),
    "python": Row("promptlab.tools.python:python_importing", "PACKAGE,PACKAGE"),
    "search": Row("promptlab.tools.documents:search", "FOLDER", needs=True),
    "sql": Row("promptlab.tools.sql:sql", "FILE", needs=True),
    "files": Row("promptlab.tools.files:files", "FOLDER", needs=True),
    "fetch": Row("promptlab.tools.web:fetch", "HOST,HOST", needs=True),
}


def tools_named(specs: Iterable[str]) -> list[Tool]:
    """Tools by name: "calculator", "search:FOLDER", "sql:FILE", …

    The tool of a second folder is called `search_2`, and so on. Raises SetupError for what is no row of the table.
    """
    return named_apart((spec, each) for spec in specs for each in _named(spec))


def _named(spec: str) -> list[Tool]:
    name, _, given = spec.partition(":")
    if name not in TOOLS:
        raise SetupError(f"There is no tool {name!r}. Known: {', '.join(map(described, TOOLS))}.")
    row = TOOLS[name]
    if (row.needs and not given) or (given and row.made_of is None):
        raise SetupError(f"The tool {name} is named as {described(name)}, got {spec!r}.")
    module, _, attribute = row.path.partition(":")
    found = getattr(import_module(module), attribute)
    if row.made_of is None:
        return [as_tool(found)]
    made = found(given) if given else found()
    return made if isinstance(made, list) else [made]


def described(name: str) -> str:
    """How a tool is named, with what it is made of."""
    row = TOOLS[name]
    return name if row.made_of is None else f"{name}:{row.made_of}" if row.needs else f"{name}[:{row.made_of}]"
