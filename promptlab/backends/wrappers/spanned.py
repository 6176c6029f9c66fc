"""Every call as a span of OpenTelemetry, for whoever collects them: Jaeger, Grafana, Langfuse and their like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from promptlab.backends import needs
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import ModelError, Refused, Truncated
from promptlab.types import Backend, Message, Reply, Request, ToolCall, Usage

if TYPE_CHECKING:
    from opentelemetry.trace import Span

FINISH = {"stop": "stop", "length": "length", "calls": "tool_call"}
PORTS = {"http": 80, "https": 443}


class Spanned(Wrapper):
    """A backend whose calls are spans as OpenTelemetry's conventions for generative AI (0.1) name them: "chat MODEL".

    A span is a child of the caller's current one, that of `run` or `arun`. One that a program opens itself around an
    `ask` is the parent under `arun` on hosted models; in waves, which are nobody's, it is not. Requests that are one
    batch have a span each, all as long as the batch. Texts to score are a "text_completion".

    Neither prompts nor replies are in a span, nor what an error says, unless `content` is True. Without an SDK that
    collects them spans are nothing, and cost next to nothing. `model(…, spans=True)`, or spans="content", puts it where
    it belongs: around all that asks again (Retrying), whose tries it counts as one, and inside Cached, as what comes
    from there is no call. Raises SetupError without opentelemetry-api.
    """

    def __init__(self, backend: Backend, content: bool = False) -> None:
        needs("opentelemetry")
        super().__init__(backend)
        self.content = content
        self._start()

    def _start(self) -> None:
        from opentelemetry import trace

        self._tracer = trace.get_tracer("promptlab")
        self._kind = trace.SpanKind.INTERNAL if self.backend.batched else trace.SpanKind.CLIENT
        always = known(self.backend)
        self._chat = {"gen_ai.operation.name": "chat", **always}
        self._score = {"gen_ai.operation.name": "text_completion", **always}
        self._name = always["gen_ai.request.model"]

    def __getstate__(self) -> dict[str, Any]:
        return {"backend": self.backend, "content": self.content}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        spans = [self._span(request) for request in requests]
        if not any(span.is_recording() for span in spans):
            return await inner.send(requests)
        from opentelemetry.trace import use_span

        # What the call itself brings about, its HTTP request for one, goes below its span, if there is only one.
        alone = use_span(spans[0], record_exception=False, set_status_on_exception=False)
        try:
            with alone if len(spans) == 1 else nullcontext():
                replies = await inner.send(requests)
        except BaseException as error:
            for span in spans:
                self._fail(span, error)
                span.end()
            raise
        for span, reply in zip(spans, replies, strict=False):
            self._answered(span, reply)
        for span in spans:
            span.end()
        return replies

    def _span(self, request: Request) -> Span:
        always = self._score if request.continuations else self._chat
        name = f"{always['gen_ai.operation.name']} {self._name}"
        span = self._tracer.start_span(name, kind=self._kind, attributes=always)
        if span.is_recording():
            span.set_attributes(asked(request))
            if self.content:
                span.set_attributes(prompt(request))
        return span

    def _answered(self, span: Span, reply: Reply | ModelError) -> None:
        answered = reply if isinstance(reply, Reply) else reply.reply
        if answered is not None:
            span.set_attributes(used(answered.usage))
        span.set_attribute("gen_ai.response.finish_reasons", [finish(reply)])
        if answered is not None and self.content:
            said = {"role": "assistant", "parts": parts(answered.message), "finish_reason": finish(reply)}
            span.set_attribute("gen_ai.output.messages", _told([said]))
        if isinstance(reply, ModelError):
            self._fail(span, reply)

    def _fail(self, span: Span, error: BaseException) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR, str(error) if self.content else None)


def known(backend: Any) -> dict[str, Any]:
    """What all calls of a backend have in common: provider, model and server."""
    while isinstance(backend, Wrapper):
        backend = backend.backend
    provider = getattr(backend, "kind", None) or type(backend).__name__.lower()
    name = getattr(backend, "name", None)
    found: dict[str, Any] = {"gen_ai.provider.name": str(provider), "gen_ai.request.model": str(name or provider)}
    url = getattr(backend, "url", None) or getattr(backend, "home", None)
    if isinstance(url, str) and (server := urlsplit(url)).hostname:
        found |= {"server.address": server.hostname, "server.port": server.port or PORTS.get(server.scheme, 443)}
    return found


def asked(request: Request) -> dict[str, Any]:
    """The options that a request has, and its place in the tree of its program, which traces know it by."""
    found: dict[str, Any] = {}
    for name in ("max_tokens", "temperature", "seed"):
        if (value := getattr(request, name)) is not None:
            found[f"gen_ai.request.{name}"] = value
    if request.top_p != 1:
        found["gen_ai.request.top_p"] = request.top_p
    if request.stop:
        found["gen_ai.request.stop_sequences"] = list(request.stop)
    if request.schema is not None:
        found["gen_ai.output.type"] = "json"
    if request.program:
        found["promptlab.program"] = request.program
    if request.branch:
        found["promptlab.branch"] = list(request.branch)
    return found


def used(usage: Usage) -> dict[str, Any]:
    """Tokens, those of the cache and of reasoning where there are any; dollars, for which there is no convention."""
    found: dict[str, Any] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    some = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_write.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    found |= {name: count for name, count in some.items() if count}
    return found if usage.cost_usd is None else {**found, "promptlab.cost_usd": usage.cost_usd}


def finish(reply: Reply | ModelError) -> str:
    """Why a reply ended, in the convention's words."""
    if isinstance(reply, Reply):
        return FINISH[reply.finish]
    return "content_filter" if isinstance(reply, Refused) else "length" if isinstance(reply, Truncated) else "error"


def prompt(request: Request) -> dict[str, Any]:
    """Messages and tools as the convention's JSON."""
    messages = [{"role": message.role, "parts": parts(message)} for message in request.messages]
    found = {"gen_ai.input.messages": _told(messages)}
    if request.tools:
        tools = [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ]
        found["gen_ai.tool.definitions"] = _told(tools)
    return found


def parts(message: Message) -> list[dict[str, Any]]:
    """What a turn consists of."""
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.call_id, "response": message.content}]
    text = [{"type": "text", "content": message.content}] if message.content else []
    return text + [_tool_call(call) for call in message.calls]


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.unread or call.arguments}


def _told(value: Any) -> str:
    return json.dumps(value, default=str)
