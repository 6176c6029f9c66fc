"""Tree of Thoughts on Countdown, the model being proposer and judge, against chains of thought at equal tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from behaviours.figures import Rows, difference, share
from promptlab import gather, run
from promptlab.backends.tiny import Tiny
from promptlab.rules.countdown import Numbers, moves, state
from promptlab.strategies import chain_of_thought, tree_of_thoughts
from promptlab.strategies.puzzles import Countdown
from promptlab.strategies.self_consistency import majority
from promptlab.tiny.data.search import puzzle
from promptlab.types import ModelError, Reply, Request

LONGEST = 128  # tokens: more than any reply that is taught
BREADTH = 12  # states that go on: the judge sorts out few, so more than the paper's 5; chosen on other puzzles


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
        [
            gather(chain_of_thought(q, temperature=0.7, max_tokens=LONGEST, seed=i) for _ in range(n))
            for i, q in enumerate(questions)  # a seed of its own: else all would be drawn by the same few numbers
        ],
        tiny,
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
        found = run([tree_of_thoughts(each, Countdown(size - 1), BREADTH) for each in puzzles], counting)
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
