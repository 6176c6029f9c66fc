"""Supervised fine-tuning by TRL: next-token prediction on the answers only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptlab.backends.pretrained import context_of
from promptlab.backends.templates import encode, plain
from promptlab.errors import DataError
from promptlab.learners.hf.training import OnStep, Trained, begin, peft_config, run, said
from promptlab.tiny.lora import LoRA
from promptlab.tiny.sft import refuse_long, steps_for
from promptlab.tiny.train import Recipe
from promptlab.types import Message

UNCOUNTED = -100  # the label of a token that the loss leaves out


def recipe_for(n: int, lora: LoRA | None = None) -> Recipe:
    """What suits n examples and models of billions of parameters; small ones want a higher rate."""
    return Recipe(steps_for(n), lr=2e-4 if lora else 2e-5, warmup=10, weight_decay=0.01)


def sft(
    base: str | Path,
    chats: Sequence[Sequence[Message]],
    *,
    lora: LoRA | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Trained:
    """See `promptlab.tiny.sft.sft`: say each chat's last message, and then stop; with `lora` by an adapter alone.

    The tokens trained on are those that the backend "hf" reads and writes. `options` are entries of `trl.SFTConfig`.
    """
    begun = begin(base)
    from datasets import Dataset

    if not chats:
        raise DataError("sft needs at least one chat to learn from.")
    tokenizer, context = begun.tokenizer, context_of(begun.model)
    answers = [[*plain(tokenizer, reply.content), tokenizer.eos_token_id] for *_, reply in chats]
    refuse_long([len(answer) for answer in answers], context)
    prompts = [
        encode(tokenizer, chat[:-1])[len(answer) - context :] for chat, answer in zip(chats, answers, strict=True)
    ]
    rows = [
        {"input_ids": prompt + answer, "labels": [UNCOUNTED] * len(prompt) + answer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    recipe = recipe or recipe_for(len(rows), lora)
    return run(
        "SFT",
        said(recipe, seed, len(rows), **{"max_length": None, **options}),
        on_step,
        model=begun.model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=peft_config(lora),
    )
