"""What training with TRL has in common: a checkpoint to start from, a Recipe in TRL's words, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.backends import needs
from promptlab.backends.pretrained import pretrained, refuse_adapted
from promptlab.effort import trained_on, training_begins
from promptlab.errors import SetupError
from promptlab.tiny.lora import EMBEDDING, LINEAR, LoRA
from promptlab.tiny.sft import BATCH
from promptlab.tiny.train import Recipe, refuse_diverged
from promptlab.types import Message

OnStep = Callable[[int, Mapping[str, float]], None]  # a step's number, from 0, and what TRL tells of it


@dataclass(frozen=True, slots=True)
class Trained:
    """A model of `transformers`, or one of PEFT around it, in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any

    def save(self, folder: Path) -> None:
        """As safetensors, with the tokenizer: all weights, or the adapter alone where there is one.

        Of several processes the first one writes.
        """
        from accelerate import PartialState

        if not PartialState().is_main_process:
            return
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def merged(self) -> Trained:
        """With the adapter's update added to the weights; itself where there is none."""
        return Trained(self.model.merge_and_unload(), self.tokenizer) if hasattr(self.model, "peft_config") else self


def begin(name: str | Path, kind: str = "AutoModelForCausalLM") -> Trained:
    """The checkpoint that a training starts from, in float32. The trainer moves it to its device.

    Raises SetupError where an adapter lies beside its weights.
    """
    for package in ("transformers", "peft", "accelerate", "datasets", "trl"):
        needs(package)
    tokenizer, model, _ = pretrained(kind, str(name), "float32", "cpu")
    refuse_adapted(str(name), model)
    return Trained(model, tokenizer)


def peft_config(lora: LoRA | None, **kind: Any) -> Any:
    """A LoRA as PEFT has it: all linear layers, whatever the model calls them, or the modules that were named."""
    if lora is None:
        return None
    from peft import LoraConfig

    targets = "all-linear" if lora.targets == LINEAR else list(lora.targets)
    tied = {"ensure_weight_tying": True} if EMBEDDING in lora.targets else {}
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides by the rank, whole or not
        use_rslora=lora.rslora,
        target_modules=targets,
        **({"task_type": "CAUSAL_LM"} | tied | kind),
    )


def said(recipe: Recipe, seed: int, n: int, **options: Any) -> dict[str, Any]:
    """A recipe as TRL's configs have it; `options` are entries of those configs, and come last.

    Its warm-up begins at 0 and not at 1 / warmup of the rate. A step is of so many of the n examples as those of
    `promptlab.tiny`, whatever the number of processes, as far as it divides.
    """
    import torch

    at_once = min(4, n)  # the rest of a batch is gradient accumulation
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate and torchrun set it
    falling = round(recipe.steps * recipe.decay)
    return {
        "max_steps": recipe.steps,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_decay_steps": falling, "decay_type": "linear", "min_lr_ratio": 0.1},
        "warmup_steps": min(recipe.warmup, recipe.steps - falling),
        "weight_decay": recipe.weight_decay,
        "adam_beta1": recipe.betas[0],
        "adam_beta2": recipe.betas[1],
        "max_grad_norm": recipe.clip,
        "bf16": recipe.bf16,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": max(1, min(BATCH, n) // (at_once * processes)),
        "activation_checkpointing": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    } | options


def run(kind: str, given: dict[str, Any], on_step: OnStep | None, **parts: Any) -> Trained:
    """Train as TRL does for a kind, "SFT" or "DPO" for instance. Raises Diverged where a weight is then no number."""
    import trl
    from datasets import disable_progress_bars
    from transformers import PrinterCallback, TrainerCallback

    read = 0.0

    class Telling(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            nonlocal read
            if logs and (so_far := float(logs.get("num_tokens", 0.0))) > read:
                trained_on(int(so_far - read), 1)
                read = so_far
            if (
                on_step is not None and state.is_world_process_zero and logs and "loss" in logs
            ):  # the last ones are about the whole run
                known = {name: float(value) for name, value in logs.items() if value is not None}
                on_step(state.global_step - 1, known)

    disable_progress_bars()
    training_begins()
    with TemporaryDirectory() as scratch:
        config = getattr(trl, f"{kind}Config")(scratch, **given)
        made = getattr(trl, f"{kind}Trainer")(args=config, callbacks=[Telling()], **parts)
        made.remove_callback(PrinterCallback)
        made.train()
    model = made.accelerator.unwrap_model(made.model).eval()
    refuse_diverged(model)
    return Trained(model, parts["processing_class"])


def turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """A chat as TRL's data sets have it."""
    return [{"role": message.role, "content": message.content} for message in messages]


def refuse_without_template(name: str | Path, tokenizer: Any) -> None:
    if tokenizer.chat_template is None:
        raise SetupError(
            f"{name} has no chat template, by which prompts and replies are told apart; fine-tune it first."
        )
