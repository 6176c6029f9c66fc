"""Search over partial solutions: propose next thoughts, judge them, keep the best, go on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar

from promptlab.program import Program, gather
from promptlab.types import Answer

S = TypeVar("S", bound=Hashable)


class Search(Protocol[S]):
    """What a tree search has to know of a task. States are values: two that are equal are one.

    `propose` and `value` are programs, so they may ask a model, several times, or compute.
    """

    steps: int

    def start(self, question: Any) -> S:
        """The state before any thought."""
        ...

    def propose(self, state: S, **options: Any) -> Program[list[S]]:
        """The states one thought further, those that break the task's rules left out."""
        ...

    def value(self, state: S, **options: Any) -> Program[float]:
        """How promising a state is; higher is better."""
        ...

    def answer(self, state: S) -> Answer:
        """What a last state says; value None, with the reason, if it is no solution."""
        ...


async def tree_of_thoughts(question: Any, task: Search[S], breadth: int = 5, **options: Any) -> Answer:
    """Yao et al. 2023 (arXiv 2305.10601), Algorithm 1: breadth-first search with greedy selection.

    Each of the task's `steps` is two waves of requests: all states of the frontier propose, then all proposed states
    are judged. The `breadth` best go on; ties keep the order in which they were proposed. The answer is that of the
    best last state that has one, else of the best, whose `why` tells what is wrong with it; `trace` holds the frontiers
    as (state, value).
    Differs from the paper's code: equal states of a step are judged once and kept once, and a task leaves out thoughts
    that break its rules (there, a tenth of all were invalid, and judged nevertheless).
    """
    frontier = [task.start(question)]
    trace: list[list[tuple[S, float]]] = []
    for _ in range(task.steps):
        proposed = await gather(task.propose(state, **options) for state in frontier)
        states = list(dict.fromkeys(chain.from_iterable(proposed)))
        values = await gather(task.value(state, **options) for state in states)
        kept = best(states, values, breadth)
        if not kept:
            why = f"no thought of step {len(trace) + 1} is within the rules"
            return Answer(None, why=why, trace=tuple(trace))
        trace.append(kept)
        frontier = [state for state, _ in kept]
    answers = [task.answer(state) for state in frontier]
    found = next((answer for answer in answers if answer.value is not None), answers[0])
    return found.but(trace=tuple(trace))


def best(states: Sequence[S], values: Sequence[float], breadth: int) -> list[tuple[S, float]]:
    """The states with the highest values, best first; ties in the order given."""
    return sorted(zip(states, values, strict=True), key=lambda pair: -pair[1])[:breadth]
