"""What models behind HTTP share: a key that never shows, a client for each event loop, and errors by their kind."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from promptlab.errors import ContextOverflow, ModelError, Refused, SetupError, Unauthorized, Unavailable
from promptlab.options import check
from promptlab.runners import in_private_loop
from promptlab.runners.senders import alike
from promptlab.types import Reply, Request

TIMEOUT_S = 600.0
HTTP = {"openai", "anthropic", "httpx2", "httpx"}  # packages whose errors tell of a failed request
OVERFLOWS = ("context_length_exceeded", "prompt is too long", "maximum context length", "context window")


class Hosted(ABC):
    """A model asked over HTTP with its provider's SDK, each request once: the SDK's own retries are off.

    A subclass makes the client, and sends requests that are equal but for their branch. Whatever goes wrong with one
    is a ModelError of its kind; only a key that is refused, or a model that is not there, ends the run.
    """

    batched = False
    scores = False
    native_n = False
    can: frozenset[str]
    kind: ClassVar[str]
    key_variable: ClassVar[str]
    url_variable: ClassVar[str]
    path: ClassVar[str] = ""  # what the SDK wants at the end of a base URL

    def __init__(self, name: str, key: str | None, timeout_s: float) -> None:
        name, _, url = name.partition("@")
        if not name:
            raise SetupError(f"{type(self).__name__} needs the name of a model.")
        self.name, self.timeout_s = name, timeout_s
        self.url = address(url or os.environ.get(self.url_variable), self.path)
        self._key = key_from(key, self.key_variable, needed=self.url is None)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Without the clients, which belong to the event loops of this process: so a study may have several jobs."""
        return {**self.__dict__, "_clients": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _clients=WeakKeyDictionary())

    def __repr__(self) -> str:
        at = f"@{self.url}" if self.url else ""
        return f"{self.kind}:{self.name}{at}"

    @property
    def local(self) -> bool:
        """Whether the URL is one of this machine's own."""
        return self.url is not None and is_loopback(self.url)

    @abstractmethod
    def client(self) -> Any:
        """A client of the provider's SDK for the running event loop."""

    @abstractmethod
    async def send(self, client: Any, request: Request, n: int) -> list[Reply | ModelError]:
        """n replies to a request, fewer if the provider gives fewer. May raise whatever the SDK raises."""

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return in_private_loop(self._alone(requests))

    async def _alone(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        try:
            return await self.agenerate(requests)
        finally:
            await self.aclose()

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        check(self, requests)
        if self.native_n and len(requests) > 1 and alike(requests):
            return await self._several(requests)
        return list(await asyncio.gather(*(self._one(request) for request in requests)))

    async def _several(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        """Equal requests in one call; what the provider leaves out of it is asked again, one by one.

        A server may also refuse to give several: vLLM where it is greedy, others always.
        """
        replies = await self._sent(requests[0], len(requests))
        if len(replies) == 1 and type(replies[0]) is ModelError:
            replies = [await self._one(requests[0])]
        if len(replies) == 1 and isinstance(replies[0], ModelError):
            return replies * len(requests)
        missing = requests[len(replies) :]
        return [*replies[: len(requests)], *await asyncio.gather(*(self._one(request) for request in missing))]

    async def _one(self, request: Request) -> Reply | ModelError:
        return (await self._sent(request, 1))[0]

    async def _sent(self, request: Request, n: int) -> list[Reply | ModelError]:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self.client()
        client = self._clients[loop]
        try:
            return await self.send(client, request, n)
        except ModelError as error:
            return [error]
        except Exception as error:
            if getattr(error, "status_code", None) == 404:
                raise SetupError(f"{self._told(error)} {await self._near(client)}") from None
            return [self._failure(error)]

    async def _near(self, client: Any) -> str:
        """Whether there is such a model, as far as the server tells which there are."""
        names: list[str] = []
        with suppress(Exception):  # some servers have no such list
            async with asyncio.timeout(10):
                names = [listed.id async for listed in client.models.list()]
        near = get_close_matches(self.name, names, n=3)
        there = f" Did you mean {' or '.join(near)}?" if near else f" It has {', '.join(names[:8])}." if names else ""
        return f"Is {self.name!r} a model there?{there}"

    def _told(self, error: Exception) -> str:
        """What the SDK's exception says, in a line and without the key."""
        return self.without_key(f"{self!r}: {' '.join(str(error).split())[:500]}")

    def _failure(self, error: Exception) -> ModelError:
        """What the SDK raised, as an error of ours without the key. Raises what is nobody's but the set-up's fault."""
        response = getattr(error, "response", None)
        status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
        told = self._told(error)
        if status in (401, 403) or type(error).__name__ == "AuthenticationError":
            raise Unauthorized(f"{told} Is {self.key_variable} the right key?") from None
        if not {kind.__module__.partition(".")[0] for kind in type(error).__mro__} & HTTP:
            raise error  # a bug, here or in the SDK, and not to be hidden
        failure = kind_of(error, status, told)
        failure.__cause__ = None
        return failure

    def without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()


@cache
def certificates() -> Any:
    """The operating system's, read once for all clients: it takes longer than many a request."""
    import httpx2

    return httpx2.create_ssl_context()


def kind_of(error: Any, status: int | None, told: str) -> ModelError:
    """The kind of failure that an SDK's exception is."""
    body = str(getattr(error, "body", None) or getattr(getattr(error, "response", None), "text", "")).lower()
    kind = str(getattr(error, "type", "") or "")
    if any(sign in f"{told} {body}".lower() for sign in OVERFLOWS) or status == 413:
        return ContextOverflow(told)
    if "content_filter" in body or "content_policy" in body:
        return Refused(told)
    busy = status is None or status in (408, 409, 429) or status >= 500 or kind in ("overloaded_error", "api_error")
    if busy and "insufficient_quota" not in body:
        return Unavailable(told, retry_after_s=retry_after(getattr(error, "response", None)))
    return ModelError(told)


def retry_after(response: Any) -> float | None:
    """What a response says of when to ask again, in seconds from when it was sent; never negative.

    A date is compared with the server's own clock, its Date header, where there is one: ours may be wrong.
    """
    headers: Mapping[str, str] = getattr(response, "headers", {})
    said, milliseconds = headers.get("retry-after", ""), headers.get("retry-after-ms", "")
    for number, unit in ((milliseconds, 0.001), (said, 1.0)):
        with suppress(ValueError):
            return max(0.0, float(number) * unit)
    with suppress(ValueError):
        there = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(said) - there).total_seconds())
    return None


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


def address(url: str | None, path: str) -> str | None:
    """A base URL with the path that the SDK wants: "/v1" or none, whether the one given has it or not."""
    if not url:
        return None
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(f"{url!r} is no address of a server; it looks like http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query:
        raise SetupError("A server's address holds no user, password or query: pass the key as key=….")
    trimmed = parts.path.rstrip("/")
    trimmed = trimmed.removesuffix("/v1") + path if trimmed in ("", "/v1") or not path else trimmed
    return f"{parts.scheme}://{parts.netloc}{trimmed}"


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def wire_seed(request: Request) -> int | None:
    """The seed to send. One that several branches share is another in each, or they would all say the same."""
    if request.seed is None or len(request.branch) < 2:
        return request.seed
    digest = hashlib.sha256(repr((request.seed, request.branch)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
