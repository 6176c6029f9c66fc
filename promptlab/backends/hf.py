"""Causal language models of Hugging Face `transformers`, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from promptlab.backends.pretrained import adapted, context_of, described, pretrained, together, weights_of
from promptlab.backends.templates import encode, room_for, seed_of
from promptlab.errors import ContextOverflow, ModelError
from promptlab.options import check
from promptlab.types import Message, Reply, Request, Token, Usage


@dataclass(frozen=True, slots=True)
class Job:
    """A request with its prompt and continuations as token ids; `room` is the most tokens of its reply."""

    i: int
    request: Request
    prompt: list[int]
    texts: list[list[int]]
    room: int

    @property
    def cells(self) -> int:
        """How many tokens it may come to."""
        return len(self.prompt) + self.room


class HF:
    """A model folder, or a name on the hub, as `AutoModelForCausalLM` loads it; `adapter` is a PEFT folder on top.

    Greedy unless a request gives a temperature. What is sampled depends on `seed` (a request's own comes first) and the
    request's branch, not on the batch. `dtype` is "auto" for the checkpoint's own; `device` "auto" for a GPU if there
    is one. A model without a chat template continues plain text. Weights are read from safetensors only.
    """

    batched = True
    scores = True
    local = True
    can = frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "scores"})

    def __init__(
        self, name: str, *, adapter: str | None = None, dtype: str = "auto", device: str = "auto", seed: int = 0
    ) -> None:
        self.name, self.adapter, self.seed = name, adapter, seed
        self.tokenizer, self.model, self.device = pretrained(
            "AutoModelForCausalLM", name, dtype, device, padding_side="left"
        )
        if adapter is not None:
            self.model = adapted(self.model, adapter)

    def __repr__(self) -> str:
        return f"hf:{self.name}" + (f" with {self.adapter}" if self.adapter else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self.name, self.adapter, str(self.model.dtype).removeprefix("torch."), self.device, self.seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        return {
            "kind": "hf",
            "name": self.name,
            "weights": weights_of(self.name, self.model),
            "adapter": weights_of(self.adapter) if self.adapter else None,
            "dtype": str(self.model.dtype),
            "device": self.device,
            "seed": self.seed,
        }

    @property
    def description(self) -> str:
        """What it is, for reports."""
        return described(self.name, self.model, self.device) + (f", adapter {self.adapter}" if self.adapter else "")

    @property
    def context_tokens(self) -> int:
        return context_of(self.model)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self.encode(messages))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return encode(self.tokenizer, messages)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        import torch

        check(self, requests)
        replies: dict[int, Reply | ModelError] = {}
        jobs: list[Job] = []
        for i, request in enumerate(requests):
            prompt = self.encode(request.messages)
            texts = [self.tokenizer.encode(text, add_special_tokens=False) for text in request.continuations]
            needed = max(map(len, texts), default=1)
            if len(prompt) + needed > self.context_tokens:
                replies[i] = ContextOverflow(
                    f"the prompt has {len(prompt)} tokens and needs {needed} more; the context is {self.context_tokens}"
                )
            else:
                jobs.append(Job(i, request, prompt, texts, room_for(request, len(prompt), self.context_tokens)))
        with torch.inference_mode():
            replies |= {job.i: self._scored(job) for job in jobs if job.texts}
            for some in together([job for job in jobs if not job.texts], lambda job: job.cells):
                replies |= {job.i: reply for job, reply in zip(some, self._written(some), strict=True)}
        return [replies[i] for i in range(len(requests))]

    def _scored(self, job: Job) -> Reply:
        """Σ log p of every continuation, all of them side by side behind their prompt."""
        import torch

        rows = [job.prompt + text for text in job.texts]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [self.tokenizer.pad_token_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        logits = self.model(input_ids=tokens.to(self.device), attention_mask=mask.to(self.device)).logits
        log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(2, tokens[:, 1:, None].to(self.device))
        start = len(job.prompt) - 1
        scores = tuple(float(row[start : start + len(t), 0].sum()) for row, t in zip(log_p, job.texts, strict=True))
        return Reply(scores=scores, usage=Usage(len(job.prompt) + sum(map(len, job.texts))))

    def _written(self, jobs: Sequence[Job]) -> list[Reply]:
        """Replies written together, each to its own end."""
        import torch

        from promptlab.backends.decoding import Ends, Sampling

        width = max(len(job.prompt) for job in jobs)
        pad = self.tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (width - len(job.prompt)) + job.prompt for job in jobs]).to(self.device)
        mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in jobs]).to(self.device)
        most = max(job.room for job in jobs)
        if most == 0:
            return [Reply(finish="length", usage=Usage(len(job.prompt))) for job in jobs]
        made = self.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            logits_processor=[Sampling([(job.request, seed_of(job.request, self.seed)) for job in jobs], self.device)],
            stopping_criteria=[Ends([(job.room, job.request.stop) for job in jobs], self.tokenizer, width)],
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=any(job.request.logprobs for job in jobs),
        )
        return [self._reply(job, k, made, width) for k, job in enumerate(jobs)]

    def _reply(self, job: Job, row: int, made: Any, width: int) -> Reply:
        import torch

        ids = made.sequences[row, width : width + job.room].tolist()
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((at for at, token in enumerate(ids) if token in ends), None)
        kept = ids[:end] if end is not None else ids
        said, finish = self.tokenizer.decode(kept, skip_special_tokens=True), "stop" if end is not None else "length"
        if found := [at for stop in job.request.stop if (at := said.find(stop)) >= 0]:
            kept = shortest(kept, lambda some: any(s in self.tokenizer.decode(some) for s in job.request.stop))
            said, finish = said[: min(found)], "stop"
        tokens: tuple[Token, ...] = ()
        if job.request.logprobs:
            log_p = [torch.log_softmax(made.logits[at][row].float(), -1)[token] for at, token in enumerate(kept)]
            tokens = tuple(Token(self.tokenizer.decode([t]), float(p)) for t, p in zip(kept, log_p, strict=True))
        usage = Usage(len(job.prompt), output_tokens=len(kept) + (end is not None and not found))
        return Reply(said, finish="stop" if finish == "stop" else "length", tokens=tokens, usage=usage)


def shortest(ids: list[int], holds: Callable[[list[int]], bool]) -> list[int]:
    """The fewest tokens from the beginning of which something holds."""
    return next((ids[:n] for n in range(1, len(ids) + 1) if holds(ids[:n])), ids)


def _load(name: str, adapter: str | None, dtype: str, device: str, seed: int) -> HF:
    return HF(name, adapter=adapter, dtype=dtype, device=device, seed=seed)
