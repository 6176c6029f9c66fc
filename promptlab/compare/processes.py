"""How many processes a study has at a time where nobody says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from promptlab.tiny.memory import installed

LIBRARIES = 4e8  # bytes that a process of a study holds besides its models
SHARE = 0.75  # of the memory installed, that a study may take


def at_a_time(arms: Iterable[Any]) -> int:
    """One a core, and no more than there is memory for, as each has the models of the arms for itself."""
    held = LIBRARIES + memory_of(arms)
    return 1 if held == float("inf") else int(max(1, min(cores(), SHARE * installed() // held)))


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_of(arms: Iterable[Any]) -> float:
    """What a process holds for them, in bytes: each model, and the largest copy that an arm trains."""
    parts = {id(part): part for arm in arms for part in parts_of(arm)}.values()
    held = [(hasattr(part, "generate"), float(getattr(part, "memory", 0.0))) for part in parts]
    trained = max((size for is_model, size in held if not is_model), default=0.0)
    return sum(size for is_model, size in held if is_model) + trained


def parts_of(learner: Any) -> Iterator[Any]:
    """A learner, and the models and learners that it is made of."""
    yield learner
    for field in fields(learner) if is_dataclass(learner) else ():
        part = getattr(learner, field.name, None)
        if hasattr(part, "generate"):
            yield part
        elif is_dataclass(part):
            yield from parts_of(part)
