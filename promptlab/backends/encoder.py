"""What models of `transformers` share that read a text as a whole and go on with none: hf-nli and hf-mask."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from promptlab.backends.pretrained import context_of, described, memory_of, pretrained, weights_of


class Encoder:
    """A checkpoint in this process, as the class `auto` of `transformers` loads it; prompts mean nothing to it."""

    batched = True
    scores = True
    chats = False
    local = True
    kind: ClassVar[str]
    auto: ClassVar[str]

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto") -> None:
        self.name = name
        self.tokenizer, self.model, self.device = pretrained(self.auto, name, dtype, device)

    def __repr__(self) -> str:
        return f"{self.kind}:{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (type(self), self.name, str(self.model.dtype).removeprefix("torch."), self.device)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        return {
            "kind": self.kind,
            "name": self.name,
            "weights": weights_of(self.name, self.model),
            "dtype": str(self.model.dtype),
            "device": self.device,
        }

    @property
    def memory(self) -> float:
        """The bytes of its weights; infinite where it takes a GPU."""
        return memory_of(self.model, self.device)

    @property
    def description(self) -> str:
        """What it is, for reports."""
        return described(self.name, self.model, self.device)

    @cached_property
    def context_tokens(self) -> int:
        """The most tokens that it reads at a time: a premise and a hypothesis together."""
        return min(context_of(self.model), int(self.tokenizer.model_max_length))


def _load(kind: type[Encoder], name: str, dtype: str, device: str) -> Encoder:
    return kind(name, dtype=dtype, device=device)
