"""Learners: in-context learning, fine-tuning and baselines as one kind of thing, and the arms made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from promptlab.errors import SetupError
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.finetuned import finetuned
from promptlab.learners.in_context import in_context
from promptlab.learners.solver import Learner, Solver
from promptlab.strategies import chain_of_thought, self_consistency
from promptlab.types import Backend

__all__ = ["ARMS", "DEFAULT_ARMS", "Learner", "Solver", "arms_named", "finetuned", "in_context"]

# The arms of `promptlab compare --arms`: a name and how to make it of a base model.
ARMS: dict[str, Callable[[Backend], Learner]] = {
    "majority": lambda base: Majority(),
    "tfidf": lambda base: TfidfLogistic(),
    "few-shot": lambda base: in_context(base, "balanced"),
    "few-shot-random": lambda base: in_context(base, "random"),
    "few-shot-nearest": lambda base: in_context(base, "nearest"),
    "few-shot-calibrated": lambda base: in_context(base, "balanced", calibrated=True),
    "chain-of-thought": lambda base: in_context(base, strategy=chain_of_thought),
    "self-consistency": lambda base: in_context(base, strategy=self_consistency),
    "head": lambda base: finetuned(base, "head"),
    "sft": lambda base: finetuned(base, "sft"),
}
DEFAULT_ARMS = ("majority", "tfidf", "few-shot", "few-shot-nearest", "few-shot-calibrated", "head", "sft")


def arms_named(names: Iterable[str], base: Backend) -> dict[str, Learner]:
    """The arms of these names, in this order."""
    chosen: dict[str, Learner] = {}
    for name in names:
        if name not in ARMS:
            near = get_close_matches(name, ARMS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SetupError(f"Unknown arm {name!r}.{hint} Known: {', '.join(ARMS)}.")
        chosen[name] = ARMS[name](base)
    return chosen
