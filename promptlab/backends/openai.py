"""OpenAI's models, and every server that speaks its protocol, through the `openai` SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from promptlab.backends import needs
from promptlab.backends.hosted import TIMEOUT_S, Hosted, certificates, wire_seed
from promptlab.backends.wire import chat, completions, responses
from promptlab.backends.wire.common import Json, parsed
from promptlab.errors import ModelError, SetupError
from promptlab.types import Reply, Request

Collect = Callable[[AsyncIterator[Mapping[str, Any]]], Awaitable[Json]]

APIS = {
    "chat": frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "tools", "schema", "n"}),
    "responses": frozenset({"temperature", "top_p", "logprobs", "tools", "schema"}),
    "completions": frozenset({"temperature", "top_p", "stop", "seed", "logprobs", "n", "scores"}),
}


class OpenAI(Hosted):
    """A model of OpenAI, or NAME@URL of any server that speaks its protocol (vLLM, llama.cpp, a proxy).

    `api` is "chat", "responses" or "completions"; the last continues plain text, and is the only one that scores given
    texts. `reasoning` is the effort of models that reason: "none", "low", "medium", "high" and so on. With `stream`
    replies are read as they are written, which keeps long ones from timing out; a stream without its end is an error.
    `extra` is sent with every request, for what only some servers know. The key is `key`, or OPENAI_API_KEY, and goes
    to the URL too, which needs none; a URL may also be OPENAI_BASE_URL.
    """

    kind = "openai"
    key_variable, url_variable, path = "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"
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
    ) -> None:
        if api not in APIS:
            raise SetupError(f"api is {', '.join(APIS)}; got {api!r}.")
        needs("openai")
        super().__init__(name, key, timeout_s)
        self.api, self.reasoning, self.stream, self.extra = api, reasoning, stream, dict(extra or {})
        self.can = APIS[api]
        self.native_n, self.scores = "n" in self.can, "scores" in self.can

    def client(self) -> Any:
        from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

        http = DefaultAsyncHttpx2Client(verify=certificates())
        key = self._key or "none"
        return AsyncOpenAI(api_key=key, base_url=self.url, max_retries=0, timeout=self.timeout_s, http_client=http)

    async def send(self, client: Any, request: Request, n: int) -> list[Reply | ModelError]:
        seed = wire_seed(request) if n == 1 else request.seed
        if self.api == "responses":
            asked = responses.body(request, self.reasoning)
            return responses.read(await self._answer(client.responses, asked, responses.collected), request)
        if self.api == "completions":
            asked = completions.body(request, n, seed)
            return completions.read(await self._answer(client.completions, asked, completions.collected), request)
        new = self.url is None or urlsplit(self.url).hostname == "api.openai.com"
        most = "max_completion_tokens" if new else "max_tokens"  # other servers may know the older name only
        asked = chat.body(request, n, seed, most)
        if self.reasoning:
            asked["reasoning_effort"] = self.reasoning
        return chat.read(await self._answer(client.chat.completions, asked, chat.collected), request)

    async def _answer(self, endpoint: Any, asked: Json, collected: Collect) -> Json:
        """The answer of an endpoint as JSON, whole or collected from its stream."""
        if not self.stream or asked.get("echo"):
            raw = await endpoint.with_raw_response.create(model=self.name, extra_body=self.extra, **asked)
            return parsed(raw.text)
        if self.api != "responses":
            asked["stream_options"] = {"include_usage": True}
        stream = await endpoint.create(model=self.name, stream=True, extra_body=self.extra, **asked)
        async with stream:
            return await collected(event.to_dict() async for event in stream)
