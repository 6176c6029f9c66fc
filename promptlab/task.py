"""A task: what is asked, the examples that may be learnt from, and those that are held back for the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from promptlab.errors import DataError, PromptlabError, SetupError, reason
from promptlab.prompt import Prompt, shown
from promptlab.types import Example


def exact(answer: Any, target: Any) -> float:
    """1 for the target itself, else 0; no answer (None) is 0."""
    return float(answer is not None and answer == target)


def scored(score: Callable[[Any, Any], Any], value: Any, target: Any) -> tuple[float, str]:
    """What a score gives an answer, and what it says beside that.

    Raises SetupError for no number from 0 to 1, and where the score raises anything but promptlab's own errors.
    """
    try:
        given = score(value, target)
    except PromptlabError:
        raise
    except Exception as error:  # whatever the user's own function raises
        hint = " Where there is no answer, it is None." if value is None else ""
        raise SetupError(f"The score raised {reason(error)} {_where(value, target)}.{hint}") from error
    number, feedback = given if isinstance(given, tuple) and len(given) == 2 else (given, "")
    if not (hasattr(number, "__float__") and 0 <= float(number) <= 1):
        wanted = "A score is a number from 0 to 1, or a pair of one and a text"
        raise SetupError(f"{wanted}; got {given!r} {_where(value, target)}.")
    return float(number), str(feedback)


def _where(value: Any, target: Any) -> str:
    return f"for the answer {value!r} where the target is {target!r}"


def in_text(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The examples, their inputs as text. Raises SetupError for an input that is neither that nor a mapping."""
    return tuple(e if isinstance(e.input, str) else replace(e, input=shown(e.input)) for e in examples)


@dataclass(frozen=True)
class Task:
    """Programs are handed the inputs of a task; its targets go to `score` alone.

    `train` is the pool that label budgets are drawn from, `test` is answered once, and `score(answer, target)` lies in
    [0, 1], or is a pair of that and a text for optimisers; a comparison counts 1 as right and all else as wrong. The
    answer is None where there is none. An input of fields becomes the text that a prompt shows of it, and so is known
    as that text wherever texts are compared, learnt from or written down.
    """

    name: str
    prompt: Prompt
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    score: Callable[[Any, Any], Any] = exact

    def __post_init__(self) -> None:
        for side in ("train", "test"):
            object.__setattr__(self, side, in_text(getattr(self, side)))
        if not self.test:
            raise DataError(f"Task {self.name!r} has no test examples, so nothing can be measured.")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.prompt.labels

    @classmethod
    def classification(
        cls, name: str, train: Sequence[Example], test: Sequence[Example], instruction: str = ""
    ) -> Task:
        """A task whose answers are the labels found in the data, in the order of their names; a label 1 is "1".

        Labels that occur in the test only are among them, so every prompt and every head has their names.
        """
        train, test = (tuple(replace(e, target=str(e.target)) for e in side) for side in (train, test))
        labels = tuple(sorted({e.target for e in (*train, *test)}))
        if len(labels) < 2:
            raise DataError(
                f"Task {name!r} has only the label {', '.join(labels)!r}; a classification needs two or more."
            )
        return cls(name, Prompt(instruction, Literal[labels]), train, test)
