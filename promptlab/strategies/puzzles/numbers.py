"""What Game of 24 and Countdown share: numbers left, a target, and steps that each make one number of two."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, NamedTuple

from promptlab.errors import SetupError
from promptlab.rules.arithmetic import Numbers, composed, read, told
from promptlab.strategies.search.task import Hooks
from promptlab.types import Answer


class State(NamedTuple):
    """Numbers left, what is to be reached, and the steps so far, as they were written."""

    left: Numbers
    target: Fraction
    steps: tuple[str, ...] = ()


class Arithmetic(Hooks):
    """A task of such states. States are the same where the same numbers are left, whatever steps led there."""

    def canonical_key(self, state: State) -> Numbers:
        return state.left

    def verify(self, state: State) -> bool | None:
        """One number that is left is the target or is not: nobody needs to be asked."""
        return state.left == (state.target,) if len(state.left) == 1 else None

    def answer(self, state: State) -> Answer:
        """The expression, composed of the steps: a model that is asked to write it loses some (5 of 74 in the log)."""
        if state.left != (state.target,):
            return Answer(None, why=f"what is left is {told(state.left)}, not {state.target}")
        steps = [step for line in state.steps if (step := read(line)) is not None]
        expression = composed(steps) if steps else str(state.target)
        return Answer(f"{expression} = {state.target}", text="\n".join(state.steps))

    def show(self, state: State) -> str:
        return state.steps[-1] if state.steps else told(state.left)


def proposed(state: State, text: str) -> list[State]:
    """The states that a reply lists, a step a line. Lines that are no step are no thought; whether one is right is
    for `validate` to say."""
    found: dict[State, None] = {}
    for line in text.splitlines():
        if (step := read(line)) is not None:
            said = f"{step.a} {step.sign} {step.b} = {step.result} (left: {told(step.left)})"
            found[State(step.left, state.target, (*state.steps, said))] = None
    return list(found)


def numbers_in(question: Any, most: int, what: str) -> list[Fraction]:
    """The numbers of a question: a text, or numbers. Raises SetupError for fewer than 2 and for more than `most`."""
    given = re.findall(r"\d+", question) if isinstance(question, str) else question
    found = [Fraction(each) for each in given]
    if not 2 <= len(found) <= most:
        raise SetupError(f"{what}; got {question!r}.")
    return found
