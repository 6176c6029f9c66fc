"""Questions that take several steps: answered directly where they are short, and by a chain of steps however long.

Direct answers are taught for two steps at most, so a longer question answered directly is one that nobody has shown
(Prystawski et al. 2023, arXiv 2304.03843): what a chain of thought adds (Wei et al. 2022, 2201.11903) can be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from promptlab.tiny.data.chat import STEP_BY_STEP, Chat, answers, distinct, nonsense

DIRECT_STEPS, CHAIN_STEPS = 2, 6  # the longest taught


class Problem(NamedTuple):
    """A question, one of its correct derivations, and its answer."""

    question: str
    steps: list[str]
    answer: str

    @property
    def worked(self) -> str:
        return " ".join([*self.steps, f"The answer is {self.answer}."])


CONTAINERS = (("jug", "litres"), ("box", "masks"), ("ward", "patients"), ("bag", "tablets"), ("bus", "people"))
GAINS = ("{n} more come", "add {n}", "{n} are put in", "then {n} arrive")
LOSSES = ("{n} leave", "take out {n}", "{n} are lost", "then {n} are used")


def derivation(rng: Random, start: int, changes: list[int]) -> list[str]:
    """One of several correct ones: in order, gains before losses, or all gains and all losses summed first."""
    way = rng.random()
    gains, losses = [c for c in changes if c > 0], [c for c in changes if c < 0]
    if way < 0.5 or not gains or not losses:
        order = changes
    elif way < 0.75:
        order = gains + losses
    else:
        lines, totals = [], []
        for group in (gains, losses):
            total = abs(group[0])
            for c in group[1:]:
                lines.append(f"{total} + {abs(c)} = {total + abs(c)}.")
                total += abs(c)
            totals.append(total)
        up = start + totals[0]
        return [*lines, f"{start} + {totals[0]} = {up}.", f"{up} - {totals[1]} = {up - totals[1]}."]
    lines, value = [], start
    for c in order:
        sign = "+" if c > 0 else "-"
        lines.append(f"{value} {sign} {abs(c)} = {value + c}.")
        value += c
    return lines


def word_problem(rng: Random, n_steps: int) -> Problem:
    """What a thing holds after `n_steps` changes, 0 to 99 all the way."""
    thing, unit = rng.choice(CONTAINERS)
    value = start = rng.randint(5, 30)
    said, changes = [f"A {thing} holds {start} {unit}."], []
    for _ in range(n_steps):
        n = rng.randint(1, 9)
        gain = value <= n or (value + n <= 60 and rng.random() < 0.5)
        changes.append(n if gain else -n)
        value += changes[-1]
        phrase = rng.choice(GAINS if gain else LOSSES).format(n=n)
        said.append(phrase[0].upper() + phrase[1:] + ".")
    question = " ".join([*said, f"How many {unit} now?"])
    return Problem(question, derivation(rng, start, changes), str(value))


PEOPLE, THINGS = ("boy", "girl", "nurse", "baker", "uncle"), ("stone", "cat", "box", "bag", "ice")


def swaps(rng: Random, n_steps: int) -> Problem:
    """Who has what after `n_steps` swaps: the state has to be kept, and no step can be left out.

    A step says what the two have that swap, and then the same crosswise; the last one what the person asked about has.
    So every word is the last one said beside another, or stands in the step crosswise: none is found by way of a third.
    """
    n = rng.choice((3, 3, 4))
    people, things = rng.sample(PEOPLE, n), rng.sample(THINGS, n)
    has = dict(zip(people, things, strict=True))
    said = [f"The {person} has the {thing}." for person, thing in has.items()]
    steps = []
    for _ in range(n_steps):
        one, other = rng.sample(people, 2)
        a, b = has[one], has[other]
        has[one], has[other] = b, a
        said.append(f"The {one} and the {other} swap.")
        steps.append(f"{one} {a}, {other} {b} > {one} {b}, {other} {a}.")
    asked = rng.choice(people)
    return Problem(" ".join([*said, f"What has the {asked}?"]), [*steps, f"{asked} {has[asked]}."], has[asked])


def hops(rng: Random, n_steps: int) -> Problem:
    """Where one gets to in `n_steps` from place to place, each leading to one other."""
    places = distinct(rng, lambda: nonsense(rng, rng.choice((1, 2))), rng.randint(n_steps + 2, 9))
    roads = list(zip(places, [*places[1:], rng.choice(places[:-1])], strict=True))
    start = rng.randrange(len(places) - n_steps)
    way = roads[start : start + n_steps]
    said = ", ".join(f"{one} > {other}" for one, other in rng.sample(roads, len(roads)))
    question = f"{said}. From {places[start]}, {n_steps} steps?"
    return Problem(question, [f"{one} > {other}." for one, other in way], way[-1][1])


def asked(problem: Problem, direct: bool) -> tuple[str, str]:
    """The turns of a problem, answered directly or step by step."""
    if direct:
        return problem.question, problem.answer
    return f"{problem.question}\n{STEP_BY_STEP}", problem.worked


def taught(rng: Random, kind: Callable[[Random, int], Problem]) -> Chat:
    def ask() -> tuple[str, str]:
        direct = rng.random() < 0.3
        return asked(kind(rng, rng.randint(1, DIRECT_STEPS if direct else CHAIN_STEPS)), direct)

    return answers(rng, ask)


def word_problems(rng: Random, room: int) -> Chat:
    return taught(rng, word_problem)


def swapping(rng: Random, room: int) -> Chat:
    return taught(rng, swaps)


def hopping(rng: Random, room: int) -> Chat:
    return taught(rng, hops)
