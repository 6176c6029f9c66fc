"""What every learner is: labelled examples in, a solver out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from promptlab.errors import ModelError, SetupError
from promptlab.program import Program
from promptlab.runners import check_backend
from promptlab.task import Task
from promptlab.types import Answer, Backend, Example, Reply, Request

# Arms of the first three are what a study compares and may recommend. A control says what the others' scores rest on,
# and an arm of another model does not share the base weights of the rest: both are shown beside them and never chosen.
Family = Literal["prompting", "fine-tuning", "baseline", "control", "another model"]
CHOOSES = (  # what is said of a learner that `classifies`, where there is nothing to choose among
    "chooses among labels, and the task has fewer than two: give its prompt an output that names them, "
    'Literal["yes", "no"] for instance, and targets of those words'
)


@dataclass(frozen=True)
class Solver:
    """A program for one input, and the backend it runs on.

    `trained_parameters` counts the numbers that learning changed (None: nothing was trained), `notes` are for the
    reader. `learn_calls` and `learn_tokens` are what learning asked of models before this solver was there, trials that
    came to nothing and requests that failed included.
    """

    program: Callable[[str], Program[Answer]]
    backend: Backend
    trained_parameters: int | None = None
    notes: tuple[str, ...] = ()
    learn_calls: int = 0
    learn_tokens: int = 0

    def __post_init__(self) -> None:
        check_backend(self.backend, "A solver")


class Learner(Protocol):
    """`(task, examples, seed) -> Solver`. A plain function is one.

    It may have `family`, `needs_labels` (True: cannot start from no examples), `classifies` (True: chooses among the
    labels of a Literal output, and takes no other task), `draws_without_labels` (False: from no examples it makes the
    same solver whatever the seed, so one seed is enough) and `description`, for the report.
    """

    def __call__(self, task: Task, examples: Sequence[Example], seed: int) -> Solver: ...


class Silent:
    """The backend of programs that ask nothing."""

    batched = True

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [ModelError("this solver has no model to ask") for _ in requests]


def about(learner: Any, name: str) -> dict[str, Any]:
    """What a report says of a learner. Raises SetupError for what is none."""
    if isinstance(learner, Backend) or not callable(learner):
        hint = "Pass in_context(model) or finetuned(model), or a function (task, examples, seed) -> Solver."
        raise SetupError(f"The arm {name!r} is a {type(learner).__name__}, not a learner. {hint}")
    family = getattr(learner, "family", "prompting")
    if family not in get_args(Family):
        raise SetupError(f"The arm {name!r} has the family {family!r}; known are {', '.join(get_args(Family))}.")
    return {
        "name": name,
        "family": family,
        "needs_labels": bool(getattr(learner, "needs_labels", False)),
        "draws_without_labels": bool(getattr(learner, "draws_without_labels", True)),
        "description": getattr(learner, "description", ""),
    }
