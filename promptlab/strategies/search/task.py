"""What a search has to know of a task, and what it may know besides."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import MethodType
from typing import Any, Protocol, TypeVar

from promptlab.equality import exactly
from promptlab.errors import ModelError
from promptlab.program import Program, attempt, gather
from promptlab.types import Answer

S = TypeVar("S")


class Search(Protocol[S]):
    """What a tree search has to know of a task. States are values: two that are equal are one.

    `propose` and `value` are programs, so they may ask a model, several times, or compute. A task may also have any of
    the methods of `Hooks`, whether or not it inherits from it.
    """

    steps: int

    def start(self, question: Any) -> S:
        """The state before any thought."""
        ...

    def propose(self, state: S, **options: Any) -> Program[Sequence[S]]:
        """The states one thought further, those that come first being preferred where values are equal."""
        ...

    def value(self, state: S, **options: Any) -> Program[float | None]:
        """How promising a state is; higher is better. None where nothing could be read, which is no value at all."""
        ...

    def answer(self, state: S) -> Answer:
        """What a last state says; value None, with the reason, if it is no solution."""
        ...


class Hooks:
    """What a task may know besides, here as it is for one that does not. `breadth`, too: how many states go on."""

    def validate(self, before: Any, after: Any) -> str | None:
        """Why the step from one state to the other breaks the task's rules; None where it does not."""
        return None

    def canonical_key(self, state: Any) -> Hashable:
        """What makes a state the same as another, which then is judged and followed once."""
        return exactly(state)

    def verify(self, state: Any) -> bool | None:
        """True for a solution, which ends the search; False for a state that cannot become one; None: not known.

        No model is asked about a state of which this is known.
        """
        return None

    async def judge(self, states: Sequence[Any], **options: Any) -> Sequence[float | ModelError | None]:
        """The values of states that were proposed together: each by itself, so that a failed one fails alone."""
        judging: Search[Any] = self  # type: ignore[assignment]  # it is bound to a task, which has a value
        return await gather(attempt(judging.value(state, **options)) for state in states)

    async def finalize(self, state: Any, **options: Any) -> Answer:
        """The answer of the state that the search ends in: composed from it. One that asks a model may do so here."""
        ending: Search[Any] = self  # type: ignore[assignment]
        return ending.answer(state)

    def show(self, state: Any) -> str:
        """A state as a person reads it, in a trace."""
        return str(state)


def hook(task: Any, name: str) -> Callable[..., Any]:
    """A task's own hook of that name, else the one of `Hooks`."""
    own: Callable[..., Any] | None = getattr(task, name, None)
    return own or MethodType(getattr(Hooks, name), task)
