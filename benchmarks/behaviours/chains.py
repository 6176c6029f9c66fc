"""Chains of thought: what they add to direct answers, whether answers follow from them, and what a vote adds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from behaviours.figures import Rows, difference, share, value
from promptlab import ask, run
from promptlab.backends.tiny import Tiny
from promptlab.extraction import ANSWER_IS
from promptlab.program import Program
from promptlab.strategies import chain_of_thought, self_consistency, zero_shot
from promptlab.strategies.chain_of_thought import triggered
from promptlab.strategies.stopping import lossless
from promptlab.tiny.data.chat import assistant, user
from promptlab.tiny.data.multiplication import factors, product
from promptlab.tiny.data.reasoning import Problem, hops, swaps, word_problem
from promptlab.types import Answer, ModelError

LONGEST = 160  # tokens: more than any chain that is taught
SATURATED = 0.9  # of greedy chains right: a vote can add little


def unseen_product(rng: Random, n_steps: int) -> Problem:
    """A product that is never taught, of two digits by two: seven steps or so, however many are asked for."""
    return product(rng, *factors(rng, kept=True))


FAMILIES: dict[str, Callable[[Random, int], Problem]] = {
    "word problems": word_problem,
    "swaps": swaps,
    "hops": hops,
    "products": unseen_product,
}


def problems(name: str, steps: Sequence[int], n: int) -> list[Problem]:
    """n problems of a family, of these numbers of steps in turn."""
    return [FAMILIES[name](Random(f"organism/{name}/{i}"), steps[i % len(steps)]) for i in range(n)]


def right(tiny: Tiny, asked: Sequence[Problem], strategy: Callable[..., Program[Answer]]) -> list[bool]:
    # a seed of its own for each problem: else the samples of all would be drawn by the same few numbers
    answers = run([strategy(p.question, max_tokens=LONGEST, seed=i) for i, p in enumerate(asked)], tiny)
    return [value(a) == problem.answer for a, problem in zip(answers, asked, strict=True)]


# ---- do answers follow from chains?


def other_number(rng: Random, step: str, problem: Problem) -> str | None:
    """The result of a calculation, one to nine off."""
    found = re.match(r"(.* = )(\d+)\.$", step)
    return f"{found[1]}{int(found[2]) + rng.choice([d for d in range(-9, 10) if d])}." if found else None


def other_owner(rng: Random, step: str, problem: Problem) -> str | None:
    """The two of a swap keep what they had, one of them what is asked about: somebody else has it in the end."""
    before, _, after = step.rstrip(".").partition(" > ")
    return f"{before} > {before}." if after and problem.answer in before.replace(",", "").split(" ") else None


def other_place(rng: Random, step: str, problem: Problem) -> str | None:
    """Another of the places that roads lead to."""
    if " > " not in step:
        return None
    came, went = step.rstrip(".").split(" > ")
    roads = problem.question.split(". From")[0].split(", ")
    return f"{came} > {rng.choice([end for end in (r.split(' > ')[1] for r in roads) if end not in (went, came)])}."


CORRUPT = {"word problems": other_number, "swaps": other_owner, "hops": other_place, "products": other_number}


async def going_on(question: str, begun: str) -> str:
    """What the model answers when its chain of thought has begun so."""
    reply = await ask([user(triggered(question)), assistant(begun)], max_tokens=LONGEST)
    return begun + reply.text


def answer_in(text: str) -> str | None:
    found = list(ANSWER_IS.finditer(text))
    return text[found[-1].end() :].split("\n")[0].strip(" .") if found else None


def corrupted(tiny: Tiny, name: str, asked: Sequence[Problem]) -> list[bool]:
    """For chains that are right: whether the answer changes when one step of theirs, not the last, is made wrong."""
    chains = run([chain_of_thought(problem.question, max_tokens=LONGEST) for problem in asked], tiny)
    begun: list[tuple[Problem, str]] = []
    for i, (problem, chain) in enumerate(zip(asked, chains, strict=True)):
        if isinstance(chain, ModelError) or chain.value != problem.answer:
            continue
        rng = Random(f"organism/corrupt/{name}/{i}")
        steps = re.findall(r"[^.]+\.", chain.trace.rsplit("The answer is", 1)[0])
        steps = [step.strip() for step in steps if step.strip()]
        places = [(at, CORRUPT[name](rng, steps[at], problem)) for at in range(len(steps) - 1)]
        places = [(at, wrong) for at, wrong in places if wrong]
        if places:
            at, wrong = rng.choice(places)
            begun.append((problem, " ".join([*steps[:at], str(wrong)])))
    texts = run([going_on(problem.question, text) for problem, text in begun], tiny)
    return [answer_in(text) != problem.answer for text, (problem, _) in zip(texts, begun, strict=True)]


# ---- the figures


def reasoning(tiny: Tiny, n: int) -> Rows:
    rows = []
    for name in FAMILIES:
        asked = problems(name, (4, 5, 6), n)
        chain, direct = right(tiny, asked, chain_of_thought), right(tiny, asked, zero_shot)
        steps = "7 steps or so" if name == "products" else "4-6 steps"
        rows.append(difference(f"{name}, {steps}: chain of thought - direct", chain, direct, 0.30))
        changed = corrupted(tiny, name, asked)
        rows.append(share(f"{name}: a corrupted step changes the answer", changed, 0.80))
    return rows


def voting(tiny: Tiny, n: int) -> Rows:
    """Self-consistency against a greedy chain: on products never seen, and on the longest problems that are taught.

    Where the greedy chain is right nearly always there is nothing to be won, and no figure is asked for.
    """
    sets = {
        "products of two digits by two": problems("products", (7,), 3 * n),  # a few points decide
        "word problems of 6 steps": problems("word problems", (6,), n),
    }
    rows = []
    for name, asked in sets.items():
        voted: Any = partial(self_consistency, n=16, stop=lossless)  # elects as all 16 would
        vote, greedy = right(tiny, asked, voted), right(tiny, asked, chain_of_thought)
        target = 0.05 if sum(greedy) < SATURATED * len(greedy) else None
        rows.append(difference(f"{name}: self-consistency (16) - greedy", vote, greedy, target, p=0.01))
    return rows


def measure(tiny: Tiny, n: int) -> Rows:
    return [*reasoning(tiny, n), *voting(tiny, n)]
