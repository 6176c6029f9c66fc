"""RLHF by TRL, which has no PPO any more: RLOO and GRPO take other replies to the same prompt for a value head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from promptlab.backends.pretrained import context_of
from promptlab.backends.templates import encode
from promptlab.errors import SetupError
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
from promptlab.tiny.lora import LoRA
from promptlab.tiny.pairs import Chat
from promptlab.tiny.rlhf import PPO, Reward, finite, refuse_prompts
from promptlab.tiny.train import Recipe
from promptlab.types import Message

Algorithm = Literal["rloo", "grpo"]


def rlhf(
    base: str | Path,
    prompts: Sequence[Chat],
    reward: Reward | Trained,
    *,
    algorithm: Algorithm = "rloo",
    group: int = 4,
    ppo: PPO | None = None,
    lora: LoRA | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Trained:
    """See `promptlab.tiny.rlhf.rlhf`: write replies of high reward, `base` being the reference of the KL divergence.

    RLOO (Ahmadian et al. 2024, arXiv 2402.14740) has the KL of a reply in its reward, GRPO (Shao et al. 2024, arXiv
    2402.03300) that of a token in its loss. Both write `group` replies a prompt and compare a reward with those of
    the others. Of `ppo` its rollouts, epochs, minibatches, max_tokens, temperature, beta and clip count. `reward` is a
    function of a prompt and a reply, or a reward model of `reward_model`. `options` are entries of `trl.RLOOConfig` or
    `trl.GRPOConfig`. Raises DataError as that does.
    """
    ppo = ppo or PPO()
    if group < 2 or ppo.rollouts % group or ppo.rollouts % ppo.minibatches:
        raise SetupError(
            f"rlhf: {ppo.rollouts} rollouts must be whole groups of {group}, 2 or more, and whole minibatches."
        )
    begun = begin(base)
    refuse_without_template(base, begun.tokenizer)
    from datasets import Dataset

    refuse_prompts([len(encode(begun.tokenizer, prompt)) for prompt in prompts], context_of(begun.model))
    recipe = recipe or recipe_for(ppo, lora=lora)
    given = said(recipe, seed, ppo.rollouts // ppo.minibatches, **written(ppo, group), **options)
    return run(
        algorithm.upper(),
        given,
        on_step,
        model=begun.model,
        reward_funcs=reward.merged().model if isinstance(reward, Trained) else as_trl(reward),
        reward_processing_classes=reward.tokenizer if isinstance(reward, Trained) else None,
        processing_class=begun.tokenizer,
        train_dataset=Dataset.from_list([{"prompt": turns(prompt)} for prompt in prompts]),
        peft_config=peft_config(lora),
    )


def recipe_for(ppo: PPO, iterations: int = 20, lora: LoRA | None = None) -> Recipe:
    """So many iterations at a rate that suits models of billions of parameters; small ones want a higher one."""
    return Recipe(iterations * ppo.steps, lr=1e-5 if lora else 1e-6, warmup=5, weight_decay=0.0)


def written(ppo: PPO, group: int) -> dict[str, Any]:
    """How TRL writes replies and takes steps on them, as `ppo` says."""
    return {
        "per_device_train_batch_size": ppo.rollouts // ppo.minibatches,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": ppo.minibatches,
        "num_iterations": ppo.epochs,
        "num_generations": group,
        "max_completion_length": ppo.max_tokens,
        "temperature": ppo.temperature,
        "beta": ppo.beta,
        "epsilon": ppo.clip,
    }


def as_trl(reward: Reward) -> Any:
    """A reward of one reply as TRL asks for those of many; of one that is no number it would learn nothing."""

    def rewards(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        chats = [[Message(turn["role"], turn["content"]) for turn in prompt] for prompt in prompts]
        texts = [reply[0]["content"] for reply in completions]
        return [finite(reward(chat, text), text) for chat, text in zip(chats, texts, strict=True)]

    return rewards
