"""OpenAI's models, and every server that speaks its protocol, over HTTP; the `openai` SDK does what is rare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from promptlab.backends import needs
from promptlab.backends.batches import OpenAIBatches
from promptlab.backends.hosted import TIMEOUT_S, Call, Hosted, Wire, wire_seed
from promptlab.backends.http import certificates
from promptlab.backends.prefixes import prefixes
from promptlab.backends.wire import chat, completions, responses
from promptlab.errors import SetupError
from promptlab.types import Request

APIS = {
    "chat": frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "tools", "schema", "n"}),
    "responses": frozenset({"temperature", "top_p", "logprobs", "tools", "schema"}),
    "completions": frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "n", "scores"}),
}
WIRES: Mapping[str, tuple[str, Wire]] = {
    "chat": ("/chat/completions", chat),
    "responses": ("/responses", responses),
    "completions": ("/completions", completions),
}


class OpenAI(Hosted):
    """A model of OpenAI, or NAME@URL of any server that speaks its protocol (vLLM, llama.cpp, a proxy).

    `api` is "chat", "responses" or "completions"; the last continues plain text, and is the only one that scores given
    texts. `reasoning` is the effort of models that reason: "none", "low", "medium", "high" and so on. With `stream`
    replies are read as they are written, which keeps long ones from timing out; a stream without its end is an error.
    `extra` is sent with every request, for what only some servers know.

    The key is `key`, or OPENAI_API_KEY, which goes to OpenAI and to the URL in OPENAI_BASE_URL, if there is one, but
    not to one in the name; that needs none, or gets `key`. `context_tokens` is how many tokens a prompt and its reply
    may have, if you know; `usd_per_million` what they cost, {"input": …, "output": …}, if not OpenAI's list price.
    """

    kind = "openai"
    key_variable, url_variable, path = "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"
    home = "https://api.openai.com/v1"
    apis: ClassVar[Mapping[str, frozenset[str]] | None] = APIS

    def __init__(
        self,
        name: str,
        *,
        api: str = "chat",
        key: str | None = None,
        reasoning: str | None = None,
        stream: bool = False,
        timeout_s: float = TIMEOUT_S,
        extra: Mapping[str, Any] | None = None,
        context_tokens: int | None = None,
        usd_per_million: Mapping[str, float] | None = None,
    ) -> None:
        if api not in APIS:
            raise SetupError(f"api is {', '.join(APIS)}; got {api!r}.")
        if reasoning and api == "completions":
            raise SetupError('Completions know no reasoning: leave it out, or take api="responses".')
        needs("openai")
        super().__init__(name, key, timeout_s, context_tokens, usd_per_million)
        self.api, self.reasoning, self.stream, self.extra = api, reasoning, stream, dict(extra or {})
        # Other servers may know the older name only.
        self._most = "max_completion_tokens" if self._is_home(self.url) else "max_tokens"
        self.can = APIS[api]
        self.native_n, self.scores = "n" in self.can, "scores" in self.can

    def client(self) -> Any:
        from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

        http = DefaultAsyncHttpx2Client(verify=certificates())
        key = self._key or "none"
        return AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=self.timeout_s, http_client=http)

    @property
    def batch_api(self) -> OpenAIBatches | None:
        return OpenAIBatches("/v1" + WIRES[self.api][0])

    def headers(self) -> dict[str, str]:
        theirs = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
        if not self._is_home(self.url):
            return super().headers()
        return super().headers() | {name: os.environ[given] for name, given in theirs.items() if os.environ.get(given)}

    def call(self, request: Request, n: int) -> Call:
        seed = wire_seed(request) if n == 1 else request.seed
        path, wire = WIRES[self.api]
        if self.api == "responses":
            asked = responses.body(request, self.reasoning)
        elif self.api == "completions":
            asked = completions.body(request, n, seed)
        else:
            asked = chat.body(request, n, seed, self._most)
            if self.reasoning:
                asked["reasoning_effort"] = self.reasoning
        begins = prefixes(replace(request, messages=request.messages[:-1])) if self._is_home(self.url) else []
        if begins:  # by which OpenAI finds the machine that has read it
            asked["prompt_cache_key"] = begins[-1].key.hex()[:32]
        streamed = self.stream and "echo" not in asked
        if streamed:
            asked["stream"] = True
            if self.api != "responses":
                asked["stream_options"] = {"include_usage": True}
        return Call(path, {"model": self.name, **asked, **self.extra}, wire, streamed)
