"""The bundled model, and models trained from it, as backends."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from promptlab.backends.pretrained import device_of, memory_of
from promptlab.errors import ModelError, SetupError
from promptlab.options import check
from promptlab.tiny import checkpoint
from promptlab.tiny.engine import MAX_NEW_TOKENS, Engine
from promptlab.tiny.engine.keeping import Cost, cost, suited
from promptlab.tiny.engine.narrow import BITS, Kept
from promptlab.tiny.engine.store import memory_for, room_for
from promptlab.tiny.engine.weights import Weights
from promptlab.tiny.fill_mask import filled, top
from promptlab.tiny.head import Classifier
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.types import Message, Reply, Request, Token, Usage


class Tiny:
    """The bundled transformer, or a checkpoint of its kind in the folder `path`, in this process.

    Greedy unless a request gives a temperature; what is sampled depends on `seed` (a request's own comes first) and
    the request's branch. `sha256` is of the weights, the config and the tokenizer together.

    A reply to a request with a schema is JSON of it, unless there is no room for all of it: token after token is
    chosen among those that llguidance allows. A schema that it does not know is a ModelError.

    What prompts begin with is read once and kept for later waves, up to `cache_mb` (320 MB, or one context if that is
    more, where it is not given); SetupError where that is less than one context takes, or more than there is.

    Where there is a C compiler it computes by a program of its own, made once (`promptlab.tiny.engine`), several times
    as fast as PyTorch, and a reply is the same to the bit whatever it is asked beside. With PyTorch that is so with
    `batch_invariant`, which costs most where one is asked alone or many of one prompt.

    Its matrices may be kept in bfloat16 or int8, for a little accuracy, which `description` tells (`cost`): the
    compiled program then reads a half or a quarter as much, and one reply takes less time, many at once hardly less
    but by bfloat16 on a processor with tiles for it (AMX), and PyTorch as much as ever. "auto" is what suits this
    processor and the model's size; `dtype` tells which that is.

    `device` is "cpu", a GPU such as "cuda" or "cuda:1", or "auto" for one if there is any; SetupError where it is not
    at hand. There PyTorch computes, thousands of replies at a time, all of it in bfloat16 where that is the `dtype`,
    as it is by "auto"; int8 is of the CPU alone. Where it is not given `cache_mb` is 2,000 there, or a tenth of its
    memory if that is less.

    A masked checkpoint (`promptlab train mlm`) fills gaps instead: it takes texts with one [MASK], and no prompts.
    """

    batched = True
    scores = True
    local = True
    chats = True
    max_new_tokens = MAX_NEW_TOKENS  # where the request does not say
    can = frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "schema"})

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        seed: int = 0,
        cache_mb: float | None = None,
        batch_invariant: bool = False,
        dtype: str = "float32",
        device: str = "cpu",
    ):
        self.path: Path | None = checkpoint.BUNDLED if path is None else Path(path)
        self.seed, self.cache_mb, self.batch_invariant = seed, cache_mb, batch_invariant
        self.device = device_of(device)
        if batch_invariant and self.device != "cpu":
            raise SetupError("batch_invariant is of the CPU alone: leave it out, or the device.")
        self.model, self.tokenizer, weights = checkpoint.load(self.path)
        self.dtype: Kept = as_kept(dtype, self.model.config, self.device)
        self.model.to(self.device)
        if self.device != "cpu" and self.dtype == "bfloat16":  # there it is what is computed in as well
            self.model.bfloat16()
        self._declare()
        files = [checkpoint.sha256_of(self.path / name) for name in ("config.json", "tokenizer.json")]
        self.sha256 = hashlib.sha256(" ".join([weights, *files]).encode()).hexdigest()

    @classmethod
    def of(cls, model: Transformer, tokenizer: Tokenizer, *, seed: int = 0, cache_mb: float | None = None) -> Tiny:
        """A backend of a model in memory, fine-tuned here for instance."""
        self = cls.__new__(cls)
        self.path, self.seed, self.cache_mb, self.batch_invariant = None, seed, cache_mb, False
        self.dtype = "bfloat16" if model.dtype == torch.bfloat16 else "float32"
        self.model, self.tokenizer, self.device = model, tokenizer, str(model.device)
        self._declare()
        self.sha256 = checkpoint.sha256_in_memory(model, f"{model.config} {tokenizer.bpe.to_str()}")
        return self

    def _declare(self) -> None:
        """Of what a model can be asked, filling gaps leaves little."""
        if not self.model.config.causal:
            self.chats, self.can = False, frozenset({"logprobs"})
        else:
            room_for(self.model, self.cache_mb)  # too small a cache is told of here

    @property
    def memory(self) -> float:
        """The bytes it takes in a process: weights as PyTorch and the engine have them, keys and values."""
        if self.path is None:  # it cannot be sent to another
            return float("inf")
        kept = memory_for(self.model, self.cache_mb) if self.model.config.causal else 0
        return 3 * memory_of(self.model, self.device) + kept

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.model, self.tokenizer, self.cache_mb, self.batch_invariant, self.dtype)

    @cached_property
    def cost(self) -> Cost:
        """In accuracy, of weights of fewer bits."""
        exact = self.model
        if self.path is not None and self.device != "cpu":  # where the model itself may be in bfloat16
            exact = checkpoint.load(self.path)[0].to(self.device)
        return cost(exact, self.tokenizer, Weights(self.model, self.dtype))

    def __repr__(self) -> str:
        return f"Tiny({str(self.path)!r})" if self.path else "Tiny.of(a model in memory)"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            raise SetupError(
                "a Tiny made in memory cannot be sent to another process; save it and load it by its path."
            )
        return _load, (self.path, self.seed, self.cache_mb, self.batch_invariant, self.dtype, self.device)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        invariant = {"batch_invariant": True} if self.batch_invariant else {}
        kept = {} if self.dtype == "float32" else {"dtype": self.dtype}
        device = {} if self.device == "cpu" else {"device": self.device}
        return {"kind": "tiny", "sha256": self.sha256, "seed": self.seed, **invariant, **kept, **device}

    @property
    def description(self) -> str:
        """What it is, for reports."""
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        told = [f"{millions:.1f} M parameters", f"context {self.context_tokens:,}", f"sha256 {self.sha256[:12]}"]
        if self.dtype != "float32":  # of a model in memory it is not known what it would be in float32
            told.append(self.dtype if self.path is None else f"{self.dtype} ({self.cost})")
        if self.device != "cpu":
            told.append(f"on {self.device}")
        return ", ".join(told)

    @property
    def context_tokens(self) -> int:
        return self.model.config.context

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.tokenizer.chat(messages))

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        if not self.model.config.causal:
            return filled(self.model, self.tokenizer, requests)
        return self.engine.answer(requests, self.seed)

    def top(self, text: str, k: int = 5) -> list[Token]:
        """The k likeliest tokens to fill the gap of a text, the likeliest first.

        Raises ModelError where the text has not one gap, SetupError where the model is not a masked one.
        """
        return top(self.model, self.tokenizer, text, k)


def as_kept(dtype: str, config: Config, device: str) -> Kept:
    """What weights are kept in. Raises SetupError for what is no such thing, or is not for this model or device."""
    if dtype not in (*BITS, "auto"):
        raise SetupError(f"dtype may be {', '.join(BITS)} or auto, got {dtype!r}.")
    if not config.causal and dtype not in ("float32", "auto"):
        raise SetupError(f"a masked checkpoint fills gaps in float32, not in {dtype}.")
    if device != "cpu" and dtype == "int8":
        raise SetupError("int8 weights are for a CPU; on a GPU take bfloat16.")
    if dtype != "auto":
        return cast("Kept", dtype)
    if not config.causal:
        return "float32"
    return suited(config) if device == "cpu" else "bfloat16"


def _load(path: Path, seed: int, cache_mb: float | None, batch_invariant: bool, dtype: str, device: str) -> Tiny:
    return Tiny(path, seed=seed, cache_mb=cache_mb, batch_invariant=batch_invariant, dtype=dtype, device=device)


class TinyClassifier:
    """A fine-tuned classification head as a backend: its reply to a chat is the label of the last user message.

    It scores exactly its own labels; any other continuation has log-probability minus infinity.
    """

    batched = True
    scores = True
    local = True

    def __init__(self, classifier: Classifier, tokenizer: Tokenizer):
        self.classifier, self.tokenizer = classifier, tokenizer

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        log_p = self.classifier.log_probabilities(self.tokenizer, [r.messages[-1].content for r in requests])
        replies: list[Reply | ModelError] = []
        for request, row in zip(requests, log_p, strict=True):
            of_label = dict(zip(self.classifier.labels, row, strict=True))
            best = max(of_label, key=of_label.__getitem__)
            scores = tuple(of_label.get(c, float("-inf")) for c in request.continuations)
            replies.append(Reply(best, scores=scores, usage=Usage(self._tokens_read(request))))
        return replies

    def _tokens_read(self, request: Request) -> int:
        """Of the last user message as a chat of its own; the oldest ones of a long text are not read."""
        read = self.tokenizer.chat([Message("user", request.messages[-1].content)])
        return min(len(read), self.classifier.body.config.context)
