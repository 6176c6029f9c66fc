"""Models in vLLM, in this process. A vLLM *server* is asked as openai:NAME@URL or anthropic:NAME@URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from promptlab.alternatives import scores_of
from promptlab.backends import needs
from promptlab.backends.pretrained import refuse_pickled, weights_of
from promptlab.backends.templates import MAX_NEW_TOKENS, Job, encode, jobs_of, pieces, seed_of
from promptlab.errors import ModelError, SetupError
from promptlab.options import check
from promptlab.types import Message, Reply, Request, Token, Usage

CPU_KV_CACHE_BYTES = 1 << 30  # vLLM's own choice on a CPU takes nearly all memory there is


class VLLM:
    """A model folder, or a name on the hub, in vLLM's engine, which shares the prefixes of prompts by itself.

    `adapter` is a LoRA folder on top. All else is passed on to `vllm.LLM`: tensor_parallel_size, max_model_len,
    kv_cache_memory_bytes, enforce_eager and so on. Greedy unless a request gives a temperature: of the checkpoint's
    generation_config.json only the ends count. What is sampled depends on `seed` (a request's own comes first) and the
    request's branch. Weights are read from safetensors only, unless `load_format` says otherwise. On a CPU set
    OMP_NUM_THREADS=1 before Python starts if other work shares the cores.
    """

    batched = True
    scores = True
    local = True
    memory = float("inf")  # one engine takes the machine
    max_new_tokens = MAX_NEW_TOKENS  # where the request does not say
    can = frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "schema"})

    def __init__(self, name: str, *, adapter: str | None = None, seed: int = 0, **engine: Any) -> None:
        needs("vllm")
        if adapter is not None:
            refuse_pickled(adapter)
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        import torch
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.name, self.adapter, self.seed, self.options = name, adapter, seed, engine
        if not torch.cuda.is_available():
            engine.setdefault("kv_cache_memory_bytes", CPU_KV_CACHE_BYTES)
        engine.setdefault("load_format", "safetensors")  # vLLM's own choice falls back to a pickle
        # A small model held to a schema likes to write spaces until its tokens are spent.
        engine.setdefault("structured_outputs_config", {"backend": "xgrammar", "disable_any_whitespace": True})
        try:
            self.engine: Any = LLM(model=name, seed=seed, enable_lora=adapter is not None, **engine)
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError(f"vllm:{name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
        self.tokenizer: Any = self.engine.get_tokenizer()
        self.lora = LoRARequest("adapter", 1, adapter) if adapter is not None else None

    def __repr__(self) -> str:
        return f"vllm:{self.name}" + (f" with {self.adapter}" if self.adapter else "")

    def __reduce__(self) -> tuple[Any, ...]:
        raise SetupError(f"{self!r} cannot be sent to another process: one engine takes the machine. Use jobs=1.")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer."""
        return {
            "kind": "vllm",
            "name": self.name,
            "weights": weights_of(self.name),
            "adapter": weights_of(self.adapter) if self.adapter else None,
            "options": {name: str(value) for name, value in sorted(self.options.items())},
            "seed": self.seed,
        }

    @property
    def context_tokens(self) -> int:
        return int(self.engine.llm_engine.model_config.max_model_len)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(encode(self.tokenizer, messages))

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        jobs, replies = jobs_of(self.tokenizer, requests, self.context_tokens, behind=1)  # it always writes a token
        replies |= {job.i: reply for job, reply in zip(jobs, self._made(jobs), strict=True)}
        return [replies[i] for i in range(len(requests))]

    def _made(self, jobs: Sequence[Job]) -> list[Reply | ModelError]:
        """A reply to each, or why the engine does not take it: one that it refuses fails the call it comes in."""
        from vllm.exceptions import VLLMClientError

        if not jobs:
            return []
        try:
            return list(self._asked(jobs))
        except (ValueError, VLLMClientError) as error:
            if len(jobs) == 1:
                return [ModelError(f"vLLM does not take the request: {' '.join(str(error).split())[:300]}")]
            half = len(jobs) // 2
            return self._made(jobs[:half]) + self._made(jobs[half:])

    def _asked(self, jobs: Sequence[Job]) -> Iterator[Reply]:
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=job.prompt + text) for job in jobs for text in job.texts or [[]]]
        params = [self._params(job) for job in jobs for _ in job.texts or [[]]]
        outputs = iter(self.engine.generate(prompts, params, use_tqdm=False, lora_request=self.lora))
        for job in jobs:
            if job.texts:
                log_p = [score(next(outputs), len(text)) for text in job.texts]
                scores = scores_of(log_p, job.texts, job.request.alternatives)
                yield Reply(scores=scores, usage=Usage(len(job.prompt) + sum(map(len, job.texts))))
            else:
                yield reply_of(next(outputs), job.request, self.tokenizer)

    def _params(self, job: Job) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        request = job.request
        if job.texts:
            return SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        return SamplingParams(
            temperature=request.temperature or 0,
            top_p=request.top_p,
            max_tokens=job.room,
            stop=list(request.stop),
            seed=seed_of(request, self.seed),
            logprobs=0 if request.logprobs else None,
            structured_outputs=StructuredOutputsParams(json=dict(request.schema)) if request.schema else None,
        )


def score(output: Any, n: int) -> float:
    """Σ log p of the last n tokens of a prompt, in nats."""
    ids, told = output.prompt_token_ids, output.prompt_logprobs
    return float(sum(told[at][ids[at]].logprob for at in range(len(ids) - n, len(ids))))


def reply_of(output: Any, request: Request, tokenizer: Any) -> Reply:
    [written] = output.outputs
    tokens: tuple[Token, ...] = ()
    if request.logprobs:
        log_p = [at[id].logprob for id, at in zip(written.token_ids, written.logprobs, strict=True)]
        ended = written.finish_reason == "stop" and not isinstance(written.stop_reason, str)  # by a token, not a text
        kept = list(written.token_ids)[: -1 if ended else None]
        tokens = tuple(map(Token, pieces(tokenizer, kept), log_p))
    usage = Usage(
        input_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(written.token_ids),
    )
    return Reply(
        written.text, finish="length" if written.finish_reason == "length" else "stop", tokens=tokens, usage=usage
    )
