"""Reasoning strategies, one idea a file. A new one that needs no more than a question is also a row of this table."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from promptlab.options import takes
from promptlab.program import Program
from promptlab.strategies.acting.approval import Decision
from promptlab.strategies.acting.talk import Rules
from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.strategies.entailment import entailed_label
from promptlab.strategies.feedback import Feedback
from promptlab.strategies.few_shot import few_shot
from promptlab.strategies.least_to_most import least_to_most
from promptlab.strategies.likelihood import likeliest_label
from promptlab.strategies.plan_and_solve import plan_and_solve
from promptlab.strategies.program_of_thoughts import program_of_thoughts
from promptlab.strategies.react import react
from promptlab.strategies.reflexion import reflexion
from promptlab.strategies.search.best_first import best_first
from promptlab.strategies.search.depth_first import depth_first
from promptlab.strategies.search.monte_carlo import monte_carlo
from promptlab.strategies.self_consistency import self_consistency
from promptlab.strategies.self_refine import self_refine
from promptlab.strategies.semantic_consistency import semantic_consistency
from promptlab.strategies.structured import structured
from promptlab.strategies.tree_of_thoughts import tree_of_thoughts
from promptlab.strategies.universal_self_consistency import universal_self_consistency
from promptlab.strategies.zero_shot import zero_shot
from promptlab.strategies.zero_shot_cot import zero_shot_cot
from promptlab.types import Answer, Backend

__all__ = [
    "CONCLUDING",
    "SEARCHES",
    "STRATEGIES",
    "Decision",
    "Feedback",
    "Rules",
    "chain_of_thought",
    "entailed_label",
    "every",
    "few_shot",
    "least_to_most",
    "likeliest_label",
    "plan_and_solve",
    "program_of_thoughts",
    "react",
    "reflexion",
    "sampling_on",
    "self_consistency",
    "self_refine",
    "semantic_consistency",
    "structured",
    "tree_of_thoughts",
    "universal_self_consistency",
    "zero_shot",
    "zero_shot_cot",
]

# The strategies of `promptlab ask --strategy`: `strategy(question, prompt=…, **options of ask)`.
STRATEGIES: dict[str, Callable[..., Program[Answer]]] = {
    "zero-shot": zero_shot,
    "chain-of-thought": chain_of_thought,
    "zero-shot-cot": zero_shot_cot,
    "plan-and-solve": plan_and_solve,
    "least-to-most": least_to_most,
    "self-consistency": self_consistency,
    "universal-self-consistency": universal_self_consistency,
    "semantic-consistency": semantic_consistency,
    "self-refine": self_refine,
    "react": react,
    "tree-of-thoughts": tree_of_thoughts,
}
# Those that solve a task (`--task`), and nothing without one: `strategy(question, task, **options of ask)`.
SEARCHES: dict[str, Callable[..., Program[Answer]]] = {
    "depth-first": depth_first,
    "best-first": best_first,
    "monte-carlo": monte_carlo,
}


# Those whose replies end in "The answer is …", so that demonstrations should.
CONCLUDING = (chain_of_thought, least_to_most, self_consistency, universal_self_consistency)


def every() -> dict[str, Callable[..., Any]]:
    """All strategies by the name of their card: those of the table, and those that need more than a question."""
    named = {name.replace("_", "-"): globals()[name] for name in __all__ if name.islower()}
    others = {name: each for name, each in named.items() if each not in (every, sampling_on)}
    return {**STRATEGIES, **SEARCHES, **others}


def sampling_on(backend: Backend, strategy: Callable[..., Any], seed: int) -> dict[str, Any]:
    """The options with which a strategy samples on a backend: the seed, where it takes one.

    Where it takes no temperature, a strategy that has one samples at the backend's own.
    """
    options: dict[str, Any] = {"seed": seed} if takes(backend, "seed") else {}
    if not takes(backend, "temperature") and {"temperature", "task"} & signature(strategy).parameters.keys():
        options["temperature"] = None
    return options
