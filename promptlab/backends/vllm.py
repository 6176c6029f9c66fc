"""Models in vLLM, in this process. A vLLM *server* is asked as openai:NAME@URL or anthropic:NAME@URL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from promptlab.backends import needs
from promptlab.backends.pretrained import weights_of
from promptlab.backends.templates import encode, room_for, seed_of
from promptlab.errors import ContextOverflow, ModelError, SetupError
from promptlab.options import check
from promptlab.types import Message, Reply, Request, Token, Usage

CPU_KV_CACHE_BYTES = 1 << 30  # vLLM's own choice on a CPU takes nearly all memory there is


class VLLM:
    """A model folder, or a name on the hub, in vLLM's engine, which shares the prefixes of prompts by itself.

    `adapter` is a LoRA folder on top. All else is passed on to `vllm.LLM`: tensor_parallel_size, max_model_len,
    kv_cache_memory_bytes, enforce_eager and so on. Greedy unless a request gives a temperature; what is sampled depends
    on `seed` (a request's own comes first) and the request's branch. On a CPU set OMP_NUM_THREADS=1 before Python
    starts if other work shares the cores.
    """

    batched = True
    scores = True
    local = True
    can = frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "schema", "scores"})

    def __init__(self, name: str, *, adapter: str | None = None, seed: int = 0, **engine: Any) -> None:
        needs("vllm")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        import torch
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.name, self.adapter, self.seed, self.options = name, adapter, seed, engine
        if not torch.cuda.is_available():
            engine.setdefault("kv_cache_memory_bytes", CPU_KV_CACHE_BYTES)
        # A small model held to a schema likes to write spaces until its tokens are spent.
        engine.setdefault("structured_outputs_config", {"backend": "xgrammar", "disable_any_whitespace": True})
        try:
            self.engine: Any = LLM(model=name, seed=seed, enable_lora=adapter is not None, **engine)
        except (OSError, ValueError) as error:
            raise SetupError(f"vllm:{name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
        self.tokenizer: Any = self.engine.get_tokenizer()
        self.lora = LoRARequest("adapter", 1, adapter) if adapter is not None else None

    def __repr__(self) -> str:
        return f"vllm:{self.name}" + (f" with {self.adapter}" if self.adapter else "")

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
        replies: dict[int, Reply | ModelError] = {}
        prompts: list[list[int]] = []
        params: list[Any] = []
        owners: list[tuple[int, int]] = []  # of each prompt: its request, and how many tokens are to be scored
        lengths: dict[int, int] = {}
        for i, request in enumerate(requests):
            prompt = encode(self.tokenizer, request.messages)
            texts = [self.tokenizer.encode(text, add_special_tokens=False) for text in request.continuations]
            lengths[i] = len(prompt)
            needed = max(map(len, texts), default=1)
            if len(prompt) + needed > self.context_tokens:
                replies[i] = ContextOverflow(
                    f"the prompt has {len(prompt)} tokens and needs {needed} more; the context is {self.context_tokens}"
                )
            elif request.max_tokens == 0 and not texts:
                replies[i] = Reply(finish="length", usage=Usage(len(prompt)))
            else:
                for text in texts or [[]]:
                    prompts.append(prompt + text)
                    params.append(self._params(request, len(prompt), bool(texts)))
                    owners.append((i, len(text)))
        made = self._made(prompts, params)
        scored: dict[int, list[float]] = {}
        for (i, n), output in zip(owners, made, strict=True):
            if requests[i].continuations:
                scored.setdefault(i, []).append(score(output, n))
                read = lengths[i] + sum(n for owner, n in owners if owner == i)
                replies[i] = Reply(scores=tuple(scored[i]), usage=Usage(read))
            else:
                replies[i] = reply_of(output, requests[i])
        return [replies[i] for i in range(len(requests))]

    def _made(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        if not prompts:
            return []
        from vllm import TokensPrompt

        given = [TokensPrompt(prompt_token_ids=ids) for ids in prompts]
        return list(self.engine.generate(given, params, use_tqdm=False, lora_request=self.lora))

    def _params(self, request: Request, used: int, scores: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        if scores:
            return SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        return SamplingParams(
            temperature=request.temperature or 0,
            top_p=request.top_p,
            max_tokens=room_for(request, used, self.context_tokens),
            stop=list(request.stop),
            seed=seed_of(request, self.seed),
            logprobs=0 if request.logprobs else None,
            structured_outputs=StructuredOutputsParams(json=dict(request.schema)) if request.schema else None,
        )


def score(output: Any, n: int) -> float:
    """Σ log p of the last n tokens of a prompt, in nats."""
    ids, told = output.prompt_token_ids, output.prompt_logprobs
    return float(sum(told[at][ids[at]].logprob for at in range(len(ids) - n, len(ids))))


def reply_of(output: Any, request: Request) -> Reply:
    [written] = output.outputs
    tokens: tuple[Token, ...] = ()
    if request.logprobs:
        told = [at[id] for id, at in zip(written.token_ids, written.logprobs, strict=True)]
        ended = written.finish_reason == "stop" and written.stop_reason is None  # by a token that is no text
        tokens = tuple(Token(t.decoded_token, t.logprob) for t in (told[:-1] if ended else told))
    usage = Usage(
        input_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        output_tokens=len(written.token_ids),
    )
    return Reply(
        written.text, finish="length" if written.finish_reason == "length" else "stop", tokens=tokens, usage=usage
    )
