"""Pages of the web, from hosts that are allowed, as text."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from promptlab.errors import SetupError, WrongCall
from promptlab.tool import Tool, tool
from promptlab.tools.python import shortened

REDIRECTS = (301, 302, 303, 307, 308)
TEXTUAL = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/ld+json")
MOST_REDIRECTS = 5
MOST_SHOWN = 16_000  # characters

Resolve = Callable[[str, int], list[str]]  # host, port -> addresses


def resolved(host: str, port: int) -> list[str]:
    """A host's addresses, as the system finds them."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Web:
    """Fetches pages from the hosts allowed ("example.org", or "*.example.org" for all beneath it).

    A connection goes to the very address that was looked at, which must be a public one, after every redirect anew:
    neither a redirect nor a name server leads to this machine or its network. `trusted` addresses are let through
    none the less, and `resolve` looks up names: both are for tests. Proxies are not used, and nothing is sent but GET.
    """

    hosts: Sequence[str]
    timeout_s: float = 20.0
    most_bytes: int = 2_000_000
    resolve: Resolve = resolved
    trusted: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.hosts or isinstance(self.hosts, str):
            raise SetupError(f"Fetching takes a list of the hosts that are allowed, got {self.hosts!r}.")

    def fetch(self, url: str) -> str:
        """The page's text. Raises WrongCall saying why there is none."""
        until = time.monotonic() + self.timeout_s
        for _ in range(MOST_REDIRECTS + 1):
            connection, path = self._connect(url, until)
            try:
                connection.request("GET", path, headers={"User-Agent": "promptlab", "Accept": "text/*"})
                answer = connection.getresponse()
                if answer.status in REDIRECTS and (location := answer.getheader("Location")):
                    url = urljoin(url, location)
                    continue
                if answer.status >= 400:
                    raise WrongCall(f"{url} answers {answer.status} {answer.reason}")
                return self._text(url, answer, connection, until)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, WrongCall):
                    raise
                raise WrongCall(f"{url} cannot be read: {error or type(error).__name__}") from None
            finally:
                connection.close()
        raise WrongCall(f"{url} is redirected more than {MOST_REDIRECTS} times")

    def _connect(self, url: str, until: float) -> tuple[http.client.HTTPConnection, str]:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise WrongCall(f"{url!r} is no address of a page: {error}") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise WrongCall(f"{url!r} is no address of a page: it begins with http:// or https:// and a host")
        if not self.allows(host):
            raise WrongCall(f"{host} is not among the hosts that may be asked: {', '.join(self.hosts)}")
        secure = parts.scheme == "https"
        port = port or (443 if secure else 80)
        address = self._public(host, port)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if any(ord(sign) <= 32 or ord(sign) > 126 for sign in path):
            raise WrongCall(f"{url!r} is no address of a page: spaces and other signs are written as %20 and the like")
        connection = http.client.HTTPConnection(host, port, timeout=left(until))
        try:
            connection.sock = socket.create_connection((address, port), timeout=left(until))
            if secure:
                connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
        except OSError as error:
            connection.close()
            raise WrongCall(f"{host} cannot be reached: {error}") from None
        return connection, path

    def allows(self, host: str) -> bool:
        """Whether a host is among those allowed."""
        name = host.lower()
        beneath = (allowed[1:].lower() for allowed in self.hosts if allowed.startswith("*."))
        return name in {allowed.lower() for allowed in self.hosts} or any(name.endswith(end) for end in beneath)

    def _public(self, host: str, port: int) -> str:
        """An address of the host's, if all are public: one that is not could be reached the next time."""
        try:
            addresses = self.resolve(host, port)
        except OSError as error:
            raise WrongCall(f"{host} is not found: {error}") from None
        for address in addresses:
            if not is_public(address) and address not in self.trusted:
                raise WrongCall(f"{host} leads to a private address, which is not asked")
        if not addresses:
            raise WrongCall(f"{host} has no address")
        return addresses[0]

    def _text(
        self, url: str, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, until: float
    ) -> str:
        kind = answer.headers.get_content_type()
        if not kind.startswith(TEXTUAL):
            raise WrongCall(f"{url} is no text but {kind}")
        parts, size = [b""], 0
        while size <= self.most_bytes:
            if connection.sock is not None:
                connection.sock.settimeout(left(until))  # a server that drips makes no page last for ever
            part = answer.read1(65536)
            if not part:
                break
            parts.append(part)
            size += len(part)
        content = b"".join(parts)[: self.most_bytes]
        charset = answer.headers.get_content_charset() or "utf-8"
        try:
            text = content.decode(charset, errors="replace")
        except LookupError:
            text = content.decode("utf-8", errors="replace")
        shown = plain(text) if "html" in kind else text
        cut = f"\n[only the first {self.most_bytes:,} bytes]" if size > self.most_bytes else ""
        return shortened(shown, MOST_SHOWN) + cut


def left(until: float) -> float:
    """The seconds that are left. Raises TimeoutError if none are."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("it takes too long")
    return seconds


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where an IPv6 one holds an IPv4 one."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        held = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            held = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if held is not None:
            return is_public(str(held))
    return found.is_global and not found.is_multicast


def fetch(hosts: Iterable[str] | str) -> Tool:
    """A tool that fetches pages from these hosts: a list, or names separated by commas."""
    named = hosts.split(",") if isinstance(hosts, str) else list(hosts)
    return fetching(Web([host.strip() for host in named if host.strip()]))


def fetching(web: Web) -> Tool:
    """A tool that fetches pages by these rules."""

    def fetch(url: str) -> str:
        """Fetches a page of the web, as text.

        Args:
            url: the address, beginning with https://
        """
        return web.fetch(url)

    return tool(fetch)


class Plain(HTMLParser):
    """A page's text without its markup, scripts and styles."""

    BLOCKS = frozenset("p div br li tr h1 h2 h3 h4 h5 h6 table ul ol section article header footer title pre".split())
    HIDDEN = frozenset({"script", "style", "noscript", "template"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in self.HIDDEN
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in self.HIDDEN))
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def plain(html: str) -> str:
    """The text of a page, a line a block."""
    parser = Plain()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)
