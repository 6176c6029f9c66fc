"""Where feedback on an answer comes from: declared, as it decides what a result shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from promptlab.errors import SetupError
from promptlab.program import Program, ask
from promptlab.types import Answer

Source = Literal["oracle", "self", "tests"]
FINE = "CORRECT"
JUDGE = (
    "Question: {question}\n\nProposed answer: {answer}\n\nCheck the answer step by step. It may be right or wrong. End "
    f"with a line that is only {FINE}, if nothing is wrong with it; else with a line that says what is wrong."
)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What judges an answer, and where it knows from.

    `judge(question, answer)` is a program: what is wrong, or None if nothing is. `source` says what that rests on: the
    gold label (oracle: a strategy that is told of its errors by it gets as many tries as it takes, and its score is no
    accuracy), the model itself, or tests that anybody could run.
    """

    source: Source
    judge: Callable[[str, Answer], Program[str | None]]

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise SetupError(f"The source of feedback is one of {', '.join(get_args(Source))}, got {self.source!r}.")


class Trial(NamedTuple):
    """An answer and what was said of it: None if nothing is wrong with it."""

    answer: Answer
    feedback: str | None


class Trials(NamedTuple):
    """How an answer came about that feedback was given on, in order."""

    source: Source
    trials: tuple[Trial, ...]


def by_itself(**options: Any) -> Feedback:
    """The model's own opinion, asked for with these options; where its last line is not CORRECT, it is all it says."""

    async def judge(question: str, answer: Answer) -> str | None:
        if answer.value is None:
            return f"There is no answer: {answer.why}."
        reply = await ask(JUDGE.format(question=question, answer=answer.text or answer.value), **options)
        said = reply.text.strip()
        last = said.splitlines()[-1] if said else ""
        return None if last.strip(" *_.`\"'").upper() == FINE else said or "The judge said nothing."

    return Feedback("self", judge)


def concluded(trials: list[Trial], source: Source) -> Answer:
    """The last answer, or the last that there is, with its trials; `why` where feedback still found fault with it."""
    *_, last = trials
    given = [trial for trial in trials if trial.answer.value is not None]
    answer = (given or [last])[-1].answer.but(trace=Trials(source, tuple(trials)))
    if last.feedback is None:
        return answer
    return answer.but(
        why=answer.why or f"after {len(trials)} tries something is still wrong with it, by {source} feedback"
    )
