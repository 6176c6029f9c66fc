"""Pages of the web, from hosts that are allowed, as text."""

from __future__ import annotations

import codecs
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from urllib.parse import urljoin, urlsplit

from promptlab.errors import SetupError, WrongCall
from promptlab.tool import Tool, tool
from promptlab.tools.python import shortened

REDIRECTS = (301, 302, 303, 307, 308)
NOT_OF_PAGES = ("punycode", "idna", "undefined")  # what Python calls charsets too; the first takes hours for a page
TEXTUAL = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/ld+json")
MOST_REDIRECTS = 5
MOST_SHOWN = 16_000  # characters
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that is given out of IPv6

BLOCKS = frozenset("p div br li tr h1 h2 h3 h4 h5 h6 table ul ol section article header footer title pre".split())
HIDDEN = frozenset({"noscript", "template"})
# What is no text of a page: comments, scripts and styles, tags, declarations. None of them is looked at twice, so that
# a page of a million "<" is read in linear time, as Python's own parser of 3.11 does not; what does not end goes on to
# the end of the page, as browsers have it.
MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<raw>script|style)(?=[\s/>])[^>]*+(?<!/)>.*?(?:</(?P=raw)(?=[\s/>])[^>]*+>|\Z)"
    r"|<(?P<end>/?)(?P<tag>[a-z][^\s/>]*+)(?:[^>=]|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?+)*+(?:>|\Z)"
    r"|<[!?/][^>]*+(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)

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
        sockets: list[socket.socket] = []
        alarm = threading.Timer(self.timeout_s, hang_up, (sockets,))  # a server that drips does not last for ever
        alarm.start()
        try:
            for _ in range(MOST_REDIRECTS + 1):
                found, url = self._page_or_next(url, sockets, until)
                if found is not None:
                    break
            else:
                raise WrongCall(f"{url} is redirected more than {MOST_REDIRECTS} times")
            if time.monotonic() > until:  # what there is of it may be the half
                raise TimeoutError("it takes too long")
            return found
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() > until
            why = f"it takes more than {self.timeout_s:g} s" if late else str(error) or type(error).__name__
            raise WrongCall(f"{url} cannot be read: {why}") from None
        finally:
            alarm.cancel()

    def _page_or_next(self, url: str, sockets: list[socket.socket], until: float) -> tuple[str | None, str]:
        """The page's text and its address; or None, and the address that it is redirected to."""
        host, port, path, secure = self._parts(url)
        connection = http.client.HTTPConnection(host, port)
        try:
            connection.sock = socket.create_connection((self._public(host, port), port), timeout=self.timeout_s)
            if secure:
                trusted = ssl.create_default_context()
                connection.sock = trusted.wrap_socket(
                    connection.sock, server_hostname=host, do_handshake_on_connect=False
                )
            sockets.append(connection.sock)
            if time.monotonic() > until:  # nobody would hang up any more: the alarm was before
                raise TimeoutError("it takes too long")
            if isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            connection.request("GET", path, headers={"User-Agent": "promptlab", "Accept": "text/*"})
            answer = connection.getresponse()
            if answer.status in REDIRECTS and (location := answer.getheader("Location")):
                return None, urljoin(url, location)
            if answer.status >= 400:
                raise WrongCall(f"{url} answers {answer.status} {answer.reason}")
            return self._text(url, answer), url
        finally:
            connection.close()

    def _parts(self, url: str) -> tuple[str, int, str, bool]:
        """Host, port, path, and whether by TLS. Raises WrongCall for what is no page of a host that is allowed."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise WrongCall(f"{url!r} is no address of a page: {error}") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise WrongCall(f"{url!r} is no address of a page: it begins with http:// or https:// and a host")
        if not self.allows(host):
            raise WrongCall(f"{host} is not among the hosts that may be asked: {', '.join(self.hosts)}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not all(32 < ord(sign) < 127 for sign in path):
            raise WrongCall(f"{url!r} is no address of a page: spaces and other signs are written as %20 and the like")
        secure = parts.scheme == "https"
        return host, port or (443 if secure else 80), path, secure

    def allows(self, host: str) -> bool:
        """Whether a host is among those allowed."""
        name = host.lower()
        beneath = (allowed[1:].lower() for allowed in self.hosts if allowed.startswith("*."))
        return name in {allowed.lower() for allowed in self.hosts} or any(name.endswith(end) for end in beneath)

    def _public(self, host: str, port: int) -> str:
        """An address of the host's, if all are public: one that is not could be reached the next time."""
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError) as error:  # the latter for a label of no letter, or of more than 63
            raise WrongCall(f"{host} is not found: {error}") from None
        for address in addresses:
            if not is_public(address) and address not in self.trusted:
                raise WrongCall(f"{host} leads to a private address, which is not asked")
        if not addresses:
            raise WrongCall(f"{host} has no address")
        return addresses[0]

    def _text(self, url: str, answer: http.client.HTTPResponse) -> str:
        kind = answer.headers.get_content_type()
        if not kind.startswith(TEXTUAL):
            raise WrongCall(f"{url} is no text but {kind}")
        content = answer.read(self.most_bytes + 1)
        charset = answer.headers.get_content_charset() or "utf-8"
        try:
            known = codecs.lookup(charset).name not in NOT_OF_PAGES
            text = content[: self.most_bytes].decode(charset if known else "utf-8", errors="replace")
        except LookupError:
            text = content[: self.most_bytes].decode("utf-8", errors="replace")
        cut = f"\n[only the first {self.most_bytes:,} bytes]" if len(content) > self.most_bytes else ""
        return shortened(plain(text) if "html" in kind else text, MOST_SHOWN) + cut


def hang_up(sockets: list[socket.socket]) -> None:
    for each in sockets:
        with suppress(OSError):  # it is closed already
            each.shutdown(socket.SHUT_RDWR)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where an IPv6 one holds an IPv4 one."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        held = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            held = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if held is not None:
            return is_public(str(held))
        if found not in GLOBAL_UNICAST:  # site-local addresses among them, which Python takes for public
            return False
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


def plain(html: str) -> str:
    """The text of a page without its markup, scripts and styles, a line a block."""
    parts: list[str] = []
    hidden = at = 0
    for found in MARKUP.finditer(html):
        parts.append("" if hidden else characters(html[at : found.start()]))
        at, tag = found.end(), (found["tag"] or "").lower()
        if tag in BLOCKS:
            parts.append("\n")
        elif tag in HIDDEN and not found[0].endswith("/>"):
            hidden = max(0, hidden - 1) if found["end"] else hidden + 1
    parts.append("" if hidden else characters(html[at:]))
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)


def characters(text: str) -> str:
    """A text with what stands for characters, such as &lt;, as they are."""
    try:
        return unescape(text)
    except ValueError:  # a number of more digits than Python reads
        return text
