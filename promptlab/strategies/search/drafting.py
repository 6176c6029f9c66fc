"""A task for any question: draft plans, vote for one, draft answers by it, vote for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from promptlab.program import gather, sample
from promptlab.prompt import Prompt, shown
from promptlab.strategies.search.judging import numbered, votes
from promptlab.strategies.search.task import Hooks
from promptlab.types import Answer, Message

PLAN = "Write a short plan for answering what follows. Do not answer it yet."
VOTE = """\
Several choices are given for the task that follows. Look at each of them, then conclude in a last line:
"The best choice is s", where s is its number."""


class State(NamedTuple):
    """What is asked, and what was drafted for it: a plan, then an answer."""

    question: str | Mapping[str, str]
    drafts: tuple[str, ...] = ()


class Drafts(Hooks):
    """Thoughts that are sampled and voted on, as in the paper's creative writing (Yao et al. 2023, section 4.2).

    Prompt: "Write a short plan", then the question; in the second step `prompt` as it stands, the plan behind the
    question. `n` samples propose; `n_votes` votes decide, each saying "the best choice is s" in its last line; a
    state's value is how many it has. The answer is read from the last draft by `prompt`.
    One state goes on, as in the paper. Differs from it: the words; plan and text are two requests.
    """

    steps = 2
    breadth = 1

    def __init__(
        self, prompt: Prompt = Prompt(), n: int = 5, n_votes: int = 5, temperature: float | None = 1.0
    ) -> None:
        self.prompt, self.n, self.n_votes, self.temperature = prompt, n, n_votes, temperature

    def start(self, question: Any) -> State:
        return State(question)

    async def propose(self, state: State, **options: Any) -> list[State]:
        if state.drafts:
            *before, last = self.prompt.render(state.question)
            chat = [*before, Message("user", f"{last.content}\n\nPlan:\n{state.drafts[0]}")]
        else:
            chat = [Message("system", PLAN), Message("user", shown(state.question))]
        replies = await sample(chat, self.n, **self.sampling(options))
        return [State(state.question, (*state.drafts, reply.text.strip())) for reply in replies if reply.text.strip()]

    async def judge(self, states: Sequence[State], **options: Any) -> Sequence[float | None]:
        """Votes among those that were proposed together; a single one needs none."""
        if len(states) == 1:
            return [float(self.n_votes)]
        choices = numbered([state.drafts[-1] for state in states])
        asked = [Message("system", VOTE), Message("user", f"{shown(states[0].question)}\n\n{choices}")]
        [counted] = await gather([votes(asked, len(states), self.n_votes, **self.sampling(options))])
        return counted

    async def value(self, state: State, **options: Any) -> float | None:
        raise NotImplementedError("Drafts are judged together.")

    def answer(self, state: State) -> Answer:
        if len(state.drafts) < self.steps:
            return Answer(None, why="no answer was drafted")
        return self.prompt.parse(state.drafts[-1]).but(shots=len(self.prompt.shots))

    def show(self, state: State) -> str:
        return state.drafts[-1] if state.drafts else shown(state.question)

    def sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"temperature": self.temperature, **options}
