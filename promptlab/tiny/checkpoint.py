"""A model on disk as Hugging Face lays it out: config.json, model.safetensors, tokenizer.json, chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptlab.errors import SetupError
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.tokenizer import BOS, CHAT_TEMPLATE, EOS, MASK, PAD, SPECIAL, Tokenizer
from promptlab.whole import whole

BUNDLED = Path(__file__).parent / "weights"
HEAD = "head.json"  # lies beside a checkpoint that is the body of a model with a head, and says of which kind


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sha256_in_memory(model: nn.Module, *told: str) -> str:
    """Of a model's weights, and of what else is told of it."""
    digest = hashlib.sha256("".join(told).encode())
    for weight in model.state_dict().values():
        digest.update(weight.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Checkpoint(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer
    sha256: str  # of the weights file


def load(folder: Path | str = BUNDLED) -> Checkpoint:
    """Read the checkpoint of a language model; weights stored in half precision are computed with in float32.

    Raises SetupError where there is none, or a model with a head (`promptlab.tiny.heads`), which would be lost.
    """
    folder = Path(folder)
    if (folder / HEAD).exists():
        kind = read_json(folder / HEAD).get("kind")
        takes = ", and `train rlhf --reward` takes it" if kind == "reward model" else ""
        raise SetupError(f"{folder} holds a {kind}, no language model: promptlab.tiny.heads.load_head loads it{takes}.")
    return load_body(folder)


def load_body(folder: Path) -> Checkpoint:
    """What `load` reads, whether or not a head stands on it."""
    missing = [n for n in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / n).is_file()]
    if missing:
        raise SetupError(f"{folder} is not a checkpoint of the bundled kind: it lacks {', '.join(missing)}.")
    raw = read_json(folder / "config.json")
    if odd := unlike(raw):
        raise SetupError(f"{folder / 'config.json'} {odd}, which the bundled kind of model is not; load it with hf:.")
    config = Config(
        vocab_size=raw["vocab_size"],
        d_model=raw["hidden_size"],
        n_layers=raw["num_hidden_layers"],
        n_heads=raw["num_attention_heads"],
        d_ff=raw["intermediate_size"],
        context=raw["max_position_embeddings"],
        rope_theta=rope(raw)["rope_theta"],
        norm_eps=raw["rms_norm_eps"],
        causal=raw.get("is_causal", True),
    )
    model = Transformer(config)
    model.load_state_dict(weights_like(model.state_dict(), folder / "model.safetensors"))
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if not tokenizer.is_ours:
        raise SetupError(f"{folder / 'tokenizer.json'} is not of the bundled kind; load the folder with hf:.")
    if len(tokenizer) > config.vocab_size:
        raise SetupError(f"{folder} has a tokenizer of {len(tokenizer)} tokens and a model of {config.vocab_size}.")
    return Checkpoint(model.eval(), tokenizer, sha256_of(folder / "model.safetensors"))


def weights_like(expected: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The weights in a file, in the precision expected, if they are of the names and shapes expected.

    Raises SetupError where the file is no safetensors, or tells what of it is missing, odd or of another shape.
    """
    found = {name: w.to(expected[name].dtype) if name in expected else w for name, w in tensors_in(file).items()}
    missing, odd = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = [name for name in sorted(expected.keys() & found.keys()) if expected[name].shape != found[name].shape]
    differences = [f"it lacks {len(missing)} weights ({missing[0]})"] if missing else []
    differences += [f"it has {len(odd)} others ({odd[0]})"] if odd else []
    if other:
        shapes = f"{tuple(found[other[0]].shape)} instead of {tuple(expected[other[0]].shape)}"
        differences.append(f"{len(other)} are of another shape ({other[0]} is {shapes})")
    if differences:
        raise SetupError(f"{file} holds another model: {', '.join(differences)}.")
    return found


def tensors_in(file: Path) -> dict[str, Tensor]:
    """What a safetensors file holds. Raises SetupError where it is none, or is not whole."""
    try:
        found: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{file} is no readable safetensors file: {error}") from error
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises SetupError where it cannot be read, or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise SetupError(f"{path} holds no JSON object.")
    return found


def rope(raw: dict[str, Any]) -> dict[str, Any]:
    """How positions are rotated: transformers 5 writes `rope_parameters`, 4 `rope_theta` and `rope_scaling`.

    The latter's `rope_type` was once called `type`.
    """
    scaling = raw.get("rope_scaling") or {}
    begun = {"rope_theta": raw.get("rope_theta", 10_000.0), "rope_type": scaling.get("type", "default")}
    return {**begun, **scaling, **(raw.get("rope_parameters") or {})}


def unlike(raw: dict[str, Any]) -> str | None:
    """What in a config.json this package's Transformer cannot compute, in words; None if it can."""
    heads = raw.get("num_attention_heads")
    differences = {
        f"has model_type {raw.get('model_type')!r}": raw.get("model_type") != "llama",
        "has untied embeddings": not raw.get("tie_word_embeddings"),
        "has grouped keys and values": raw.get("num_key_value_heads", heads) != heads,
        "has biases": raw.get("attention_bias") or raw.get("mlp_bias"),
        f"has the activation {raw.get('hidden_act')}": raw.get("hidden_act", "silu") not in ("silu", "swish"),
        "scales its rotary positions": rope(raw)["rope_type"] != "default",
    }
    return next((words for words, differs in differences.items() if differs), None)


def save(folder: Path, model: Transformer, tokenizer: Tokenizer, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint that `load`, transformers and other Llama loaders read."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().to(dtype).contiguous() for name, w in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(folder / "tokenizer.json")
    c = model.config
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": c.vocab_size,
            "hidden_size": c.d_model,
            "intermediate_size": c.d_ff,
            "num_hidden_layers": c.n_layers,
            "num_attention_heads": c.n_heads,
            "num_key_value_heads": c.n_heads,
            "head_dim": c.d_head,
            "max_position_embeddings": c.context,
            "rope_theta": c.rope_theta,  # as transformers 4 spells it
            "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
            "rms_norm_eps": c.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "pad_token_id": PAD,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "dtype": str(dtype).removeprefix("torch."),
            **({} if c.causal else {"is_causal": False}),
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": SPECIAL[PAD],
            "bos_token": SPECIAL[BOS],
            "eos_token": SPECIAL[EOS],
            "model_max_length": c.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
            **({} if c.causal else {"mask_token": SPECIAL[MASK]}),
        },
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A crash half-way leaves what was there."""
    with whole(path) as out:
        out.write(json.dumps(value, indent=2) + "\n")
