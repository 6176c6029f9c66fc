"""Game of 24, for models that were not taught it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from promptlab.program import sample
from promptlab.rules.arithmetic import fault, read, told
from promptlab.strategies.puzzles.numbers import Arithmetic, State, numbers_in, proposed
from promptlab.strategies.search.judging import mean_verdict
from promptlab.types import Message

PROPOSE = """\
Some numbers are left. A step takes two of them, joins them by +, -, * or /, and puts the result in their place.
Write the steps that are worth a try, up to twelve, one a line, each with the numbers that are left after it, in the
form of this example, and nothing else. Fractions stay fractions (8/3).

Numbers: 3 5 6 10
10 - 6 = 4 (left: 3 4 5)
3 * 10 = 30 (left: 5 6 30)
5 + 3 = 8 (left: 6 8 10)
10 / 5 = 2 (left: 2 3 6)
6 * 5 = 30 (left: 3 10 30)
6 - 3 = 3 (left: 3 5 10)
3 + 10 = 13 (left: 5 6 13)
6 / 3 = 2 (left: 2 5 10)"""

VALUE = """\
Can {target} be made from some numbers, using each exactly once with +, -, * and /? Try a few ways in short lines. Then
say what you conclude in a last line of one word: sure if you found a way, likely if the numbers are of the right size
for one, impossible if they are too small or too large or no way is left.

Numbers: 4 20
20 + 4 = 24
sure

Numbers: 11 12
11 + 12 = 23
11 * 12 = 132
12 - 11 = 1
impossible

Numbers: 5 7 8
5 + 7 + 8 = 20
(8 - 5) * 7 = 21
8 * 7 / 5 = 11.2
the numbers are of the right size
likely

Numbers: 1 1 3
(1 + 1) * 3 = 6
all results are too small
impossible"""


class Game24(Arithmetic):
    """Four numbers, each used once, are to make 24 (Yao et al. 2023, section 4.1).

    Prompt: what is asked and examples, the same in every request and first; then the numbers left. One reply proposes;
    `samples` replies judge, sure 20, likely 1, impossible 0.001, averaged over those that can be read.
    Differs from the paper: the words; steps are checked in exact fractions; single numbers are judged by arithmetic;
    the expression is composed, without a fourth round.
    """

    def __init__(self, samples: int = 3, temperature: float | None = 0.7, target: int = 24, steps: int = 3) -> None:
        self.steps, self.samples, self.temperature, self.target = steps, samples, temperature, target

    def start(self, question: Any) -> State:
        """A question is "4 9 10 13", or the numbers."""
        most = self.steps + 1
        numbers = numbers_in(question, most, f"Game of {self.target} takes 2 to {most} numbers, as in 4 9 10 13")
        return State(tuple(sorted(numbers)), Fraction(self.target))

    async def propose(self, state: State, **options: Any) -> list[State]:
        [reply] = await sample(asked(PROPOSE, state), 1, **self.sampling(options))
        return proposed(state, reply.text)

    def validate(self, before: State, after: State) -> str | None:
        step = read(after.steps[-1])
        return "it is no step" if step is None else fault(before.left, step)

    async def value(self, state: State, **options: Any) -> float | None:
        prompt = asked(VALUE.format(target=self.target), state)
        return await mean_verdict(prompt, self.samples, **self.sampling(options))

    def sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"temperature": self.temperature, **options}


def asked(told_first: str, state: State) -> list[Message]:
    """What never changes comes first, so that providers and engines read it once."""
    return [Message("system", told_first), Message("user", f"Numbers: {told(state.left)}")]
