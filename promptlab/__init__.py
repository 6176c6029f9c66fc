"""promptlab: for my task, should I prompt, reason, optimise the prompt, or fine-tune? Answered with evidence."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from promptlab.errors import ModelError
from promptlab.program import ask, attempt, call, gather, sample, score, traced
from promptlab.runners import arun, run
from promptlab.tool import Tool, tool
from promptlab.types import Answer, Example, Message, Reply, Request, Usage

if TYPE_CHECKING:
    from promptlab.backends import model
    from promptlab.backends.script import replay
    from promptlab.backends.wrappers.budget import Budget
    from promptlab.compare.runner import compare
    from promptlab.learners.finetuned import finetuned
    from promptlab.learners.in_context import in_context
    from promptlab.learners.optimized import optimized
    from promptlab.prompt import Prompt
    from promptlab.runners.mapping import amap
    from promptlab.runners.mapping import map as map
    from promptlab.task import Task

# Imported when first used: the rest of the library must not make `import promptlab` slow.
_LATER = {
    "Budget": "promptlab.backends.wrappers.budget",
    "Prompt": "promptlab.prompt",
    "Task": "promptlab.task",
    "amap": "promptlab.runners.mapping",
    "finetuned": "promptlab.learners",
    "in_context": "promptlab.learners",
    "map": "promptlab.runners.mapping",
    "model": "promptlab.backends",
    "optimized": "promptlab.learners",
    "replay": "promptlab.backends.script",
}

__all__ = [  # not `map`, as `import *` is not to hide the one of Python
    "Answer",
    "Budget",
    "Example",
    "Message",
    "ModelError",
    "Prompt",
    "Reply",
    "Request",
    "Task",
    "Tool",
    "Usage",
    "amap",
    "arun",
    "ask",
    "attempt",
    "call",
    "compare",
    "finetuned",
    "gather",
    "in_context",
    "model",
    "optimized",
    "replay",
    "run",
    "sample",
    "score",
    "tool",
    "traced",
]


def __getattr__(name: str) -> Any:
    if name == "compare":  # the package itself, which can be called: see there
        return import_module("promptlab.compare")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'promptlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *__all__})
