"""Countdown, in the words that the bundled model is taught."""

from __future__ import annotations

import math
from typing import Any

from promptlab.program import ask, gather, score
from promptlab.rules import countdown
from promptlab.rules.countdown import ALL, CAN, moves
from promptlab.strategies.puzzles.numbers import Arithmetic, State, numbers_in, proposed
from promptlab.strategies.search.judging import VERDICTS, mean_verdict

LONGEST = 128  # tokens: more than any reply that is taught


class Countdown(Arithmetic):
    """Some numbers, each used once, are to make a target, in whole numbers from 0 to 999.

    Prompt: the numbers left and the target, then "Possible next steps?" or "Can the target be reached? …", the very
    words of `promptlab.tiny.data.search`, with nothing before them. `proposals` replies propose, the first of them
    greedy. With `scored` a state's value is that of sure, likely and impossible (20, 1, 0.001) under the model's own
    probabilities of the three words; without, as for models that give none, the mean of `samples` replies.
    Differs from the paper: as Game24 does.
    """

    def __init__(self, steps: int = 5, proposals: int = 1, scored: bool = True, samples: int = 3) -> None:
        self.steps, self.proposals, self.scored, self.samples = steps, proposals, scored, samples

    def start(self, question: Any) -> State:
        """A question is "3 5 7 26", of which the last is the target, or (numbers, target)."""
        wanted = f"Countdown takes up to {self.steps + 1} numbers and, last, a target, as in 3 5 7 26"
        if not isinstance(question, str):
            question = (*question[0], question[1])
        *numbers, target = numbers_in(question, self.steps + 2, wanted)
        return State(tuple(sorted(numbers)), target)

    async def propose(self, state: State, **options: Any) -> list[State]:
        asked = f"{said(state)}\n{ALL}"
        replies = await gather(
            ask(asked, **{"max_tokens": LONGEST, **options, "temperature": 1.0 if j else None})
            for j in range(self.proposals)
        )
        return list(dict.fromkeys(each for reply in replies for each in proposed(state, reply.text)))

    def validate(self, before: State, after: State) -> str | None:
        legal = dict(moves(whole(before)))
        return None if after.steps[-1] in legal else "it is not a legal step"

    async def value(self, state: State, **options: Any) -> float | None:
        prompt = f"{said(state)}\n{CAN}"
        if not self.scored:
            return await mean_verdict(prompt, self.samples, **{"temperature": 1.0, "max_tokens": LONGEST, **options})
        p = [math.exp(log_p) for log_p in await score(prompt, list(VERDICTS))]
        return sum(value * each for value, each in zip(VERDICTS.values(), p, strict=True)) / sum(p)


def whole(state: State) -> countdown.Numbers:
    return tuple(int(number) for number in state.left)


def said(state: State) -> str:
    return countdown.state(whole(state), int(state.target))
