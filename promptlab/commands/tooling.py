"""Tools on the command line, by name: those that ship, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from promptlab.errors import SetupError
from promptlab.tool import Tool, as_tool, named_apart


def tools_for(names: Iterable[str]) -> list[Tool]:
    """Shipped tools ("calculator", "search:FOLDER"), and the functions or Tools that package.module:function names.

    Of two with one name the second is called `search_2`. Raises SetupError for what is neither.
    """
    return named_apart((name, tool) for name in names for tool in _named(name))


def _named(name: str) -> list[Tool]:
    shipped: Any = import_module("promptlab.tools")
    module, _, function = name.partition(":")
    if module in shipped.TOOLS or not function:
        return list(shipped.tools_named([name]))
    try:
        return [as_tool(getattr(import_module(module), function))]
    except (ImportError, AttributeError, ValueError) as error:
        raise SetupError(f"There is no tool {name}: {error}.") from error
