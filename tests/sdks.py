"""The providers' own SDKs on a FakeServer, and what their answers say, whatever the format."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from promptlab.testing import FakeServer
from promptlab.types import Reply, ToolCall

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

HI = [{"role": "user", "content": "hi"}]
CHAT, RESPONSES, COMPLETIONS, MESSAGES = FORMATS = ("chat", "responses", "completions", "messages")
SDKS = {"openai": (openai, openai.OpenAI, "/v1"), "anthropic": (anthropic, anthropic.Anthropic, "")}


def called(*arguments: dict[str, Any]) -> Reply:
    return Reply(calls=tuple(ToolCall(f"call_{i}", "add", given) for i, given in enumerate(arguments, 1)))


def openai_client(server: FakeServer, **options: Any) -> Any:
    options = {"max_retries": 0, "_strict_response_validation": True, **options}
    return openai.OpenAI(api_key="secret-key", base_url=f"{server.url}/v1", **options)


def anthropic_client(server: FakeServer, **options: Any) -> Any:
    options = {"max_retries": 0, "_strict_response_validation": True, **options}
    return anthropic.Anthropic(api_key="secret-key", base_url=server.url, **options)


@contextmanager
def asking(server: FakeServer, format: str, **options: Any) -> Iterator[Callable[..., Any]]:
    """The SDK's `create` of a format, with a prompt and what else it insists on."""
    with (anthropic_client if format == MESSAGES else openai_client)(server, **options) as client:
        yield create(client, format)


def create(client: Any, format: str) -> Callable[..., Any]:
    def ask(prompt: str = "hi", **options: Any) -> Any:
        chat = [{"role": "user", "content": prompt}]
        match format:
            case "chat":
                return client.chat.completions.create(**{"model": "m", "messages": chat, **options})
            case "responses":
                return client.responses.create(**{"model": "m", "input": prompt, **options})
            case "completions":
                return client.completions.create(**{"model": "m", "prompt": prompt, **options})
            case _:
                return client.messages.create(**{"model": "m", "max_tokens": 9, "messages": chat, **options})

    return ask


def text_of(answer: Any) -> str:
    """The text of an answer of any format."""
    match answer.model_dump():
        case {"choices": [{"message": {"content": text}}]} | {"choices": [{"text": text}]}:
            return text
        case {"output": output}:
            return "".join(part["text"] for item in output for part in item["content"])
        case {"content": blocks}:
            return "".join(block["text"] for block in blocks)
    raise AssertionError(answer)


def delta_of(event: Any) -> str:
    """The text that an event of any format adds."""
    match event.model_dump():
        case {"choices": [{"delta": {"content": str(text)}}]} | {"choices": [{"text": text}]}:
            return text
        case {"type": "response.output_text.delta", "delta": text} | {"delta": {"type": "text_delta", "text": text}}:
            return text
    return ""


def lenient(format: str) -> dict[str, Any]:
    """Legacy completions' types know no chunk that is not the last."""
    return {"_strict_response_validation": format != COMPLETIONS}


def raw(url: str, path: str, body: Any, method: str = "POST", **headers: str) -> tuple[int, dict, str]:
    """A request as no SDK would send it; status, headers and text of the answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    try:
        content = body if isinstance(body, str) else json.dumps(body)
        connection.request(method, path, content, {"Authorization": "Bearer k", **headers})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()
