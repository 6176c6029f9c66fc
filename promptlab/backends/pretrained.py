"""Loading checkpoints with `transformers`, and how many texts one reads at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from promptlab.backends import needs
from promptlab.errors import SetupError

TOKENS_AT_ONCE = 16_384  # of prompts and replies, padding included
T = TypeVar("T")


def pretrained(kind: str, name: str, dtype: str, device: str, **tokenizing: Any) -> tuple[Any, Any, str]:
    """The tokenizer and the model of a folder, or a name on the hub, and the device the model is on.

    `kind` is a class of `transformers`, AutoModelForCausalLM for instance; weights are read from safetensors only.
    Raises SetupError where they cannot be loaded, or where an adapter and no model is there.
    """
    needs("transformers")
    import transformers

    refuse_bare_adapter(name)
    device = device_of(device)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name, **tokenizing)
        model, loaded = getattr(transformers, kind).from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise SetupError(f"{name} cannot be loaded: {told} Give a folder, or a name on the hub.") from error
    if missing := sorted(loaded["missing_keys"]):
        raise SetupError(f"{name} was not made for this: it has no weights for {', '.join(missing[:3])}.")
    if not len(tokenizer):
        raise SetupError(f"{name} has no tokenizer.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.to(device).eval(), device


def refuse_bare_adapter(name: str) -> None:
    """Raises SetupError for a folder with an adapter and no model.

    `transformers` would load the base that it names, whose weights are no part of what `weights_of` hashes.
    """
    if (Path(name) / "adapter_config.json").is_file() and not (Path(name) / "config.json").is_file():
        raise SetupError(
            f'{name} is an adapter: load it by model("hf:BASE", adapter="{name}"), or merge it into a checkpoint first.'
        )


def refuse_adapted(name: str, model: Any) -> None:
    """Raises SetupError for what is not to be trained on: a model that an adapter was put on."""
    if hasattr(model, "peft_config"):
        raise SetupError(f"{name}: an adapter is not trained on; merge it into a checkpoint first.")


def device_of(name: str) -> str:
    """A device by its name, any CPU being "cpu", and "auto" a GPU if there is one.

    Raises SetupError where it is not at hand.
    """
    import torch

    wanted: Any = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        device = torch.empty(0, device=torch.device(wanted)).device
    except (RuntimeError, AssertionError, TypeError) as error:  # where PyTorch was built without it; no name at all
        told = str(error).split("\n")[0].rstrip(".")
        raise SetupError(f'The device "{name}" is not at hand: {told}. "auto" takes a GPU if there is one.') from error
    if device.type == "meta":
        raise SetupError('The device "meta" holds no numbers: take "cpu" or a GPU.')
    return "cpu" if device.type == "cpu" else str(wanted)


def refuse_what_looks_ahead(name: str, model: Any) -> None:
    """Raises SetupError for a model whose tokens depend on those behind them: it fills gaps, and cannot go on."""
    import torch

    with torch.inference_mode():
        one, other = (model(input_ids=torch.tensor([[1, last]]).to(model.device)).logits[0, 0] for last in (2, 3))
    if not torch.allclose(one.float(), other.float(), atol=1e-2, rtol=1e-2):
        raise SetupError(
            f"{name} reads texts in both directions, so it cannot continue one: hf-mask:{name} fills gaps."
        )


def context_of(model: Any) -> int:
    """The most tokens that a model reads; of one of pictures and text, its text model's."""
    config = model.config.get_text_config()
    most = int(getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2**20)
    for name, module in model.named_modules():  # RoBERTa and its kin begin to count behind the padding's position
        if name.endswith("position_embeddings") and (padding := getattr(module, "padding_idx", None)) is not None:
            return most - int(padding) - 1
    return most


def weights_of(name: str, model: Any = None) -> str:
    """What stands for a checkpoint's weights, tokenizer and template: the hash of its files, or the hub's commit."""
    if not Path(name).is_dir():
        return str(getattr(getattr(model, "config", None), "_commit_hash", None) or name)
    found = hashlib.sha256()
    for file in sorted(Path(name).iterdir()):
        if file.suffix in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            with file.open("rb") as opened:
                found.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()} ".encode())
    return found.hexdigest()


def digest_of(model: Any) -> str:
    """The hash of weights that are in memory only."""
    import torch

    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def memory_of(model: Any, device: str) -> float:
    """The bytes of its weights; infinite on a GPU, which one takes."""
    return float(sum(p.numel() * p.element_size() for p in model.parameters())) if device == "cpu" else float("inf")


def described(name: str, model: Any, device: str) -> str:
    """What a model is, for reports."""
    parameters = sum(p.numel() for p in model.parameters())
    where = Path(name).name if Path(name).exists() else name
    return f"{where}, {parameters / 1e6:.1f} M parameters, {model.dtype} on {device}"


def refuse_pickled(adapter: str) -> None:
    """Raises SetupError for what is no folder with an adapter in safetensors: loaders fall back to a pickle."""
    if not (Path(adapter) / "adapter_model.safetensors").is_file():
        raise SetupError(
            f"{adapter} is no folder with an adapter_model.safetensors; adapters are read from safetensors only."
        )


def adapted(model: Any, folder: str) -> Any:
    """The model with a LoRA adapter, from safetensors only. Raises SetupError where it cannot be loaded."""
    needs("peft")
    refuse_pickled(folder)
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, folder).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"the adapter {folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def together(jobs: Sequence[T], tokens: Callable[[T], int]) -> Iterator[list[T]]:
    """Jobs of like lengths, as many at a time as memory allows, the shortest first."""
    some: list[T] = []
    longest = 0
    for job in sorted(jobs, key=tokens):
        longest = max(longest, tokens(job))
        if some and (len(some) + 1) * longest > TOKENS_AT_ONCE:
            yield some
            some, longest = [], tokens(job)
        some.append(job)
    if some:
        yield some
