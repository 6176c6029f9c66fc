"""ReAct with tools against answers without: facts that are in no weights, and products of three digits."""

from __future__ import annotations

from random import Random

from behaviours.figures import Rows, difference, value
from promptlab import run
from promptlab.backends.tiny import Tiny
from promptlab.program import Program
from promptlab.strategies import chain_of_thought, react, zero_shot
from promptlab.tiny.data.tools import Question, calculation, known
from promptlab.tools.calculator import calculator
from promptlab.types import Answer


def with_tools(question: Question) -> Program[Answer]:
    """ReAct over a calculator and the facts that this question is about."""
    facts = {
        action.removeprefix("lookup[").rstrip("]"): told for _, action, told in question.done if "lookup" in action
    }
    facts = {name: told for name, told in facts.items() if not told.startswith("no such entry")}

    def lookup(name: str) -> str:
        """What is known by a name."""
        near = ", ".join(each for each in facts if name and each.split()[0] == name.split()[0])
        return facts.get(name) or f"no such entry; there is {near or 'nothing of the kind'}"

    return react(question.text, [calculator, lookup], native=False, max_tokens=48)


def large_product(rng: Random) -> Question:
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    done = calculation(rng, f"{a} * {b}")
    return Question(f"What is {a} * {b}?", [done], done[2], ("calculator",))


def measure(tiny: Tiny, n: int) -> Rows:
    sets = {
        "lookup": [known(Random(f"organism/lookup/{i}")) for i in range(n)],
        "products of three digits by three": [large_product(Random(f"organism/large/{i}")) for i in range(n)],
    }
    rows = []
    for name, questions in sets.items():
        acting = run([with_tools(q) for q in questions], tiny)
        without = {
            "a direct answer": run([zero_shot(f"Question: {q.text}", max_tokens=48) for q in questions], tiny),
            "a chain of thought": run([chain_of_thought(q.text, max_tokens=160) for q in questions], tiny),
        }
        right = {
            way: [value(a) == q.answer for a, q in zip(answers, questions, strict=True)]
            for way, answers in without.items()
        }
        best = max(right, key=lambda way: sum(right[way]))
        acted = [value(a) == q.answer for a, q in zip(acting, questions, strict=True)]
        rows.append(difference(f"{name}: ReAct with tools - without", acted, right[best], 0.30, f"without: {best}"))
    return rows
