"""Reasoning strategies, one idea a file. A new one that needs no more than a question is also a row of this table."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from promptlab.options import takes
from promptlab.program import Program
from promptlab.strategies.chain_of_thought import chain_of_thought
from promptlab.strategies.entailment import entailed_label
from promptlab.strategies.few_shot import few_shot
from promptlab.strategies.likelihood import likeliest_label
from promptlab.strategies.react import react
from promptlab.strategies.self_consistency import self_consistency
from promptlab.strategies.structured import structured
from promptlab.strategies.tree_of_thoughts import tree_of_thoughts
from promptlab.strategies.zero_shot import zero_shot
from promptlab.types import Answer, Backend

__all__ = [
    "STRATEGIES",
    "chain_of_thought",
    "entailed_label",
    "few_shot",
    "likeliest_label",
    "react",
    "sampling_on",
    "self_consistency",
    "structured",
    "tree_of_thoughts",
    "zero_shot",
]

# The strategies of `promptlab ask --strategy`: `strategy(question, prompt=…, **options of ask)`.
STRATEGIES: dict[str, Callable[..., Program[Answer]]] = {
    "zero-shot": zero_shot,
    "chain-of-thought": chain_of_thought,
    "self-consistency": self_consistency,
    "tree-of-thoughts": tree_of_thoughts,
}


def sampling_on(backend: Backend, strategy: Callable[..., Any], seed: int) -> dict[str, Any]:
    """The options with which a strategy samples on a backend: the seed, where it takes one.

    Where it takes no temperature, a strategy that has one samples at the backend's own.
    """
    options: dict[str, Any] = {"seed": seed} if takes(backend, "seed") else {}
    if not takes(backend, "temperature") and {"temperature", "task"} & signature(strategy).parameters.keys():
        options["temperature"] = None
    return options
