"""Backends around backends: what they do is done for every model, and no strategy knows.

`stack.stacked`, through `model(…)`, puts those that a call goes through into the one order that is right.
"""

from importlib import import_module
from typing import Any

_LATER = {  # imported when first used: most programs need few of them
    "BatchJobs": "batch_jobs",
    "Budget": "budget",
    "Budgeted": "budgeted",
    "Cached": "cached",
    "Emulating": "emulating",
    "LeaderFirst": "leader_first",
    "RateLimited": "rate_limited",
    "Record": "record",
    "Recorded": "recorded",
    "Retrying": "retrying",
    "Spanned": "spanned",
    "Traced": "traced",
    "Wrapper": "wrapper",
}
__all__ = list(_LATER)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
