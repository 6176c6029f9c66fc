"""What can go wrong at a provider, and what each such fault does to an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from promptlab.testing.wire.reading import Body
from promptlab.testing.wire.rejections import TOO_LONG, Provider, Rejected
from promptlab.testing.wire.telling import Event, pieces, slivers
from promptlab.types import Reply

What: TypeAlias = Literal[
    "none",
    "status",
    "slow",
    "drop",
    "html",
    "empty",
    "cut_stream",
    "error_in_stream",
    "ignore_n",
    "split_arguments",
    "duplicate_ids",
    "missing_ids",
    "no_finish",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with one request; made by the constructors below.

    A fault that answers in the backend's place (status, drop, html, empty) leaves its replies for later requests.
    Those of streams do nothing to an answer that is not streamed, nor those of tool calls to one without calls.
    """

    what: What = "none"
    code: int = 0
    message: str = ""
    kind: str | None = None
    retry_after: str | None = None
    seconds: float = 0.0
    after: int = 0

    @classmethod
    def status(
        cls, code: int, retry_after: str | None = None, message: str = "the server was told to fail", kind: str = ""
    ) -> Fault:
        """An HTTP status with the provider's error body; `kind` is the error's type where not the status's usual one.

        OpenAI's code is then the kind too ("insufficient_quota"). `retry_after` is the header, as it is sent.
        """
        return cls("status", code=code, message=message, kind=kind or None, retry_after=retry_after)

    @classmethod
    def context_length(cls) -> Fault:
        """A 400: the prompt is too long."""
        return cls("status", code=400, message="prompt is too long: 200001 tokens > 200000 maximum", kind=TOO_LONG)

    @classmethod
    def unauthorized(cls) -> Fault:
        """A 401: the key is not a key."""
        return cls.status(401, message="the API key is not valid")

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Answers so much later; if the client has hung up by then, not at all, and no reply is used up."""
        return cls("slow", seconds=seconds)

    @classmethod
    def drop(cls) -> Fault:
        """Closes the connection without an answer."""
        return cls("drop")

    @classmethod
    def html(cls) -> Fault:
        """A page of HTML with status 200, as proxies like to send."""
        return cls("html")

    @classmethod
    def empty(cls) -> Fault:
        """`{}` with status 200."""
        return cls("empty")

    @classmethod
    def cut_stream(cls, after: int = 1) -> Fault:
        """The stream ends after so many events, as if all were said: only its end marks are not there."""
        return cls("cut_stream", after=after)

    @classmethod
    def error_in_stream(cls, after: int = 1) -> Fault:
        """After so many events the stream holds an error, and ends."""
        return cls("error_in_stream", message="the server was told to fail", after=after)

    @classmethod
    def ignore_n(cls) -> Fault:
        """One choice, however many were asked for."""
        return cls("ignore_n")

    @classmethod
    def split_arguments(cls) -> Fault:
        """Streamed tool arguments come in pieces of one to three letters."""
        return cls("split_arguments")

    @classmethod
    def duplicate_ids(cls) -> Fault:
        """Every tool call has the id "call_0"."""
        return cls("duplicate_ids")

    @classmethod
    def missing_ids(cls) -> Fault:
        """Tool calls have no id."""
        return cls("missing_ids")

    @classmethod
    def no_finish(cls) -> Fault:
        """Why the reply ended is null (of a response: its status)."""
        return cls("no_finish")

    @property
    def rejection(self) -> Rejected | None:
        """What a status fault answers with."""
        if self.what != "status":
            return None
        kind, code = (None, TOO_LONG) if self.kind == TOO_LONG else (self.kind, None)
        return Rejected(self.code, self.message, kind, code, retry_after=self.retry_after)

    @property
    def cut(self) -> Callable[[str], list[str]]:
        """How tool arguments are streamed."""
        return slivers if self.what == "split_arguments" else pieces

    def on_request(self, body: Body) -> Body:
        return {**body, "n": 1} if self.what == "ignore_n" else body

    def on_replies(self, replies: Sequence[Reply]) -> list[Reply]:
        ids = {"duplicate_ids": "call_0", "missing_ids": ""}
        if self.what not in ids:
            return list(replies)
        id = ids[self.what]
        return [replace(reply, calls=tuple(replace(call, id=id) for call in reply.calls)) for reply in replies]

    def on_json(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        return _unfinished(told) if self.what == "no_finish" else told

    def on_events(self, events: Sequence[Event], provider: Provider, number: int) -> list[Event]:
        if self.what == "cut_stream":
            return list(events[: self.after])
        if self.what == "error_in_stream":
            return [*events[: self.after], self._error_like(events[0], provider, number)]
        return [
            event if isinstance(event.data, str) else Event(event.name, self.on_json(event.data)) for event in events
        ]

    def _error_like(self, event: Event, provider: Provider, number: int) -> Event:
        """The error as the stream of such events tells it."""
        if provider == "anthropic":
            return Event("error", Rejected(529, self.message).body(provider, number))
        body = Rejected(500, self.message).body(provider, number)
        if event.name is None:
            return Event(None, body)
        said = {"code": "server_error", "message": self.message, "param": None, "sequence_number": self.after}
        return Event("error", {"type": "error", **said})


def _unfinished(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without finish_reason, stop_reason and status, at the places where the formats say them."""
    kept: dict[str, Any] = dict(told)
    for name in ("finish_reason", "stop_reason", "status"):
        if name in kept:
            kept[name] = None
    for name in ("delta", "response"):
        if isinstance(inner := kept.get(name), Mapping):
            kept[name] = _unfinished(inner)
    if "choices" in kept:
        kept["choices"] = [_unfinished(choice) for choice in kept["choices"]]
    return kept
