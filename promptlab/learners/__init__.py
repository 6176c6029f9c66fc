"""Learners: in-context learning, fine-tuning and baselines as one kind of thing, and the arms made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from inspect import signature
from typing import Any

from promptlab.errors import SetupError
from promptlab.learners.baselines import Majority, TfidfLogistic
from promptlab.learners.controls import ShuffledLabels
from promptlab.learners.finetuned import chats_of, finetuned
from promptlab.learners.in_context import in_context
from promptlab.learners.nli import zero_shot_nli
from promptlab.learners.optimized import optimized
from promptlab.learners.other_model import OfAnotherModel
from promptlab.learners.rewarded import rewarded
from promptlab.learners.solver import Learner, Solver
from promptlab.learners.tuned_and_prompted import tuned_and_prompted
from promptlab.optimizers import OPTIMIZERS
from promptlab.optimizers.optimizer import check_value
from promptlab.runners import check_backend
from promptlab.strategies import chain_of_thought, react, self_consistency, tree_of_thoughts
from promptlab.types import Backend

__all__ = [
    "ARMS",
    "DEFAULT_ARMS",
    "Learner",
    "OfAnotherModel",
    "ShuffledLabels",
    "Solver",
    "arms_named",
    "arms_of_another_model",
    "chats_of",
    "default_arms",
    "finetuned",
    "in_context",
    "optimized",
    "rewarded",
    "tuned_and_prompted",
    "zero_shot_nli",
]


def searching(name: str, base: Backend, **options: Any) -> Learner:
    """The arm of an optimiser. Its options are those of the optimiser: `--arms ape:calls=500`."""
    learner = optimized(base, OPTIMIZERS[name], **options)
    parameters = signature(OPTIMIZERS[name]).parameters
    for option, value in options.items():
        check_value(option, value, parameters[option].default)
    return learner


# The arms of `promptlab compare --arms`: a name and how to make it of a base model, and of options where it has some.
ARMS: dict[str, Callable[..., Learner]] = {
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
    "tree-of-thoughts": lambda base: in_context(base, strategy=tree_of_thoughts),
    # a thought before an answer; tools of one's own: in_context(base, strategy=partial(react, tools=[…]))
    "react": lambda base: in_context(base, strategy=partial(react, native=False)),
    # "pool" chooses among instructions that one has: optimized(base, pool, instructions=[…])
    **{name: partial(searching, name) for name in OPTIMIZERS if name != "pool"},
    "nli": zero_shot_nli,
    "head": lambda base: finetuned(base, "head"),
    "sft": lambda base: finetuned(base, "sft"),
    "lora": lambda base: finetuned(base, "lora"),
    "dpo": lambda base: finetuned(base, "dpo"),
    "rlhf": rewarded,
    "sft+few-shot": lambda base: tuned_and_prompted(base, "sft"),
    "lora+few-shot": lambda base: tuned_and_prompted(base, "lora"),
    "few-shot-random-labels": lambda base: ShuffledLabels(in_context(base, "balanced")),
    "sft-shuffled-labels": lambda base: ShuffledLabels(finetuned(base, "sft")),
}
DEFAULT_ARMS = ("majority", "tfidf", "few-shot", "few-shot-nearest", "few-shot-calibrated", "head", "sft")
NLI_ARMS = ("majority", "tfidf", "nli")  # for a base model that only tells what entails what


def arms_named(names: Iterable[str], base: Backend) -> dict[str, Learner]:
    """The arms of these names, in this order; options of one follow its name: "ape:calls=500:alpha=0.1".

    Raises SetupError for one that there is not, or `base` cannot do.
    """
    chosen: dict[str, Learner] = {}
    for given in names:
        name, *options = given.split(":")
        if name not in ARMS:
            near = get_close_matches(name, ARMS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SetupError(f"Unknown arm {name!r}.{hint} Known: {', '.join(ARMS)}.")
        if options and name not in OPTIMIZERS:
            raise SetupError(f"The arm {name} has no options; those of optimisers do: ape:calls=500. Got {given!r}.")
        try:
            chosen[given] = ARMS[name](base, **dict(map(option, options)))
        except SetupError as error:
            raise SetupError(f"The arm {name}: {error} Leave it out, or take another model.") from error
    return chosen


def option(text: str) -> tuple[str, Any]:
    """ "calls=500" as a name and a value: a number, true, false, null, or else a text."""
    name, is_given, value = text.partition("=")
    if not (name and is_given):
        raise SetupError(f"an option is name=value, calls=500 for instance, got {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def arms_of_another_model(
    learners: Mapping[str, Learner], model: str, backend: Backend
) -> tuple[dict[str, Learner], list[str]]:
    """The prompting arms among `learners`, of another model: "few-shot@openai:NAME"; and a line on those left out."""
    names = [name for name, learner in learners.items() if getattr(learner, "family", "") == "prompting"]
    found: dict[str, Learner] = {}
    why: dict[str, list[str]] = {}
    for name in names:
        try:
            [of_it] = arms_named([name], backend).values()
        except SetupError as error:
            why.setdefault(str(error.__cause__ or error).rstrip("."), []).append(name)
        else:
            found[f"{name}@{model}"] = OfAnotherModel(of_it, model)
    if not found:
        raise SetupError(f"{model} can do none of the arms that prompt ({', '.join(names) or 'there are none'}).")
    told = "; ".join(f"{', '.join(names)} ({said})" for said, names in why.items())
    return found, [f"Left out, since {model} cannot do them: {told}."] if why else []


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
