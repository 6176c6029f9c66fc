"""What models behind HTTP share: a key that never shows, connections for each event loop, errors by their kind."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol
from urllib.parse import urlsplit

from promptlab.backends import needs
from promptlab.backends.failures import failure, said
from promptlab.backends.http import Connections, events, finished, is_loopback, text_of
from promptlab.backends.prices import Price, given_price, list_price
from promptlab.backends.wire.common import Json, parsed, reading
from promptlab.errors import ModelError, SetupError, Unauthorized
from promptlab.options import check
from promptlab.runners import in_private_loop
from promptlab.runners.senders import alike
from promptlab.types import Backend, Reply, Request, Usage

if TYPE_CHECKING:
    from promptlab.backends.batches import Batches
    from promptlab.backends.wrappers.wrapper import Wrapper

TIMEOUT_S = 600.0


class Wire(Protocol):
    """A wire format: how its answers are read, and put together from the events of a stream."""

    def read(self, answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]: ...
    async def collected(self, events: AsyncIterator[Mapping[str, Any]], /) -> Json: ...


class Call(NamedTuple):
    """What is posted, where, and in which format the answer comes."""

    path: str
    body: Json
    wire: Wire
    streamed: bool = False


AT_ONCE = 16  # requests that are in flight where one call for several gave fewer
NOTHING = Usage()
SHORTEST_KEY = 8  # letters; "x", "none" and "EMPTY" are what one gives to servers that want none
# Of a backend's attributes, those that change no answer.
HOW = {"timeout_s", "heard", "can", "scores", "native_n", "context_tokens", "price"}


class Hosted(ABC):
    """A model asked over HTTP, each request once.

    A subclass says what to post for requests that are equal but for their branch, and how the answer is read. Whatever
    goes wrong with one is a ModelError of its kind; only a key that is refused, or a model that is not there, ends the
    run. `heard`, if set, is called with the headers (names in lower case) of every response.
    """

    batched = False
    scores = False
    native_n = False
    can: frozenset[str]
    kind: ClassVar[str]
    key_variable: ClassVar[str]
    url_variable: ClassVar[str]
    home: ClassVar[str]  # the provider's own base URL
    path: ClassVar[str] = ""  # what the SDK wants at the end of a base URL
    heard: Callable[[Mapping[str, str]], None] | None = None

    def __init__(
        self,
        name: str,
        key: str | None,
        timeout_s: float,
        context_tokens: int | None = None,
        usd_per_million: Mapping[str, float] | None = None,
    ) -> None:
        needs("aiohttp")
        name, url = name_and_url(name)
        if not name:
            raise SetupError(f"{type(self).__name__} needs the name of a model.")
        self.name, self.timeout_s = name, timeout_s
        self.url = address(url or os.environ.get(self.url_variable), self.path)
        if url and key is None and not self._is_home(self.url):
            key = ""  # what the environment holds is for the provider, or for the address that it holds too
        self._key = key_from(key, self.key_variable, needed=self.url is None)
        if context_tokens is not None:
            self.context_tokens = context_tokens
        if usd_per_million is not None:
            self.price = given_price(usd_per_million)
        self._pools: dict[asyncio.AbstractEventLoop, Connections] = {}
        self._refused: dict[bool, int] = {}  # the fewest replies in one call that were refused, greedy or not

    def _is_home(self, url: str | None) -> bool:
        """Whether an address is the provider's own, one of its regions included."""
        home, host = urlsplit(self.home).hostname or "", urlsplit(url or self.home).hostname or ""
        return host == home or host.endswith(f".{home}")

    @cached_property
    def price(self) -> Price | None:
        """What its tokens cost: as given, or on the provider's list if it is asked itself; None if nobody knows."""
        return list_price(self.kind, self.name) if self._is_home(self.url) else None

    @property
    def description(self) -> str:
        """What it is, for reports."""
        return repr(self)

    def __getstate__(self) -> dict[str, Any]:
        """Without the connections, which belong to event loops of this process: so a study may have several jobs."""
        return {**self.__dict__, "_pools": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pools={})

    def __repr__(self) -> str:
        at = f"@{self.url}" if self.url else ""
        return f"{self.kind}:{self.name}{at}"

    @property
    def local(self) -> bool:
        """Whether the URL is one of this machine's own."""
        return self.url is not None and is_loopback(self.url)

    @property
    def identity(self) -> dict[str, Any]:
        """All of it that can change an answer: every option but those that only say how to get there."""
        options = {name: value for name, value in vars(self).items() if name[0] != "_" and name not in HOW}
        return {"kind": self.kind, **options}

    @abstractmethod
    def call(self, request: Request, n: int) -> Call:
        """What to post for n replies to a request; the provider may give fewer."""

    @property
    def batch_api(self) -> Batches | None:
        """The provider's batch jobs, where it has them."""
        return None

    def as_batch(self, folder: str | os.PathLike[str], *paced: Wrapper) -> Backend:
        """The model asked in batch jobs that are noted in a folder; live, through `paced`, where it has to be."""
        from promptlab.backends.wrappers.batch_jobs import as_batch

        return as_batch(self, folder, paced)

    @abstractmethod
    def client(self) -> Any:
        """A client of the provider's SDK, for what is rare: lists of models, batches. It is the caller's to close."""

    def headers(self) -> dict[str, str]:
        """Those that the SDK would send."""
        return {
            "Authorization": f"Bearer {self._key or 'none'}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"promptlab/{version('promptlab')}",
        }

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return in_private_loop(self._alone(requests))

    async def _alone(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        try:
            return await self.agenerate(requests)
        finally:
            await self.aclose()

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        if len(requests) == 1:
            return await self._sent(requests[0], 1)
        if self.native_n and alike(requests):
            return await self._several(requests)
        return list(await asyncio.gather(*(self._one(request) for request in requests)))

    async def _several(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        """Equal requests in one call; what the provider leaves out of it is asked again, one by one."""
        fewer = len(requests) < self._refused.get(requests[0].temperature == 0, math.inf)
        replies = await self._together(requests) if fewer else []
        if len(replies) == 1 and isinstance(replies[0], ModelError) and replies[0].reply is None:
            return replies * len(requests)
        missing = requests[len(replies) :]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            replies += await asyncio.gather(*(self._one(request) for request in some))
        return replies[: len(requests)]

    async def _together(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        """What one call for all of them gives; where the server refuses to give several, what one of them does.

        That it refuses is remembered: vLLM where it is greedy, OpenAI for more than 128, others always.
        """
        replies = await self._sent(requests[0], n := len(requests))
        first = replies[0]
        if len(replies) > 1 or type(first) is not ModelError or first.reply is not None or first.maybe_served:
            return replies
        alone = await self._one(requests[0])
        if isinstance(alone, Reply) or alone.reply is not None:
            greedy = requests[0].temperature == 0
            self._refused[greedy] = min(n, self._refused.get(greedy, n))
        return [alone]

    async def _one(self, request: Request) -> Reply | ModelError:
        return (await self._sent(request, 1))[0]

    async def _sent(self, request: Request, n: int) -> list[Reply | ModelError]:
        if request.max_tokens == 0 and not request.continuations:
            return [Reply(finish="length")] * n  # which no provider has to be asked for
        try:
            call, started = self.call(request, n), time.perf_counter()
            answer = await self.answer(call)
            took = time.perf_counter() - started
            with reading():
                return [self._finished(reply, took) for reply in call.wire.read(answer, request)]
        except ModelError as error:
            return [self._cleaned(error)]

    def _finished(self, reply: Reply | ModelError, seconds: float) -> Reply | ModelError:
        """With what it took and, where that is known, cost; and without the key."""
        if isinstance(reply, Reply):
            return replace(self.paid(reply), seconds=seconds)
        if reply.reply is not None:
            reply.reply = self.paid(reply.reply)
        return self._cleaned(reply)

    def paid(self, reply: Reply) -> Reply:
        """The reply with what its tokens cost."""
        price = self.price
        if price is None or reply.usage.cost_usd is not None or reply.usage == NOTHING:
            return reply
        return replace(reply, usage=replace(reply.usage, cost_usd=price.cost_usd(reply.usage)))

    async def answer(self, call: Call) -> Json:
        """The answer to a call as JSON, whole or collected from its stream. Raises a ModelError of its kind.

        What is nobody's but the set-up's fault, a refused key or an unknown model, is a SetupError.
        """
        async with self._connections().post(call.path, call.body, streamed=call.streamed) as response:
            if self.heard is not None:
                self.heard({name.lower(): value for name, value in response.headers.items()})
            if response.status >= 400:
                status, headers, text = response.status, response.headers, self.without_key(await text_of(response))
            elif not call.streamed:
                return self._parsed(await text_of(response), response.headers)
            else:
                with reading():
                    collected = await call.wire.collected(events(response, self.without_key))
                await finished(response)
                return collected
        if status == 401:
            raise Unauthorized(f"{self!r}: {said(status, text)} {self._about_key()}")
        if status == 404:
            raise SetupError(f"{self!r}: {said(status, text)} {await self._near()}")
        raise failure(status, headers, text)

    def _about_key(self) -> str:
        if self._key or self._is_home(self.url):
            return f"Is {self.key_variable} the right key?"
        return (
            f"The key in {self.key_variable} is not sent to an address that stands in a model's name: pass key=…, or "
            f"put the address into {self.url_variable}."
        )

    def _connections(self) -> Connections:
        loop = asyncio.get_running_loop()
        if (known := self._pools.get(loop)) is None:
            for ended in [other for other in list(self._pools) if other.is_closed()]:
                self._pools.pop(ended, None)
            known = self._pools[loop] = Connections(self.url or self.home, self.headers(), self.timeout_s)
        return known

    async def _near(self) -> str:
        """Whether there is such a model, as far as the server tells which there are."""
        names: list[str] = []
        with suppress(Exception):  # some servers have no such list
            async with asyncio.timeout(10), self.client() as client:
                names = [listed.id async for listed in client.models.list()]
        near = get_close_matches(self.name, names, n=3)
        there = f" Did you mean {' or '.join(near)}?" if near else f" It has {', '.join(names[:8])}." if names else ""
        return f"Is {self.name!r} a model there?{there}"

    def _cleaned(self, error: ModelError) -> ModelError:
        """Without the key, and without the exceptions and frames that led to it, which hold the key's header."""
        said = self.without_key(str(error))
        error.args = (said if said.startswith(repr(self)) else f"{self!r}: {said}",)
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)

    def _parsed(self, text: str, headers: Mapping[str, str]) -> Json:
        """A whole answer; what is quoted of one that cannot be read is without the key, and cut after that.

        Raises the error that stands in a reply's place, as OpenRouter tells what fails once a model has begun. (One of
        the Responses API has an error beside its output.)
        """
        try:
            answer = parsed(text)
        except ModelError:
            return parsed(self.without_key(text))
        if answer.get("error") and not (answer.get("choices") or answer.get("content") or "output" in answer):
            raise failure(None, headers, self.without_key(text))
        return answer

    def without_key(self, text: str) -> str:
        """What is said of a failure, without the key; one of a few letters is none, and part of any text."""
        return text.replace(self._key, "…") if len(self._key) >= SHORTEST_KEY else text

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()


def key_from(given: str | None, variable: str, *, needed: bool) -> str:
    """The key given, or that of the environment. Raises Unauthorized for none where one is needed, or a torn one."""
    key = (given if given is not None else os.environ.get(variable, "")).strip()
    if not key and needed:
        raise Unauthorized(
            f"No key: set {variable}, or pass key=…. Models that need none: tiny, and openai:NAME@URL on this machine."
        )
    if any(c.isspace() or not c.isprintable() for c in key) or not key.isascii():
        raise Unauthorized(
            f"The key in {variable} holds a space, a line break or another odd character: paste it again."
        )
    return key


def name_and_url(given: str) -> tuple[str, str]:
    """NAME@URL in its two parts. Names hold an @ too: what looks like no address behind one is the name's.

    USER:PASSWORD@HOST is the address's, which refuses it: nothing of a password becomes a name.
    """
    if whole := re.fullmatch(r"(.*?)@(\w+://.*|[^@]+:[^@]+@.*)", given):
        return whole[1], whole[2]
    name, at, url = given.rpartition("@")
    host = url.partition("/")[0]
    is_url = host.startswith("localhost") or ":" in host or "." in host
    return (name, url) if at and is_url else (given, "")


def address(url: str | None, path: str) -> str | None:
    """A base URL with the path that the SDK wants: "/v1" or none, whether the one given has it or not."""
    url = (url or "").strip()
    if not url:
        return None
    if any(sign in url for sign in "@?#"):  # before anything else is said of it, as it may hold a key
        raise SetupError("A server's address holds no user, password or query: pass the key as key=….")
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in url
    except ValueError:  # of its port, or of its host in brackets
        is_one = False
    if not is_one:
        raise SetupError(f"{url!r} is no address of a server; it looks like http://localhost:8000/v1.")
    trimmed = parts.path.rstrip("/")
    for door in ("/chat/completions", "/completions", "/responses", "/messages"):
        trimmed = trimmed.removesuffix(door)
    trimmed = trimmed.removesuffix("/v1") + path if trimmed in ("", "/v1") or not path else trimmed
    return f"{parts.scheme}://{parts.netloc}{trimmed}"


def wire_seed(request: Request) -> int | None:
    """The seed to send. One that several branches share is another in each, or they would all say the same."""
    if request.seed is None or len(request.branch) < 2:
        return request.seed
    digest = hashlib.sha256(repr((request.seed, request.branch)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
