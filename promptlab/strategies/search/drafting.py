"""A task for any question: draft plans, vote for one, draft answers by it, vote for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from promptlab.program import gather, sample
from promptlab.strategies.search.judging import numbered, votes
from promptlab.strategies.search.task import Hooks
from promptlab.types import Answer, Message

PLAN = "Write a short plan for answering what follows. Do not answer it yet."
ANSWER = "Answer what follows, by the plan that stands below it. Write the answer only."
VOTE = """\
Several choices are given for the task that follows. Look at each of them, then conclude in a last line:
"The best choice is s", where s is its number."""


class State(NamedTuple):
    """What is asked, and what was drafted for it: a plan, then an answer."""

    question: str
    drafts: tuple[str, ...] = ()


class Drafts(Hooks):
    """Thoughts that are sampled and voted on, as in the paper's creative writing (Yao et al. 2023, section 4.2).

    Prompt: what is wanted, first; then the question, with the plan behind it in the second step. `n` samples propose;
    `n_votes` votes decide, each naming "the best choice is s" in its last line; a state's value is how many it has.
    Use it with `breadth=1`, as the paper does. Differs from the paper: the words; plan and text are two requests.
    """

    steps = 2

    def __init__(self, n: int = 5, n_votes: int = 5, temperature: float | None = 1.0) -> None:
        self.n, self.n_votes, self.temperature = n, n_votes, temperature

    def start(self, question: Any) -> State:
        return State(str(question))

    async def propose(self, state: State, **options: Any) -> list[State]:
        wanted = ANSWER if state.drafts else PLAN
        shown = "\n\nPlan:\n".join([state.question, *state.drafts])
        replies = await sample([Message("system", wanted), Message("user", shown)], self.n, **self.sampling(options))
        return [State(state.question, (*state.drafts, reply.text.strip())) for reply in replies if reply.text.strip()]

    async def judge(self, states: Sequence[State], **options: Any) -> Sequence[float | None]:
        """Votes among those that were proposed together; a single one needs none."""
        if len(states) == 1:
            return [float(self.n_votes)]
        choices = numbered([state.drafts[-1] for state in states])
        asked = [Message("system", VOTE), Message("user", f"{states[0].question}\n\n{choices}")]
        [counted] = await gather([votes(asked, len(states), self.n_votes, **self.sampling(options))])
        return counted

    async def value(self, state: State, **options: Any) -> float | None:
        raise NotImplementedError("Drafts are judged together.")

    def answer(self, state: State) -> Answer:
        if len(state.drafts) < self.steps:
            return Answer(None, why="no answer was drafted")
        return Answer(state.drafts[-1], text=state.drafts[-1])

    def show(self, state: State) -> str:
        return state.drafts[-1] if state.drafts else state.question

    def sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"temperature": self.temperature, **options}
