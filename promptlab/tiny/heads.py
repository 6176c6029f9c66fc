"""Models with a head on disk: the body as a checkpoint, beside it the head's numbers and what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor

from promptlab.errors import SetupError
from promptlab.tiny.checkpoint import HEAD, load_body, read_json, save, weights_like, write_json
from promptlab.tiny.head import Classifier
from promptlab.tiny.reward import RewardModel
from promptlab.tiny.tokenizer import Tokenizer

BODY = "body."


class Headed(NamedTuple):
    """A reward model or a classifier, and its tokenizer."""

    model: Any
    tokenizer: Tokenizer


def save_head(folder: Path, model: RewardModel | Classifier, tokenizer: Tokenizer) -> None:
    """Write a checkpoint of the body, head.safetensors and head.json."""
    save(folder, model.body, tokenizer)
    save_file(head_of(model), folder / "head.safetensors", metadata={"format": "pt"})
    labels = list(model.labels) if isinstance(model, Classifier) else None
    write_json(folder / HEAD, {"kind": kind_of(model), "labels": labels})


def head_of(model: RewardModel | Classifier) -> dict[str, Tensor]:
    """All that is not the body's."""
    return {name: w.contiguous() for name, w in model.state_dict().items() if not name.startswith(BODY)}


def kind_of(model: RewardModel | Classifier) -> str:
    return "reward model" if isinstance(model, RewardModel) else "classifier"


def load_head(folder: Path | str, kind: str) -> Headed:
    """The "reward model" or the "classifier" in a folder. Raises SetupError where it holds none, or the other."""
    folder = Path(folder)
    if not (folder / HEAD).is_file():
        raise SetupError(f"{folder} holds no {kind}: it lacks {HEAD}.")
    about = read_json(folder / HEAD)
    if about.get("kind") != kind:
        raise SetupError(f"{folder} holds a {about.get('kind')}, not a {kind}.")
    body, tokenizer, _ = load_body(folder)
    model = RewardModel(body) if kind == "reward model" else Classifier(body, about["labels"])
    model.load_state_dict(weights_like(head_of(model), folder / "head.safetensors"), strict=False)
    return Headed(model.eval(), tokenizer)
