"""A backend of scripted replies, for tests, lessons and replays."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from promptlab.errors import ModelError, PromptlabError, ReplayMiss, SetupError
from promptlab.program import Program, discard
from promptlab.runners import run
from promptlab.types import Backend, Reply, Request

T = TypeVar("T")
Written: TypeAlias = str | Reply | ModelError
Recorded: TypeAlias = Iterable[Written] | Mapping[Any, Written | Sequence[Written]] | Callable[[Request], Written]


class Script:
    """Replies from a list, in the order asked; from a mapping; or from a function of the request.

    A mapping's keys are whole requests, the last user message, or a predicate of the request; a list as its value is
    used up one by one. `scores`, where given, answers requests with continuations: a function of the request.
    A list of exchanges, as `traced` notes them, is the mapping of their requests to their replies.
    `requests` are all requests in the order they came, `batches` the sizes of the batches.

    Raises ReplayMiss, with the prompt, where nothing is written for a request; SetupError for replies that are none.
    """

    name = "script"
    local = True

    def __init__(
        self,
        replies: Recorded = (),
        *,
        batched: bool = True,
        scores: Callable[[Request], Sequence[float]] | bool = False,
    ) -> None:
        self.batched = batched
        self.scores = bool(scores)
        self.requests: list[Request] = []
        self.batches: list[int] = []
        self._score = scores if callable(scores) else None
        self._replies = replies if callable(replies) else None
        self._by_key, self._in_order = (None, iter(())) if callable(replies) else _read(replies)
        self._queues: dict[Any, Iterator[Written]] = {}
        self._lock = threading.Lock()  # hosted programs may ask from several threads

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        with self._lock:
            self.requests += requests
            self.batches.append(len(requests))
            return [_as_reply(self._written(request)) for request in requests]

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        """So that concurrent programs are answered in the order they ask."""
        return self.generate(requests)

    def _written(self, request: Request) -> Written:
        if request.continuations and self._score:
            return Reply(scores=tuple(self._score(request)))
        if self._replies:
            return self._replies(request)
        if self._by_key is None:
            return _next(self._in_order, request)
        for key, written in self._by_key.items():
            if _fits(key, request):
                if isinstance(written, str | Reply | ModelError):
                    return written
                return _next(self._queues.setdefault(key, iter(written)), request)
        raise _miss(request)


def replay(program: Program[T], recorded: Recorded | Path, *, model: str = "") -> T:
    """A program's result with recorded replies, as Script reads them, or those in a file or run folder (a Path).

    The exchanges of `traced` are an exact recording, and so is what Cached kept, also of a model whose lacks were
    emulated or left out (but for failures that are not kept); where two models answered the same,
    `model` says whose answers count, by a part of how it is called. Raises ReplayMiss for a prompt not among them.
    """
    try:
        answers = _recorded(recorded, model)
    except PromptlabError:  # there is none, or no such model in it
        discard(program)
        raise
    return run(program, answers)


def _recorded(recorded: Recorded | Path, model: str) -> Backend:
    if isinstance(recorded, Path):
        from promptlab.backends.wrappers.recorded import Recorded as Kept

        return Kept(recorded, model=model)
    if isinstance(recorded, str):
        raise SetupError(f"A recording is a file or a folder of a run (pass Path({recorded!r})), or a list of replies.")
    return Script(recorded, scores=True)


def _read(replies: Any) -> tuple[dict[Any, Any] | None, Iterator[Written]]:
    """What is written by key, and what in order; one of them is empty."""
    if isinstance(replies, str | Reply | ModelError) or not isinstance(replies, Iterable):
        raise SetupError(f"A script is a list of replies, a mapping or a function, got {replies!r}. Put it in a list.")
    if not isinstance(replies, Mapping):
        in_order = iter(replies)
        first = next(in_order, ())
        if not isinstance(first, tuple):
            return None, chain([first], in_order)
        replies = [first, *in_order] if first else []  # exchanges
    by_key = dict(replies)
    for key, written in by_key.items():
        if not isinstance(written, str | Reply | ModelError | Sequence):
            raise SetupError(f"The reply to {key!r} is a text, a Reply, a ModelError or several; got {written!r}.")
    return by_key, iter(())


def _fits(key: Any, request: Request) -> bool:
    if isinstance(key, str):
        return key == _prompt(request)
    return bool(key == request if isinstance(key, Request) else key(request))


def _next(written: Iterator[Written], request: Request) -> Written:
    for each in written:
        return each
    raise _miss(request)


def _as_reply(written: Written) -> Reply | ModelError:
    return Reply(written) if isinstance(written, str) else written


def _prompt(request: Request) -> str:
    """The last user message; a chat without one has its last message's text."""
    said = [message.content for message in request.messages if message.role == "user"]
    return said[-1] if said else request.messages[-1].content if request.messages else ""


def _miss(request: Request) -> ReplayMiss:
    prompt = textwrap.shorten(_prompt(request), 200, placeholder=" …")
    return ReplayMiss(f"Nothing is recorded for the prompt {prompt!r} (branch {request.branch}).")
