"""Anthropic's models, and servers that speak its protocol, through the `anthropic` SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.backends import needs
from promptlab.backends.hosted import TIMEOUT_S, Hosted, certificates
from promptlab.backends.wire import messages
from promptlab.backends.wire.common import parsed
from promptlab.errors import ModelError
from promptlab.runners import in_private_loop
from promptlab.types import Message, Reply, Request


class Anthropic(Hosted):
    """A model of Anthropic, or NAME@URL of a server that speaks its protocol (vLLM, a proxy).

    It takes no temperature, top_p, seed or number of samples, and gives no log-probabilities; that is how the API is.
    `thinking` is a budget of tokens, "adaptive", or None; `effort` is "low" to "max". With `caches` what requests
    begin with alike, system and demonstrations, is marked for the provider's cache: up to the turn before the question.
    With `stream` replies are read as they are written; a stream without its end is an error. `extra` is sent with
    every request. The key is `key`, or ANTHROPIC_API_KEY, and goes to the URL too, which needs none; a URL may also be
    ANTHROPIC_BASE_URL.
    """

    kind = "anthropic"
    key_variable, url_variable = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"
    can = frozenset({"stop", "tools", "schema"})

    def __init__(
        self,
        name: str,
        *,
        key: str | None = None,
        thinking: int | str | None = None,
        effort: str | None = None,
        caches: bool = True,
        stream: bool = False,
        timeout_s: float = TIMEOUT_S,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        needs("anthropic")
        super().__init__(name, key, timeout_s)
        self.thinking, self.effort, self.caches, self.stream = thinking, effort, caches, stream
        self.extra = dict(extra or {})

    def client(self) -> Any:
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(verify=certificates())
        key = self._key or "none"
        return AsyncAnthropic(api_key=key, base_url=self.url, max_retries=0, timeout=self.timeout_s, http_client=http)

    async def send(self, client: Any, request: Request, n: int) -> list[Reply | ModelError]:
        given = self._body(request)
        if not self.stream:
            raw = await client.messages.with_raw_response.create(**given)
            return messages.read(parsed(await raw.text()), request)
        stream = await client.messages.create(stream=True, **given)
        async with stream:
            return messages.read(await messages.collected(event.to_dict() async for event in stream), request)

    def _body(self, request: Request) -> dict[str, Any]:
        given = messages.body(request, self.caches)
        given |= {"model": self.name, "extra_body": self.extra}
        if isinstance(self.thinking, int):
            given["thinking"] = {"type": "enabled", "budget_tokens": self.thinking}
            given["max_tokens"] += self.thinking  # which count among them
        elif self.thinking:
            given["thinking"] = {"type": self.thinking}
        if self.effort:
            given["output_config"] = {**given.get("output_config", {}), "effort": self.effort}
        return given

    def count_tokens(self, chat: Sequence[Message]) -> int:
        """The tokens of a chat, which the provider is asked for."""

        async def asked() -> int:
            given = messages.body(Request(tuple(chat)))
            del given["max_tokens"]
            client = self.client()
            try:
                return int((await client.messages.count_tokens(model=self.name, **given)).input_tokens)
            except Exception as error:
                raise self._failure(error) from None
            finally:
                await client.close()

        return in_private_loop(asked())
