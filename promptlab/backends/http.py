"""JSON posted over HTTP, and what comes back: whole, or as server-sent events. Nothing is sent a second time."""

from __future__ import annotations

import asyncio
import codecs
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from promptlab.backends.failures import failure
from promptlab.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

REDIRECTS = 5
LARGE = 1 << 20  # bytes of a body; aiohttp warns of more in one piece
LONGEST_HEADER = 1 << 16
IDLE_S = 4.0  # a connection is kept; uvicorn, which vLLM's server is, closes its end after 5
AFTERMATH_S = 0.1  # how long the last bytes of a stream are waited for, when all is said


class Connections:
    """One event loop's connections to a server: as many as there are requests in flight, kept open for the next.

    On aiohttp, as the pool under the SDKs takes ten times the CPU once 200 requests are in flight (httpx issue 3215).
    `timeout_s` is for a whole answer; of a stream, for its beginning and for every pause in it.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        import aiohttp

        self.url = url
        self._whole = aiohttp.ClientTimeout(total=timeout_s)
        self._streamed = aiohttp.ClientTimeout(connect=timeout_s, sock_read=timeout_s)
        self._broken = (aiohttp.ClientError, OSError)
        secure = url.startswith("https:")
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, ssl=certificates() if secure else True, keepalive_timeout=IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=LONGEST_HEADER,
            # Not by aiohttp's trust_env, which asks threads at every request and sends what .netrc holds.
            proxy=proxy_for(url),
        )

    @asynccontextmanager
    async def post(
        self, path: str, body: Mapping[str, Any], *, streamed: bool = False
    ) -> AsyncIterator[ClientResponse]:
        """The response to a JSON body. Raises Unavailable where the connection breaks or time is up.

        A redirect is followed where the body may be sent again and the server is the same: prompts and the key go to
        no other. Cancelled, or left before its end, it closes its connection and no other.
        """
        # In ASCII: no text, not half a surrogate pair either, can fail to be encoded.
        content, url = json.dumps(body, separators=(",", ":")).encode("ascii"), self.url + path
        timeout = self._streamed if streamed else self._whole
        try:
            for _ in range(REDIRECTS):
                data = content if len(content) <= LARGE else io.BytesIO(content)
                async with self._session.post(url, data=data, timeout=timeout, allow_redirects=False) as response:
                    if 300 <= response.status < 400:
                        url = further(response)
                        continue
                    yield response
                    return
        except self._broken as error:
            told = " ".join(str(error).split())[:500]
            kind = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise Unavailable(f"{kind}: {told}" if told else kind) from None
        raise Malformed(f"the server sends from one address to the next, at last to {url}")

    async def close(self) -> None:
        await self._session.close()

    def __del__(self) -> None:
        """Of an event loop that ended before `close`, or a backend that nobody has any more: aiohttp would complain."""
        if (session := vars(self).get("_session")) is not None and not session.closed:
            connector = session.connector
            session.detach()
            with suppress(StopIteration):
                connector.close().send(None)  # up to where it would wait for the connections to be closed


@cache
def certificates() -> Any:
    """Those that the SDKs trust, read once for all connections: it takes longer than many a request."""
    import httpx2

    return httpx2.create_ssl_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY, …) or the system has for a URL.

    None for this machine's own: what is local stays here.
    """
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    known = getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def further(response: ClientResponse) -> str:
    """Where a redirect leads. Raises Malformed for another server, or where the body would be left behind."""
    from yarl import URL

    to = response.url.join(URL(response.headers.get("location", "")))
    if response.status not in (307, 308) or to.origin() != response.url.origin():
        raise Malformed(f"HTTP {response.status}: the server sends on to {to}; if that is right, give that address")
    return str(to)


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def text_of(response: ClientResponse) -> str:
    return (await response.read()).decode("utf-8", "replace")


async def events(response: ClientResponse, clean: Callable[[str], str]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream of events, up to "[DONE]". Raises an error told in the stream, by its kind.

    `clean` is what takes the key out of a text.
    """
    if response.content_type in ("text/html", "application/json"):
        text = clean(await text_of(response))
        raise Malformed(f"the server's answer is no stream of events but begins {text[:80]!r}")
    async for name, said in named(response.content.iter_any()):
        if said.strip() == "[DONE]":
            return
        try:
            event = json.loads(said)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise Malformed(f"an event of the stream is no JSON object but begins {clean(said)[:80]!r}")
        if name == "error" or event.get("error"):
            raise failure(None, {}, clean(said))
        yield event


async def named(chunks: AsyncIterable[bytes]) -> AsyncIterator[tuple[str, str]]:
    """Names and data of server-sent events (WHATWG HTML, 9.2.6), however their bytes are cut.

    An event that the stream ends in is given too: a reader of its JSON will see whether it is whole.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")("replace"), translate=True)
    name, data, rest = "", list[str](), ""
    async for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        for line in lines:
            if line:
                name = read_line(line, name, data)
                continue
            if data:
                yield name, "\n".join(data)
            name, data = "", []
    if rest := rest + decoder.decode(b"", final=True):
        name = read_line(rest, name, data)
    if data:
        yield name, "\n".join(data)


def read_line(line: str, name: str, data: list[str]) -> str:
    """Adds what a line says to an event's data; the event's name after it. Comments begin with a colon."""
    field, _, value = line.partition(":")
    if field == "data":
        data.append(value.removeprefix(" "))
    return value.removeprefix(" ") if field == "event" else name


async def finished(response: ClientResponse) -> None:
    """Reads the end of a stream that has said all: only then its connection serves another request."""
    with suppress(TimeoutError):  # the server keeps it open: it will be closed
        async with asyncio.timeout(AFTERMATH_S):
            async for _ in response.content.iter_any():
                pass
