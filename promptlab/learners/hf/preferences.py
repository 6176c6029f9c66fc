"""Learning from preferences by TRL: DPO, and reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.backends import needs
from promptlab.backends.pretrained import context_of, pretrained
from promptlab.backends.templates import encode, plain
from promptlab.errors import DataError, SetupError
from promptlab.learners.hf.training import (
    OnStep,
    Trained,
    begin,
    peft_config,
    refuse_without_template,
    run,
    said,
    turns,
)
from promptlab.tiny.dpo import Kind, check
from promptlab.tiny.lora import LoRA
from promptlab.tiny.pairs import Chat, Pair, faulty, refuse_faulty
from promptlab.tiny.sft import steps_for
from promptlab.tiny.train import Recipe
from promptlab.types import Message


def dpo_recipe_for(n: int, lora: LoRA | None = None) -> Recipe:
    """What suits n pairs and models of billions of parameters; small ones want a higher rate."""
    return Recipe(steps_for(n, epochs=4), lr=1e-5 if lora else 1e-6, warmup=10, weight_decay=0.0)


def reward_recipe_for(n: int, lora: LoRA | None = None) -> Recipe:
    """What suits n pairs and models of billions of parameters; small ones want a higher rate."""
    return Recipe(steps_for(n, epochs=4), lr=1e-4 if lora else 1e-5, warmup=10, weight_decay=0.01)


def dpo(
    base: str | Path,
    pairs: Sequence[Pair],
    *,
    kind: Kind = "sigmoid",
    beta: float = 0.1,
    smoothing: float = 0.0,
    sft_weight: float = 0.0,
    lora: LoRA | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Trained:
    """See `promptlab.tiny.dpo.dpo`: prefer each pair's chosen reply, `base` itself being the reference.

    The term of SFT is TRL's, a mean over the tokens of a batch. With `lora` the reference is the model without its
    adapter, else a second copy. `options` are entries of `trl.DPOConfig`.
    """
    check(kind, beta, smoothing, sft_weight)
    begun = prepared(base, pairs)
    recipe = recipe or dpo_recipe_for(len(pairs), lora)
    term = {"loss_type": [kind, "sft"], "loss_weights": [1.0, sft_weight]} if sft_weight else {"loss_type": [kind]}
    given = {"beta": beta, "label_smoothing": smoothing, "max_length": None, **term, **options}
    return run(
        "DPO",
        said(recipe, seed, len(pairs), **given),
        on_step,
        model=begun.model,
        processing_class=begun.tokenizer,
        train_dataset=dataset(pairs),
        peft_config=peft_config(lora),
    )


def reward_model(
    base: str | Path,
    pairs: Sequence[Pair],
    *,
    margins: Sequence[float] | None = None,
    centre: float = 0.01,
    lora: LoRA | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Trained:
    """See `promptlab.tiny.reward.reward_model`: a sequence classifier of one score, the higher the better the reply.

    Its head starts at 0, so that the loss starts at ln 2. `options` are entries of `trl.RewardConfig`.
    """
    if margins is not None and len(margins) != len(pairs):
        raise DataError(f"there are {len(margins)} margins for {len(pairs)} pairs.")
    begun = prepared(base, pairs)
    import torch
    from transformers import AutoModelForSequenceClassification
    from trl.trainer.reward_trainer import suppress_seqcls_warning

    kind: Any = AutoModelForSequenceClassification
    with suppress_seqcls_warning():  # that the head is new is the point
        model = kind.from_pretrained(str(base), num_labels=1, dtype="float32", use_safetensors=True)
    with torch.no_grad():
        model.score.weight.zero_()
    recipe = recipe or reward_recipe_for(len(pairs), lora)
    given = {"center_rewards_coefficient": centre, "max_length": None, **options}
    return run(
        "Reward",
        said(recipe, seed, len(pairs), **given),
        on_step,
        model=model,
        processing_class=begun.tokenizer,
        train_dataset=dataset(pairs, margins),
        peft_config=peft_config(lora, task_type="SEQ_CLS", modules_to_save=["score"]),
    )


def load_reward(folder: str | Path) -> Trained:
    """A reward model from the folder that `Trained.save` put it in."""
    for package in ("transformers", "peft", "trl"):
        needs(package)
    tokenizer, model, _ = pretrained("AutoModelForSequenceClassification", str(folder), "float32", "cpu")
    if model.config.num_labels != 1:
        raise SetupError(f"{folder} is no reward model: it has {model.config.num_labels} scores and not one.")
    return Trained(model, tokenizer)


def prepared(base: str | Path, pairs: Sequence[Pair]) -> Trained:
    """The checkpoint, once it is clear that the pairs can be learnt from with it."""
    begun = begin(base)
    refuse_without_template(base, begun.tokenizer)
    refuse_faulty(pairs, faults_of(begun, pairs))
    return begun


def faults_of(base: Trained | str | Path, pairs: Sequence[Pair]) -> Mapping[str, list[int]]:
    """See `promptlab.tiny.pairs.faults`."""
    begun = base if isinstance(base, Trained) else begin(base)

    def length(prompt: Chat, reply: str) -> int:
        return len(encode(begun.tokenizer, prompt)) + len(plain(begun.tokenizer, reply)) + 1

    return faulty(pairs, length, context_of(begun.model))


def dataset(pairs: Sequence[Pair], margins: Sequence[float] | None = None) -> Any:
    from datasets import Dataset

    rows: list[dict[str, Any]] = [
        {
            "prompt": turns(pair.prompt),
            "chosen": turns([Message("assistant", pair.chosen)]),
            "rejected": turns([Message("assistant", pair.rejected)]),
        }
        for pair in pairs
    ]
    if margins is not None:
        rows = [row | {"margin": margin} for row, margin in zip(rows, margins, strict=True)]
    return Dataset.from_list(rows)
