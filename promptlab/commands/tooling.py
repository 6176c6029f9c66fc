"""Tools on the command line: by name, those that ship and functions of the user's own; and what was done with them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from promptlab.errors import SetupError
from promptlab.tool import Tool, as_tool
from promptlab.types import Message


def tools_for(names: Iterable[str]) -> list[Tool]:
    """Shipped tools ("calculator", "search:FOLDER"), and the functions or Tools that package.module:function names.

    Raises SetupError for what is neither.
    """
    return [tool for name in names for tool in _named(name)]


def _named(name: str) -> list[Tool]:
    shipped: Any = import_module("promptlab.tools")
    module, _, function = name.partition(":")
    if module in shipped.TOOLS or not function:
        return list(shipped.tools_named([name]))
    try:
        return [as_tool(getattr(import_module(module), function))]
    except (ImportError, AttributeError, ValueError) as error:
        raise SetupError(f"There is no tool {name}: {error}.") from error


def turns_of(trace: Any) -> Iterator[str]:
    """What was said and done in a chat after its question, a line each; nothing of a trace that is none."""
    chat = [turn for turn in trace if isinstance(turn, Message)] if isinstance(trace, tuple) else []
    first = next((i for i, turn in enumerate(chat) if turn.role == "assistant"), len(chat))
    for turn in chat[first:]:
        if turn.content:
            yield textwrap.shorten(turn.content, 500, placeholder=" …")
        for call in turn.calls:
            yield f"{call.name}({json.dumps(dict(call.arguments), ensure_ascii=False)})"
