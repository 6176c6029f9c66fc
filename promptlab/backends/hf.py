"""Causal language models of Hugging Face `transformers`, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from promptlab.alternatives import scores_of
from promptlab.backends.pretrained import (
    adapted,
    context_of,
    described,
    digest_of,
    memory_of,
    pretrained,
    refuse_what_looks_ahead,
    together,
    weights_of,
)
from promptlab.backends.templates import MAX_NEW_TOKENS, Job, decode, encode, jobs_of, pieces, seed_of
from promptlab.constrained import Held, grammatical
from promptlab.errors import ModelError, SetupError
from promptlab.options import check
from promptlab.types import Message, Reply, Request, Token, Usage

if TYPE_CHECKING:
    from llguidance import LLTokenizer

TOKENS_A_LOGITS = 8  # a position whose logits are kept counts as so many more that are read
Row = tuple[int, ...]


class HF:
    """A model folder, or a name on the hub, as `AutoModelForCausalLM` loads it; `adapter` is a PEFT folder on top.

    Greedy unless a request gives a temperature: of the checkpoint's generation_config.json only the ends count. What
    is sampled depends on `seed` (a request's own comes first) and the request's branch, not on the batch. `dtype` is
    "auto" for the checkpoint's own; `device` "auto" for a GPU if there is one. A model without a chat template
    continues plain text. A reply to a request with a schema is JSON of it, as that of Tiny is. Weights are read from
    safetensors only.
    """

    batched = True
    scores = True
    local = True
    max_new_tokens = MAX_NEW_TOKENS  # where the request does not say
    can = frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "schema"})

    def __init__(
        self, name: str, *, adapter: str | None = None, dtype: str = "auto", device: str = "auto", seed: int = 0
    ) -> None:
        self.name, self.adapter, self.seed, self.in_memory = name, adapter, seed, False
        self.tokenizer, self.model, self.device = pretrained(
            "AutoModelForCausalLM", name, dtype, device, padding_side="left"
        )
        refuse_what_looks_ahead(name, self.model)
        self.pad = self.tokenizer.pad_token_id or 0
        self.ends = self._only_ends()
        self.takes = set(signature(self.model.forward).parameters)
        if adapter is not None:
            self.model = adapted(self.model, adapter)

    def __repr__(self) -> str:
        return f"hf:{self.name}" + (f" with {self.adapter}" if self.adapter else "")

    def of(self, model: Any) -> HF:
        """This backend with a model that was trained from its own, at its precision and on its device."""
        new = copy(self)
        for known in ("identity", "context_tokens"):
            vars(new).pop(known, None)
        new.model, new.in_memory = model.to(dtype=self.model.dtype, device=self.device).eval(), True
        new.model.generation_config = self.model.generation_config
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        if self.in_memory:
            raise SetupError("a model made in memory cannot be sent to another process; save it and load it by name.")
        return _load, (self.name, self.adapter, str(self.model.dtype).removeprefix("torch."), self.device, self.seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        return {
            "kind": "hf",
            "name": self.name,
            "weights": digest_of(self.model) if self.in_memory else weights_of(self.name, self.model),
            "adapter": weights_of(self.adapter) if self.adapter else None,
            "dtype": str(self.model.dtype),
            "device": self.device,
            "seed": self.seed,
        }

    @property
    def memory(self) -> float:
        """The bytes of its weights; infinite where it cannot be sent to another process, or takes a GPU."""
        return float("inf") if self.in_memory else memory_of(self.model, self.device)

    @property
    def description(self) -> str:
        """What it is, for reports."""
        return described(self.name, self.model, self.device) + (f", adapter {self.adapter}" if self.adapter else "")

    @cached_property
    def grammatical(self) -> LLTokenizer:
        """Its tokens as what holds replies to schemas knows them."""
        if not (fast := getattr(self.tokenizer, "backend_tokenizer", None)) or not self.ends:
            raise SetupError(f"{self!r} cannot hold replies to a schema: its tokenizer has no fast form, or no end.")
        plain = copy(fast)
        plain.no_padding()
        plain.no_truncation()
        return grammatical(plain.to_str(), self.model.config.vocab_size, self.ends)

    @cached_property
    def context_tokens(self) -> int:
        return context_of(self.model)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.encode(messages))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return encode(self.tokenizer, messages)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        import torch

        check(self, requests)
        jobs, replies = jobs_of(self.tokenizer, requests, self.context_tokens)
        held: dict[int, Held] = {}
        for job in jobs:
            if job.request.schema is not None and not job.texts:
                try:
                    held[job.i] = Held(job.request.schema, self.grammatical)
                except ModelError as error:
                    replies[job.i] = error
        jobs = [job for job in jobs if job.i not in replies]
        with torch.inference_mode():
            replies |= self._scored([job for job in jobs if job.texts])
            for some in together([job for job in jobs if not job.texts], lambda job: len(job.prompt) + job.room):
                replies |= {job.i: reply for job, reply in zip(some, self._written(some, held), strict=True)}
        return [replies[i] for i in range(len(requests))]

    def _only_ends(self) -> list[int]:
        """The tokens that end a reply; all else that the checkpoint asks of generation is forgotten."""
        named = self.model.generation_config.eos_token_id
        ends = {named} if isinstance(named, int) else set(named or ())
        ends |= {self.tokenizer.eos_token_id} - {None}
        self.model.generation_config = self._decoding(sorted(ends))
        return sorted(ends)

    def _decoding(self, ends: Sequence[int], **more: Any) -> Any:
        import transformers

        made: Any = transformers.GenerationConfig
        return made(eos_token_id=ends or None, pad_token_id=self.pad, **more)

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Rows of unequal lengths as the model reads them, with what pads them on the left."""
        import torch

        width = max(map(len, rows))
        tokens = torch.tensor([[self.pad] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return {"input_ids": tokens.to(self.device), "attention_mask": mask.to(self.device)}

    def _scored(self, jobs: Sequence[Job]) -> dict[int, Reply]:
        """Σ log p of every continuation. What stands before last tokens is read once for all texts that share it."""
        import torch

        texts: dict[Row, set[Row]] = {}  # what is read, and the texts that then end with one more token
        for job in jobs:
            for text in filter(None, job.texts):
                texts.setdefault((*job.prompt, *text[:-1]), set()).add(tuple(text))
        longest = {row: max(map(len, ends)) for row, ends in texts.items()}
        scores: dict[tuple[Row, Row], float] = {}
        for rows in together(list(texts), lambda row: len(row) + TOKENS_A_LOGITS * longest[row]):
            logits = self._last_logits(rows, max(longest[row] for row in rows))
            found: list[Any] = []
            for row, of_row in zip(rows, logits, strict=True):
                log_p = torch.log_softmax(of_row[-longest[row] :].float(), dim=-1)
                found += [log_p[range(-len(text), 0), text].sum() for text in texts[row]]
            scores |= zip(
                ((row, text) for row in rows for text in texts[row]), torch.stack(found).tolist(), strict=True
            )
        replies: dict[int, Reply] = {}
        for job in jobs:
            sums = [scores[(*job.prompt, *text[:-1]), tuple(text)] if text else 0.0 for text in job.texts]
            usage = Usage(len(job.prompt) + sum(map(len, job.texts)))
            replies[job.i] = Reply(scores=scores_of(sums, job.texts, job.request.alternatives), usage=usage)
        return replies

    def _last_logits(self, rows: Sequence[Row], n: int) -> Any:
        """(rows, n, vocabulary): what follows the last n tokens of each row."""
        given = self._padded(rows)
        if "position_ids" in self.takes:
            given["position_ids"] = (given["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in self.takes:
            given["logits_to_keep"] = n
        return self.model(**given).logits[:, -n:]

    def _written(self, jobs: Sequence[Job], held: Mapping[int, Held]) -> list[Reply]:
        """Replies written together, each to its own end; those of `held` as their schemas have it."""
        from promptlab.backends.decoding import Ends, Sampling

        width = max(len(job.prompt) for job in jobs)
        schemas = {k: held[job.i] for k, job in enumerate(jobs) if job.i in held}
        sampling = Sampling(
            [(job.request, seed_of(job.request, self.seed)) for job in jobs], self.device, schemas, width
        )
        made = self.model.generate(
            **self._padded([job.prompt for job in jobs]),
            generation_config=self._decoding(self.ends, max_new_tokens=max(job.room for job in jobs)),
            logits_processor=[sampling],
            stopping_criteria=[Ends([(job.room, job.request.stop) for job in jobs], self.tokenizer, width)],
        )
        log_p = sampling.log_p()
        return [
            self._reply(job, ids[: job.room], log_p.get(k, []))
            for k, (job, ids) in enumerate(zip(jobs, made[:, width:].tolist(), strict=True))
        ]

    def _reply(self, job: Job, ids: list[int], log_p: list[float]) -> Reply:
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        kept = ids[:end]
        said, finish = decode(self.tokenizer, kept), "length" if end is None else "stop"
        if found := [at for stop in job.request.stop if (at := said.find(stop)) >= 0]:
            stopped = (
                n for n in range(len(kept)) if any(s in decode(self.tokenizer, kept[:n]) for s in job.request.stop)
            )
            kept, said, finish = kept[: next(stopped, len(kept))], said[: min(found)], "stop"
        tokens: tuple[Token, ...] = ()
        if job.request.logprobs:
            tokens = tuple(map(Token, pieces(self.tokenizer, kept), log_p))
        usage = Usage(len(job.prompt), output_tokens=len(kept) + (end is not None and not found))
        return Reply(said, finish="stop" if finish == "stop" else "length", tokens=tokens, usage=usage)


def _load(name: str, adapter: str | None, dtype: str, device: str, seed: int) -> HF:
    return HF(name, adapter=adapter, dtype=dtype, device=device, seed=seed)
