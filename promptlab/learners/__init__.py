"""Learners: in-context learning, fine-tuning and baselines as one kind of thing, and the arms made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from promptlab.errors import SetupError
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.finetuned import chats_of, finetuned
from promptlab.learners.in_context import in_context
from promptlab.learners.nli import zero_shot_nli
from promptlab.learners.optimized import optimized
from promptlab.learners.solver import Learner, Solver
from promptlab.runners import check_backend
from promptlab.strategies import chain_of_thought, self_consistency
from promptlab.types import Backend

__all__ = [
    "ARMS",
    "DEFAULT_ARMS",
    "Learner",
    "Solver",
    "arms_named",
    "chats_of",
    "default_arms",
    "finetuned",
    "in_context",
    "optimized",
    "zero_shot_nli",
]

# The arms of `promptlab compare --arms`: a name and how to make it of a base model.
ARMS: dict[str, Callable[[Backend], Learner]] = {
    "majority": lambda base: Majority(),
    "tfidf": lambda base: TfidfLogistic(),
    "few-shot": lambda base: in_context(base, "balanced"),
    "few-shot-random": lambda base: in_context(base, "random"),
    "few-shot-nearest": lambda base: in_context(base, "nearest"),
    "few-shot-bm25": lambda base: in_context(base, "bm25"),
    "few-shot-diverse": lambda base: in_context(base, "diverse"),
    "few-shot-dpp": lambda base: in_context(base, "dpp"),
    "few-shot-vote-k": lambda base: in_context(base, "vote-k"),
    "few-shot-calibrated": lambda base: in_context(base, "balanced", calibrated=True),
    "chain-of-thought": lambda base: in_context(base, strategy=chain_of_thought),
    "self-consistency": lambda base: in_context(base, strategy=self_consistency),
    "nli": zero_shot_nli,
    "head": lambda base: finetuned(base, "head"),
    "sft": lambda base: finetuned(base, "sft"),
    "lora": lambda base: finetuned(base, "lora"),
    "dpo": lambda base: finetuned(base, "dpo"),
}
DEFAULT_ARMS = ("majority", "tfidf", "few-shot", "few-shot-nearest", "few-shot-calibrated", "head", "sft")
NLI_ARMS = ("majority", "tfidf", "nli")  # for a base model that only tells what entails what


def arms_named(names: Iterable[str], base: Backend) -> dict[str, Learner]:
    """The arms of these names, in this order. Raises SetupError for one that there is not, or `base` cannot do."""
    chosen: dict[str, Learner] = {}
    for name in names:
        if name not in ARMS:
            near = get_close_matches(name, ARMS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SetupError(f"Unknown arm {name!r}.{hint} Known: {', '.join(ARMS)}.")
        try:
            chosen[name] = ARMS[name](base)
        except SetupError as error:
            raise SetupError(f"The arm {name}: {error} Leave it out, or take another model.") from error
    return chosen


def default_arms(base: Backend) -> tuple[dict[str, Learner], list[str]]:
    """The default arms that a model can do, and a line on those it cannot, if there are any."""
    check_backend(base, "A study")
    possible: dict[str, Learner] = {}
    why: dict[str, list[str]] = {}
    for name in NLI_ARMS if getattr(base, "entails", False) else DEFAULT_ARMS:
        try:
            possible[name] = ARMS[name](base)
        except SetupError as error:
            why.setdefault(str(error).rstrip("."), []).append(name)
    told = "; ".join(f"{', '.join(names)} ({said})" for said, names in why.items())
    return possible, [f"Left out, since the model cannot do them: {told}."] if why else []
