"""Tree of Thoughts on Countdown, the model being proposer and judge, against chains of thought at equal tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from behaviours.figures import Rows, difference, share
from promptlab import Answer, ask, gather, run, score
from promptlab.backends.tiny import Tiny
from promptlab.strategies import chain_of_thought, tree_of_thoughts
from promptlab.strategies.self_consistency import majority
from promptlab.tiny.data.search import ALL, CAN, Numbers, moves, puzzle, state
from promptlab.types import ModelError, Reply, Request

LONGEST = 128  # tokens: more than any reply that is taught
VALUES = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}  # as in the paper's code


class State(NamedTuple):
    """Numbers left, what is to be reached, and the steps so far."""

    left: Numbers
    target: int
    steps: tuple[str, ...] = ()


class Countdown:
    """The task as Tree of Thoughts needs it. A state is the same whatever steps led there, so those merge."""

    def __init__(self, steps: int, samples: int = 1):
        self.steps, self.samples = steps, samples

    def start(self, question: tuple[Numbers, int]) -> State:
        return State(*question)

    async def propose(self, s: State, **options: Any) -> list[State]:
        """The next steps that the model lists, those that break the rules left out."""
        asked = f"{state(s.left, s.target)}\n{ALL}"
        replies = await gather(
            ask(asked, temperature=1.0 if j else None, max_tokens=LONGEST, **options) for j in range(self.samples)
        )
        legal = dict(moves(s.left))
        said = dict.fromkeys(line.strip() for reply in replies for line in reply.text.splitlines())
        return [State(legal[step], s.target, (*s.steps, step)) for step in said if step in legal]

    async def value(self, s: State, **options: Any) -> float:
        """The mean of the paper's values under the model's probabilities of the three words.

        One number that is left is the target or is not: nobody needs to be asked.
        """
        if len(s.left) == 1:
            return VALUES["sure"] if s.left[0] == s.target else 0.0
        log_p = await score(f"{state(s.left, s.target)}\n{CAN}", list(VALUES))
        p = [math.exp(x) for x in log_p]
        return sum(value * each for value, each in zip(VALUES.values(), p, strict=True)) / sum(p)

    def answer(self, s: State) -> Answer:
        if s.left == (s.target,):
            return Answer(s.steps)
        return Answer(None, why=f"it ends in {s.left}, not in {s.target}")


def solves(text: str, numbers: Numbers, target: int) -> bool:
    """Whether a chain of thought goes by legal steps from the numbers to the target."""
    left = numbers
    for step in re.findall(r"[^.]*\)", text):
        legal = dict(moves(left))
        if step.strip() not in legal:
            return False
        left = legal[step.strip()]
    return left == (target,)


class Counting:
    """A backend that counts tokens: read and written, each prompt as often as it is asked."""

    batched = True
    scores = True

    def __init__(self, inner: Tiny):
        self.inner, self.tokens = inner, 0

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        replies = self.inner.generate(requests)
        for reply in replies:
            if isinstance(reply, Reply):
                self.tokens += reply.usage.input_tokens + reply.usage.output_tokens
        return replies


def chains(tiny: Tiny, puzzles: Sequence[tuple[Numbers, int]], n: int) -> dict[str, list[bool]]:
    """Greedy, the majority of n samples, and the first of n samples that keeps to the rules and reaches the target."""
    questions = [state(*each) for each in puzzles]
    greedy = run([chain_of_thought(q, max_tokens=LONGEST) for q in questions], tiny)
    drawn = run(
        [gather(chain_of_thought(q, temperature=0.7, max_tokens=LONGEST) for _ in range(n)) for q in questions], tiny
    )
    votes = [majority([a.but(value=a.trace) for a in several if a.trace]) for several in drawn]
    return {
        "greedy": [solves(a.trace or "", *each) for a, each in zip(greedy, puzzles, strict=True)],
        f"majority of {n}": [solves(a.value or "", *each) for a, each in zip(votes, puzzles, strict=True)],
        f"first of {n} that checks": [
            any(solves(a.trace or "", *each) for a in several) for several, each in zip(drawn, puzzles, strict=True)
        ],
    }


def one_chain_tokens(tiny: Tiny, puzzles: Sequence[tuple[Numbers, int]]) -> float:
    counting = Counting(tiny)
    run([chain_of_thought(state(*each), max_tokens=LONGEST) for each in puzzles], counting)
    return counting.tokens / len(puzzles)


def measure(tiny: Tiny, n: int) -> Rows:
    rows = []
    for size in (3, 4):
        puzzles = [puzzle(Random(f"organism/countdown/{size}/{i}"), size, kept=True) for i in range(n)]
        counting = Counting(tiny)
        found = run([tree_of_thoughts(each, Countdown(size - 1)) for each in puzzles], counting)
        tree = [answer.value is not None for answer in found]
        tokens = counting.tokens / n
        draws = max(1, round(tokens / one_chain_tokens(tiny, puzzles[:50])))
        by_chain = chains(tiny, puzzles, draws)
        rows.append(share(f"Countdown-{size}, tree of thoughts", tree, note=f"{tokens:.0f} tokens a puzzle"))
        rows += [share(f"Countdown-{size}, chain: {name}", right) for name, right in by_chain.items()]
        best = max(by_chain, key=lambda name: sum(by_chain[name]))
        note = f"against {best}, {draws} chains being as many tokens"
        rows.append(difference(f"Countdown-{size}, tree - best chain", tree, by_chain[best], 0.15, note))
    return rows
