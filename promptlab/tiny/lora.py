"""LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3): W + s B A, where only A (r, in) and B (out, r) are trained.

An adapter is a parametrisation of the weight it adapts: whatever reads the weight reads W + s B A. So the model, its
training loop and the engine stay as they are, and the tied embedding is adapted on both of its sides at once. At this
size adding B A to W costs less than the two small products of every layer would.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from promptlab.errors import SetupError
from promptlab.tiny.checkpoint import read_json, tensors_in, write_json
from promptlab.tiny.model import Transformer
from promptlab.tiny.sft import recipe_for as of_all_weights
from promptlab.tiny.train import Recipe, refuse_diverged

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
EMBEDDING = "embed_tokens"
BEGUN = ("gaussian", "orthogonal", "eva")  # of PEFT's ways to begin an adapter, those that leave the model as it was


@dataclass(frozen=True, slots=True)
class LoRA:
    """Which weights get an adapter of which rank. The scale s is alpha / rank.

    With `rslora`, s is alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732), which does not shrink the update as
    the rank grows. `targets` are names of modules: LINEAR, all linear layers, or ATTENTION as in the paper, which
    learns less; with EMBEDDING among them the tied embedding is adapted too. Learning rates of about ten times those of
    full fine-tuning suit it.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = LINEAR
    rslora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SetupError(f"LoRA(rank={self.rank}): the rank must be at least 1.")
        if not math.isfinite(self.alpha):
            raise SetupError(f"LoRA(alpha={self.alpha}): it must be a number.")
        if not self.targets or (unknown := sorted({*self.targets} - {*LINEAR, EMBEDDING})):
            named = ", ".join(unknown) if self.targets else "none"
            raise SetupError(f"LoRA(targets=…): {named} named; known are {', '.join((*LINEAR, EMBEDDING))}.")

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Adapter(nn.Module):
    """W (out, in) to W + s B A. B starts at 0, so that the model starts as it was, and A as a linear layer would."""

    def __init__(self, lora: LoRA, shape: torch.Size, generator: torch.Generator):
        super().__init__()
        out, into = shape
        self.lora = lora
        self.A = nn.Parameter(torch.empty(lora.rank, into))
        self.B = nn.Parameter(torch.zeros(out, lora.rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.lora.scale * (self.B @ self.A)


def recipe_for(n: int) -> Recipe:
    """What suits SFT of adapters on n examples: ten times the rate of all weights, and no decay."""
    return replace(of_all_weights(n), lr=10 * of_all_weights(n).lr, weight_decay=0.0)


def add_lora(base: Transformer, lora: LoRA | None = None, seed: int = 0) -> Transformer:
    """A copy of `base` with adapters, of which only the adapters train: give it to sft, dpo or rlhf in base's place.

    Raises SetupError where `base` has adapters already; merge them first.
    """
    lora = lora or LoRA()
    if next(adapters(base), None) is not None:
        raise SetupError("the model has LoRA adapters already; merge them before adding others.")
    model = copy.deepcopy(base).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, module in list(model.named_modules()):
        if name.rpartition(".")[2] in lora.targets:
            weight = cast(Tensor, module.weight)
            parametrize.register_parametrization(module, "weight", Adapter(lora, weight.shape, generator))
    return model


def adapters(model: nn.Module) -> Iterator[tuple[str, Adapter]]:
    """The adapted modules' names and their adapters."""
    for name, module in model.named_modules():
        if isinstance(module, Adapter):
            yield name.removesuffix(".parametrizations.weight.0"), module


@torch.no_grad()
def plain(model: Transformer, original: bool) -> Transformer:
    """A model without adapters: with their updates added to its weights, or with its original weights."""
    new = Transformer(model.config)
    for name, weight in new.named_parameters():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if original and parametrize.is_parametrized(module, leaf):
            weight.copy_(cast(Any, module).parametrizations[leaf].original)
        else:
            weight.copy_(getattr(module, leaf))
    return new.train(model.training)


def merge(model: Transformer) -> Transformer:
    """A plain copy with W + s B A in W's place: what is saved as a checkpoint, or trained on in full.

    Merge an adapted embedding here and not with PEFT, whose 0.21 adds the update to the tied weight twice. Raises
    Diverged where a sum is no finite number, as those of large adapters may be.
    """
    merged = plain(model, original=False)
    refuse_diverged(merged)
    return merged


def unmerge(model: Transformer) -> Transformer:
    """A plain copy with the weights from before `add_lora`, bit for bit: they are kept beside the adapters."""
    return plain(model, original=True)


# ---- on disk, as PEFT writes it


def save_adapter(folder: Path, model: Transformer) -> None:
    """Write the adapters as PEFT does: `PeftModel.from_pretrained` puts them on the exported base model.

    An adapted embedding is saved with `ensure_weight_tying`, by which PEFT adapts the output matrix alike.
    """
    found = dict(adapters(model))
    if not found:
        raise SetupError("the model has no LoRA adapters to save.")
    folder.mkdir(parents=True, exist_ok=True)
    lora = next(iter(found.values())).lora
    tensors = {}
    for name, adapter in found.items():
        for key, value in keys_of(name, adapter):
            tensors[key] = value.detach().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_rslora": lora.rslora,
        "target_modules": sorted(lora.targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "ensure_weight_tying": EMBEDDING in lora.targets,
    }
    write_json(folder / "adapter_config.json", config)


def keys_of(name: str, adapter: Adapter) -> list[tuple[str, Tensor]]:
    """What PEFT calls an adapter's two matrices. Those of a tied embedding stand there twice, once for each side.

    It sees the side that reads tokens as a map from them, so its A is our B there.
    """
    name = f"base_model.model.{name}"
    if not name.endswith(EMBEDDING):
        return [(f"{name}.lora_A.weight", adapter.A), (f"{name}.lora_B.weight", adapter.B)]
    reads = [(f"{name}.lora_embedding_A", adapter.B.T), (f"{name}.lora_embedding_B", adapter.A.T)]
    head = "base_model.model.lm_head"
    return [*reads, (f"{head}.lora_A.weight", adapter.A), (f"{head}.lora_B.weight", adapter.B)]


def load_adapter(base: Transformer, folder: Path) -> Transformer:
    """A copy of `base` with the adapters that `save_adapter`, or PEFT, wrote in a folder.

    Raises SetupError where they are none, are of a kind not known here, or are of another model.
    """
    try:
        config = read_json(folder / "adapter_config.json")
        tensors = tensors_in(folder / "adapter_model.safetensors")
    except SetupError as error:
        raise SetupError(f"{folder} holds no readable LoRA adapter: {error}") from error
    if odd := unlike(config):
        raise SetupError(f"{folder / 'adapter_config.json'} {odd}, which is not known here.")
    for key in [key for key in tensors if key.endswith(".base_layer.weight")]:  # PEFT saves the embedding with it
        if not torch.equal(tensors.pop(key).float(), base.model.embed_tokens.weight):
            raise SetupError(f"{folder} is an adapter of another model: its embeddings differ.")
    names = {key.split(".lora_")[0].rpartition(".")[2] for key in tensors} - {"lm_head"}
    if EMBEDDING in names and not config.get("ensure_weight_tying"):
        raise SetupError(f"{folder} adapts the embedding without ensure_weight_tying; here both of its sides are one.")
    lora = LoRA(config["r"], config["lora_alpha"], tuple(sorted(names)), bool(config.get("use_rslora")))
    model = add_lora(base, lora)
    for name, adapter in adapters(model):
        for key, value in keys_of(name, adapter):
            given = tensors.pop(key, None)
            if given is None or given.shape != value.shape:
                shape = "nothing" if given is None else tuple(given.shape)
                raise SetupError(
                    f"{folder} is an adapter of another model: {key} is {shape}, not {tuple(value.shape)}."
                )
            with torch.no_grad():
                value.copy_(given)
    if tensors:
        raise SetupError(f"{folder} is an adapter of another model: this one has no {next(iter(tensors))}.")
    return model


def unlike(config: dict[str, Any]) -> str | None:
    """What in an adapter_config.json is not the LoRA of this file, in words; None if nothing is."""
    begun = config.get("init_lora_weights", True)
    differences = {
        f"has peft_type {config.get('peft_type')!r}": config.get("peft_type") != "LORA",
        "lacks r or lora_alpha": not all(isinstance(config.get(name), (int, float)) for name in ("r", "lora_alpha")),
        "uses DoRA": config.get("use_dora"),
        "trains biases": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "has ranks by module": config.get("rank_pattern"),
        "has scales by module": config.get("alpha_pattern"),
        "saves whole modules": config.get("modules_to_save"),
        f"was begun by {begun!r}, which changes the weights beneath": begun not in (True, False, *BEGUN),
    }
    return next((words for words, differs in differences.items() if differs), None)
