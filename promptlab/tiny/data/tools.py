"""Questions answered by way of tools: thought, action, observation, and so on (Yao et al. 2022, arXiv 2210.03629).

What can be looked up is made up anew in every document, so it cannot be in the weights; the same questions without
tools are answered by saying so. Calls also fail, and are mended.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from promptlab.tiny.data.chat import Chat, assistant, distinct, nonsense, system, user

OBSERVATION = "Observation: "  # begins what the world answers, which is not to be foretold
UNKNOWN = "I do not know."
USE = {
    ("calculator", "lookup"): "Use tools: calculator[expression], lookup[name]. End with finish[answer].",
    ("calculator",): "Use tools: calculator[expression]. End with finish[answer].",
    ("lookup",): "Use tools: lookup[name]. End with finish[answer].",
}
FORMAT = 'Each time write "Thought: ..." and then "Action: tool[argument]".'
ATTRIBUTES = ("beds", "wells", "nurses", "schools", "cases", "people")


class Question(NamedTuple):
    """A question, what is done to answer it (thought, action, observation), the answer, the tools it takes."""

    text: str
    done: list[tuple[str, str, str]]
    answer: str
    tools: tuple[str, ...]


def act(thought: str, action: str) -> str:
    return f"Thought: {thought}\nAction: {action}"


def calculation(rng: Random, expression: str) -> tuple[str, str, str]:
    a, sign, b = expression.split()
    value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
    thought = rng.choice((f"I need {expression}.", f"I calculate {expression}.", "Now I calculate."))
    return thought, f"calculator[{expression}]", str(value)


def sum_of(rng: Random) -> Question:
    """Arithmetic on numbers of up to three digits."""
    a, b = rng.randint(2, 999), rng.randint(2, 999)
    sign, words = rng.choice((("+", "plus"), ("-", "minus"), ("*", "times"), ("*", "times"), ("*", "multiplied by")))
    a, b = (max(a, b), min(a, b)) if sign == "-" else (a, b)
    text = rng.choice((f"What is {a} {sign} {b}?", f"{a} {sign} {b} = ?", f"How much is {a} {words} {b}?"))
    done = calculation(rng, f"{a} {sign} {b}")
    return Question(text, [done], done[2], ("calculator",))


def place_name(rng: Random) -> str:
    return nonsense(rng, rng.choice((1, 2))).capitalize()


def fact(rng: Random, place: str, attribute: str) -> tuple[str, str, str]:
    thought = rng.choice((f"I look up the {attribute} of {place}.", f"I need the {attribute} of {place}."))
    return thought, f"lookup[{place} {attribute}]", str(rng.randint(2, 999))


def mistaken(rng: Random, done: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """A lookup that fails at first: what is there is told, and looked up then."""
    thought, action, value = done
    name = action.removeprefix("lookup[").removesuffix("]")
    place, attribute = name.split()
    wrong = f"lookup[{place}]"
    there = [*rng.sample([each for each in ATTRIBUTES if each != attribute], 2), attribute]
    told = "no such entry; there is " + ", ".join(f"{place} {each}" for each in rng.sample(there, 3))
    return [(thought, wrong, told), (f"I take {name}.", action, value)]


def known(rng: Random) -> Question:
    """One fact, or two of them added or compared, or one times a number."""
    attribute = rng.choice(ATTRIBUTES)
    one, other = distinct(rng, lambda: place_name(rng), 2)
    first = fact(rng, one, attribute)
    kind = rng.random()
    looked_up = mistaken(rng, first) if rng.random() < 0.15 else [first]
    if kind < 0.4:
        text = rng.choice((f"How many {attribute} has {one}?", f"Tell me the {attribute} of {one}."))
        return Question(text, looked_up, first[2], ("lookup",))
    if kind < 0.6:
        n = rng.randint(2, 99)
        found = calculation(rng, f"{first[2]} * {n}")
        return Question(f"What is {n} times the {attribute} of {one}?", [*looked_up, found], found[2], BOTH)
    second = fact(rng, other, attribute)
    if kind < 0.85:
        found = calculation(rng, f"{first[2]} + {second[2]}")
        text = f"How many {attribute} have {one} and {other} together?"
    else:
        high, low = sorted((int(first[2]), int(second[2])), reverse=True)
        found = calculation(rng, f"{high} - {low}")
        text = f"How far apart are {one} and {other} in {attribute}?"
    return Question(text, [*looked_up, second, found], found[2], BOTH)


BOTH = ("calculator", "lookup")


def with_tools(rng: Random, question: Question) -> Chat:
    """The whole exchange: the model's turns are its own, observations are the user's."""
    there = question.tools if rng.random() < 0.4 else BOTH
    use = f"{USE[there]} {FORMAT}" if rng.random() < 0.5 else USE[there]
    chat = [system(use), user(f"Question: {question.text}")]
    for thought, action, observed in question.done:
        chat += [assistant(act(thought, action)), user(OBSERVATION + observed)]
    thought = rng.choice(("I know the answer.", "That is the answer.", f"The answer is {question.answer}."))
    return [*chat, assistant(act(thought, f"finish[{question.answer}]"))]


def tool_use(rng: Random, room: int) -> Chat:
    question = rng.choice((sum_of, known, known))(rng)
    if rng.random() < 0.85:
        return with_tools(rng, question)
    small = len(question.answer) < 3 and question.tools == ("calculator",)
    return [user(f"Question: {question.text}"), assistant(question.answer if small else UNKNOWN)]
