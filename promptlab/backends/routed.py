"""Several models behind one door: a request says which of them it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from promptlab.errors import ModelError
from promptlab.options import OPTIONS, UNSET, takes
from promptlab.runners import check_backend, in_private_loop
from promptlab.runners.senders import generated
from promptlab.runners.step import checked
from promptlab.types import Backend, Reply, Request

Replies = list[Reply | ModelError]
SAMPLING = ("temperature", "top_p", "seed")


class Routed:
    """A backend that hands each request to the model it is for: `ask(…, to="proposer")`.

    It is `backend` in all but that requests whose `to` is the name of one of `others` go there. A program that names a
    model which is not here, or runs on a plain backend, asks `backend`: one model can do all the parts.
    """

    def __init__(self, backend: Backend, **others: Backend) -> None:
        for name, each in {"backend": backend, **others}.items():
            check_backend(each, f"Routed({name}=…)")
        self.backend: Any = backend
        self.others: dict[str, Any] = others

    def __getattr__(self, name: str) -> Any:
        if name in ("backend", "others"):  # not there yet: while it is being unpickled
            raise AttributeError(name)
        if name == "agenerate" and not self.backend.batched:
            return self._agenerate
        if name in ("agenerate", "native_n", "identity", "as_batch", "ledger"):  # true of one model alone
            raise AttributeError(name)
        return getattr(self.backend, name)

    def __repr__(self) -> str:
        return f"Routed({self.backend!r}, {', '.join(f'{name}={each!r}' for name, each in self.others.items())})"

    @property
    def can(self) -> frozenset[str]:
        """What any of them can be asked for; each sees to its own requests."""
        return frozenset().union(*(getattr(each, "can", OPTIONS) for each in (self.backend, *self.others.values())))

    def generate(self, requests: Sequence[Request]) -> Replies:
        replies: dict[int, Reply | ModelError] = {}
        for model, places in self._by_model(requests):
            answered = self._answered(model, [self._sent(model, requests[i]) for i in places])
            replies |= dict(zip(places, answered, strict=True))
        return [replies[i] for i in range(len(requests))]

    async def _agenerate(self, requests: Sequence[Request]) -> Replies:
        replies: dict[int, Reply | ModelError] = {}

        async def from_one(model: Any, places: list[int]) -> None:
            sent = [self._sent(model, requests[i]) for i in places]
            if hasattr(model, "agenerate"):
                answered = await model.agenerate(sent)
            else:
                answered = await asyncio.to_thread(generated, model, sent)
            replies.update(zip(places, checked(model, sent, answered), strict=True))

        await asyncio.gather(*(from_one(model, places) for model, places in self._by_model(requests)))
        return [replies[i] for i in range(len(requests))]

    async def aclose(self) -> None:
        for each in (self.backend, *self.others.values()):
            if hasattr(each, "aclose"):
                await each.aclose()

    def _sent(self, model: Any, request: Request) -> Request:
        """A request as a model gets it: another than the program's own, without sampling options it does not take."""
        if model is self.backend:
            return request
        left_out = {name: UNSET[name] for name in SAMPLING if not takes(model, name)}
        return replace(request, **left_out)

    def _by_model(self, requests: Sequence[Request]) -> list[tuple[Any, list[int]]]:
        places: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            places.setdefault(request.to if request.to in self.others else "", []).append(i)
        return [(self.others.get(name, self.backend), where) for name, where in places.items()]

    @staticmethod
    def _answered(model: Any, requests: list[Request]) -> Replies:
        """What a model answers in this thread: a hosted one to all of them at once."""
        if model.batched or not hasattr(model, "agenerate"):
            return checked(model, requests, model.generate(requests))

        async def one(request: Request) -> Reply | ModelError:
            return checked(model, [request], await model.agenerate([request]))[0]

        async def each() -> Replies:
            try:
                return await asyncio.gather(*map(one, requests))
            finally:
                if hasattr(model, "aclose"):
                    await model.aclose()

        return in_private_loop(each())
