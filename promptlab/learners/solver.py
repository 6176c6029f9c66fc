"""What every learner is: labelled examples in, a solver out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from promptlab.errors import ModelError
from promptlab.program import Program
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Reply, Request

Family = Literal["prompting", "fine-tuning", "baseline"]


@dataclass(frozen=True)
class Solver:
    """A program for one input, and the backend it runs on.

    `trained_parameters` counts the numbers that learning changed (None: nothing was trained), `notes` are for the
    reader.
    """

    program: Callable[[str], Program[Answer]]
    backend: Backend
    trained_parameters: int | None = None
    notes: tuple[str, ...] = ()


class Learner(Protocol):
    """`(task, examples, seed) -> Solver`. A plain function is one.

    It may have `family`, `needs_labels` (True: cannot start from no examples), `draws_without_labels` (False: from no
    examples it makes the same solver whatever the seed, so one seed is enough) and `description`, for the report.
    """

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver: ...


class Silent:
    """The backend of programs that ask nothing."""

    batched = True

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [ModelError("this solver has no model to ask") for _ in requests]


def about(learner: Any, name: str) -> dict[str, Any]:
    """What a report says of a learner."""
    return {
        "name": name,
        "family": getattr(learner, "family", "prompting"),
        "needs_labels": bool(getattr(learner, "needs_labels", False)),
        "draws_without_labels": bool(getattr(learner, "draws_without_labels", True)),
        "description": getattr(learner, "description", ""),
    }
