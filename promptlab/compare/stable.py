"""How a setting reads, the same in every process: by this a resumed run knows its study again."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType
from typing import Any

# "<package.Kind object at 0x7f…>" and "<function name at 0x7f…>": what follows the last dot or blank is kept.
ADDRESSED = re.compile(r"<(?:[\w-]+ )*(?:\w+\.)*(\S+?) (?:object )?at 0x[0-9a-fA-F]+>")


def stable(value: Any, inside: frozenset[int] = frozenset()) -> str:
    """What a value is, without addresses in memory and the module it was run from.

    Functions read with what they close over and their defaults, partial ones with what is filled in, models
    with the hash of their files and their seed, and anything else as it prints; an object that prints no more than its
    kind is told apart from others of that kind by its `seed` alone.
    """
    if id(value) in inside:  # a function that closes over itself
        return "itself"

    def each(*values: Any) -> str:
        return ", ".join(stable(v, inside | {id(value)}) for v in values)

    if isinstance(value, partial):
        filled = [f"{name}={each(given)}" for name, given in sorted(value.keywords.items())]
        return f"partial({', '.join([each(value.func, *value.args), *filled])})"
    if isinstance(value, FunctionType):
        held = (*closed_over(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        return f"{value.__qualname__}({each(*held)})"
    if isinstance(value, tuple | list):
        return f"[{each(*value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{each(k)}: {each(v)}" for k, v in value.items()) + "}"
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "generate") and isinstance(said := getattr(value, "identity", None), dict):
        return f"{type(value).__qualname__}({each(said)})"
    if hasattr(value, "generate") or hasattr(value, "sha256"):
        name = getattr(value, "sha256", None) or ADDRESSED.sub(r"\1", repr(value))
        return f"{type(value).__qualname__}({name}, seed={getattr(value, 'seed', None)!r})"
    if is_dataclass(value):
        return f"{type(value).__qualname__}({each(*(getattr(value, f.name) for f in fields(value)))})"
    if callable(value) and not getattr(value, "__qualname__", ""):  # a learner of one's own class
        settings = [f"{name}={each(v)}" for name, v in sorted(getattr(value, "__dict__", {}).items())]
        return f"{type(value).__qualname__}({', '.join(settings)})"
    return ADDRESSED.sub(r"\1", repr(value))


def closed_over(function: FunctionType) -> list[Any]:
    """The values of a function's closure; a variable that was never given one has none."""
    values = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):
            values.append(cell.cell_contents)
    return values
