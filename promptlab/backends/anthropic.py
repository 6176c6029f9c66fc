"""Anthropic's models, and servers that speak its protocol, over HTTP; the `anthropic` SDK does what is rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.backends import needs
from promptlab.backends.batches import AnthropicBatches
from promptlab.backends.hosted import TIMEOUT_S, Call, Hosted
from promptlab.backends.http import certificates
from promptlab.backends.wire import messages
from promptlab.backends.wire.common import part
from promptlab.errors import ModelError, SetupError
from promptlab.runners import in_private_loop
from promptlab.types import Message, Request

VERSION = "2026-10-21"  # of the API, whose requests and answers `messages` writes and reads


class Anthropic(Hosted):
    """A model of Anthropic, or NAME@URL of a server that speaks its protocol (vLLM, a proxy).

    It takes no temperature, top_p, seed or number of samples, and gives no log-probabilities; that is how the API is.
    `thinking` is a budget of tokens, "adaptive", or None; `effort` is "low" to "max". With `caches` what requests
    begin with alike, system and demonstrations, is marked for the provider's cache: up to the turn before the question.
    With `stream` replies are read as they are written; a stream without its end is an error. `extra` is sent with
    every request.

    The key is `key`, or ANTHROPIC_API_KEY, which goes to Anthropic and to the URL in ANTHROPIC_BASE_URL, if there is
    one, but not to one in the name; that needs none, or gets `key`. `context_tokens` and `usd_per_million` as for
    OpenAI. A request that does not say how much may be written is sent with 4,096 tokens.
    """

    kind = "anthropic"
    key_variable, url_variable = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"
    home = "https://api.anthropic.com"
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
        context_tokens: int | None = None,
        usd_per_million: Mapping[str, float] | None = None,
    ) -> None:
        needs("anthropic")
        no_budget = isinstance(thinking, bool) or (isinstance(thinking, int) and thinking < 1) or thinking == "enabled"
        if no_budget or (isinstance(thinking, str) and thinking not in ("adaptive", "disabled")):
            raise SetupError(f'thinking is a number of tokens, "adaptive" or "disabled"; got {thinking!r}.')
        super().__init__(name, key, timeout_s, context_tokens, usd_per_million)
        self.thinking, self.effort, self.caches, self.stream = thinking, effort, caches, stream
        self.extra = dict(extra or {})

    def client(self) -> Any:
        from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

        http = DefaultAsyncHttpxClient(verify=certificates())
        key = self._key or "none"
        return AsyncAnthropic(api_key=key, base_url=self.url, max_retries=0, timeout=self.timeout_s, http_client=http)

    def most_written(self, request: Request) -> int:
        """Tokens of a reply at most, thinking among them."""
        return int(self.call(request, 1).body["max_tokens"])

    @property
    def batch_api(self) -> AnthropicBatches:
        return AnthropicBatches()

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "anthropic-version": VERSION}

    def call(self, request: Request, n: int) -> Call:
        asked = messages.body(request, self.caches) | {"model": self.name}
        if isinstance(self.thinking, int):
            asked["thinking"] = {"type": "enabled", "budget_tokens": self.thinking}
            asked["max_tokens"] += self.thinking  # which count among them
        elif self.thinking:
            asked["thinking"] = {"type": self.thinking}
        if self.effort:
            asked["output_config"] = {**asked.get("output_config", {}), "effort": self.effort}
        if self.stream:
            asked["stream"] = True
        return Call("/v1/messages", asked | self.extra, messages, self.stream)

    def count_tokens(self, chat: Sequence[Message]) -> int:
        """The tokens of a chat, which the provider is asked for. Raises a ModelError where it does not tell."""
        asked = messages.body(Request(tuple(chat))) | {"model": self.name}
        del asked["max_tokens"]
        return in_private_loop(self._counted(Call("/v1/messages/count_tokens", asked, messages)))

    async def _counted(self, call: Call) -> int:
        try:
            return int(part(await self.answer(call), "input_tokens", int))
        except ModelError as error:
            raise self._cleaned(error) from None
        finally:
            await self.aclose()
