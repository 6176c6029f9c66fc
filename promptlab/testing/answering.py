"""From what arrived at the server to what is sent back: no sockets here."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from promptlab.errors import ContextOverflow, ModelError, Refused, SetupError, Unauthorized, Unavailable
from promptlab.testing.batch_jobs import Jobs
from promptlab.testing.faults import Fault
from promptlab.testing.wire import FORMATS, Format, messages
from promptlab.testing.wire.reading import Body
from promptlab.testing.wire.rejections import TOO_LONG, Provider, Rejected, request_id
from promptlab.testing.wire.telling import Asked, Declined, Event
from promptlab.types import Backend, Message, Reply, Request, Usage

COUNT_TOKENS = "/v1/messages/count_tokens"
JSON = {"content-type": "application/json"}
HTML = "<!DOCTYPE html><html><body><h1>Welcome</h1><p>Please log in to the network.</p></body></html>"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived: names of headers in lower case, the JSON parsed (None where there is none).

    Headers hold keys, and are left out of what is printed. `content` is what came where that is no JSON.
    """

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any
    method: str = "POST"
    query: str = ""
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer in one piece."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of server-sent events."""

    headers: Mapping[str, str]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers: a backend, under the names `models` (none: under any)."""

    backend: Backend
    models: tuple[str, ...] = ()
    jobs: Jobs = field(default_factory=Jobs)
    engine: threading.Lock = field(default_factory=threading.Lock)  # one in this process takes no concurrent callers

    def __call__(self, received: Received, number: int, fault: Fault) -> Page | Stream:
        provider = _provider(received)
        try:
            if fault.what == "html":
                return Page(200, {"content-type": "text/html"}, HTML.encode())
            if fault.what == "empty":
                return _page(provider, number, {})
            if fault.rejection:
                raise fault.rejection
            return self._answered(received, number, fault)
        except Rejected as rejected:
            return _rejected(provider, number, rejected)
        except Unauthorized as error:
            return _rejected(provider, number, Rejected(401, str(error)))
        except SetupError as error:
            return _rejected(provider, number, Rejected(400, str(error)))
        except Exception as error:  # a backend, or a script's function, is somebody else's code: its test is told
            return _rejected(provider, number, Rejected(500, f"{type(error).__name__}: {error}", final=True))

    def _answered(self, received: Received, number: int, fault: Fault) -> Page | Stream:
        provider = _provider(received)
        _check_key(received, provider)
        if (received.method, received.path) == ("GET", "/v1/models"):
            return _page(provider, number, _listed(self.models or ("fake",), provider))
        job = self.jobs(
            received.method, received.path, received.query, received.body, received.content, self._answered_line
        )
        if job is not None:
            return _page(provider, number, job) if isinstance(job, dict) else Page(200, {}, job)
        if received.method != "POST" or received.path not in (*FORMATS, COUNT_TOKENS):
            raise Rejected(404, f"there is no {received.method} {received.path} here", code="unknown_url")
        body = fault.on_request(_checked(received.body, self.models))
        if received.path == COUNT_TOKENS:
            return _page(provider, number, {"input_tokens": self.count(messages.conversation(body))})
        return self._replied(FORMATS[received.path], Asked(body, number, fault.cut), fault)

    def _answered_line(self, path: str, body: Any) -> dict[str, Any]:
        """The answer to a line of a batch job."""
        if path not in FORMATS:
            raise Rejected(404, f"there is no POST {path} here", code="unknown_url")
        asked = Asked(_checked(body, self.models), 0)
        return FORMATS[path].whole(asked, self._ask(FORMATS[path].requests(asked.body)))

    def _replied(self, format: Format, asked: Asked, fault: Fault) -> Page | Stream:
        replies = fault.on_replies(self._ask(format.requests(asked.body)))
        if not asked.body.get("stream"):
            return _page(format.provider, asked.number, fault.on_json(format.whole(asked, replies)))
        events = fault.on_events(list(format.events(asked, replies)), format.provider, asked.number)
        return Stream(request_id(format.provider, asked.number), events)

    def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        if any(request.continuations for request in requests) and not getattr(self.backend, "scores", False):
            raise Rejected(400, "this backend does not score: echo with logprobs cannot be answered")
        if not requests:
            return []
        with self.engine if self.backend.batched else nullcontext():
            outcomes = self.backend.generate(requests)
        return [_reply(outcome) for _, outcome in zip(requests, outcomes, strict=True)]

    def count(self, chat: Sequence[Message]) -> int:
        """The backend's own count, or that of words."""
        count = getattr(self.backend, "count_tokens", None)
        return int(count(chat)) if count else sum(len(message.content.split()) for message in chat)


def _reply(outcome: Reply | ModelError) -> Reply:
    """What there is to tell. Raises Rejected for errors but that the model declined, which is an answer."""
    match outcome:
        case ContextOverflow():
            raise Rejected(400, str(outcome), code=TOO_LONG)
        case Unavailable(retry_after_s=seconds):
            raise Rejected(503, str(outcome), retry_after=None if seconds is None else str(seconds))
        case Refused(reply=reply):
            return Declined(usage=reply.usage if reply else Usage(), refusal=str(outcome))
        case ModelError():
            raise Rejected(500, str(outcome))
    return outcome


def _provider(received: Received) -> Provider:
    """Whose form answers take: that of the path's owner; elsewhere the client's, which Anthropic's tells."""
    if received.path in FORMATS:
        return FORMATS[received.path].provider
    return "anthropic" if received.path == COUNT_TOKENS or "anthropic-version" in received.headers else "openai"


def _check_key(received: Received, provider: Provider) -> None:
    scheme, _, key = received.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return
    if provider == "openai" or not received.headers.get("x-api-key", "").strip():
        raise Rejected(401, "no API key was sent: it belongs in the header Authorization, as Bearer KEY")


def _checked(body: Any, models: tuple[str, ...]) -> Body:
    if not isinstance(body, dict):
        raise Rejected(400, "the body is not a JSON object")
    model = body.get("model")
    if not isinstance(model, str):
        raise Rejected(400, f"model is a string, got {model!r}")
    if models and model not in models:
        raise Rejected(404, f"there is no model {model!r} here, only {', '.join(models)}", code="model_not_found")
    return body


def _listed(models: tuple[str, ...], provider: Provider) -> dict[str, Any]:
    if provider == "openai":
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "promptlab"} for name in models]
        return {"object": "list", "data": listed}
    made = {"type": "model", "created_at": "2025-01-01T00:00:00Z", "lifecycle": "active"}
    listed = [{**made, "id": name, "display_name": name} for name in models]
    return {"data": listed, "has_more": False, "first_id": models[0], "last_id": models[-1]}


def _page(provider: Provider, number: int, told: Mapping[str, Any]) -> Page:
    return Page(200, {**JSON, **request_id(provider, number)}, json.dumps(told).encode())


def _rejected(provider: Provider, number: int, rejected: Rejected) -> Page:
    headers = {**JSON, **rejected.headers(provider, number)}
    return Page(rejected.status, headers, json.dumps(rejected.body(provider, number)).encode())
