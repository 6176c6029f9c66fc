"""A backend around one that cannot do all that is asked: what it lacks is done here, or left out with a warning."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.errors import ModelError, SetupError
from promptlab.options import OPTIONS, UNSET, lacking, name_of, said
from promptlab.types import Backend, Message, Reply, Request

How = Literal["error", "warn", "emulate"]


def as_wished(backend: Backend, how: str) -> Backend:
    """The backend as it is ("error"), or wrapped so that what it cannot do is emulated or left out with a warning."""
    if how == "error":
        return backend
    if how not in ("warn", "emulate"):
        raise SetupError(f'on_unsupported is "error", "warn" or "emulate", got {how!r}.')
    if not hasattr(backend, "can"):
        raise SetupError(f"{backend!r} does not declare what it `can` do, so nothing can be done in its place.")
    return Emulating(backend, leaves_out=how == "warn")


class Emulating(Wrapper):
    """Cuts replies at stop strings and says a schema in words where the backend cannot; all else is Unsupported.

    With `leaves_out` nothing is emulated: what the backend cannot do is left out of the request, and a warning says so.
    Texts to score can be neither. Where answers are kept (Cached), they are for the request as it was asked too: so a
    replay asks, which has no model to say what that cannot do.
    """

    def __init__(self, backend: Any, leaves_out: bool = False) -> None:
        super().__init__(backend)
        self.leaves_out = leaves_out
        self.can = frozenset(OPTIONS) if leaves_out else backend.can | {"stop", "schema"}

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.backend.identity, **self._how}

    @property
    def _how(self) -> dict[str, Any]:
        return {"emulating": "warn" if self.leaves_out else "emulate"}

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        sent = [self._sendable(request) for request in requests]
        replies = await inner.send(sent)
        finished = [self._finished(request, reply) for request, reply in zip(requests, replies, strict=True)]
        if keep := getattr(self.backend, "keep_as", None):
            for request, other, reply in zip(requests, sent, finished, strict=True):
                if request != other:
                    keep(request, reply, self._how)
        return finished

    def _sendable(self, request: Request) -> Request:
        """The request without what the backend cannot do."""
        missing = lacking(self.backend, request)
        if self.leaves_out and missing:
            warnings.warn(f"{name_of(self.backend)} cannot take {said(missing)}: left out.", stacklevel=2)
        if request.schema is not None and "schema" in missing and not self.leaves_out:
            request = replace(request, messages=_told(request.messages, request.schema))
        return replace(request, **{name: UNSET[name] for name in missing})

    def _finished(self, request: Request, reply: Reply | ModelError) -> Reply | ModelError:
        """The reply up to the first stop string, where the backend did not see to that."""
        if self.leaves_out or "stop" in self.backend.can or isinstance(reply, ModelError):
            return reply
        ends = [at for stop in request.stop if (at := reply.text.find(stop)) >= 0]
        return _cut(reply, min(ends)) if ends else reply


def _cut(reply: Reply, at: int) -> Reply:
    """The reply as one that was stopped there: what came after, calls too, would never have been written.

    Its tokens are those that are wholly before the end; none where they do not spell the text, as parts of characters
    do not. It does not go back as it came (`opaque`), as that is not what it is any more.
    """
    tokens, length = [], 0
    for token in reply.tokens:
        length += len(token.text)
        if length <= at:
            tokens.append(token)
    spelled = "".join(token.text for token in tokens)
    kept = tuple(tokens) if reply.text.startswith(spelled) else ()
    return replace(reply, text=reply.text[:at], tokens=kept, calls=(), finish="stop", opaque=None)


def _told(messages: tuple[Message, ...], schema: Any) -> tuple[Message, ...]:
    """The chat with the schema in words, at the end of its last message."""
    *before, last = messages
    wanted = f"{last.content}\n\nReply with nothing but JSON of this schema: {json.dumps(schema)}"
    return (*before, replace(last, content=wanted))
