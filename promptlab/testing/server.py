"""A server on this machine that speaks the providers' wire formats and answers from a backend."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

from promptlab.backends.script import Recorded, Script
from promptlab.errors import SetupError
from promptlab.testing.answering import Answering, Page, Received, Stream
from promptlab.testing.batch_jobs import Jobs
from promptlab.testing.faults import Fault
from promptlab.testing.limited import Limited
from promptlab.testing.limits import RateLimits
from promptlab.types import Backend


class FakeServer:
    """OpenAI's and Anthropic's APIs on 127.0.0.1, for tests: `with FakeServer(["hi"]) as server:`.

    Answers come from `replies`, as Script reads them, or from any backend. `server.url` is Anthropic's base URL, with
    "/v1" after it OpenAI's. Spoken are chat completions, responses, completions, messages and token counts (of words,
    where the backend has no count of its own), streamed or not, and the list of models: `models`, or any.
    `faults` go wrong one by one: every POST, in order of arrival, takes the next, None being none.
    `received` are all requests so far, in order of arrival. Batch jobs of both providers go as `jobs` says.
    `limits` are enforced: what is beyond them gets a 429, and every answer has the provider's headers that tell them.

    A backend's ModelError is a 500, Unavailable a 503, Unsupported a 400, ContextOverflow the provider's own 400;
    errors.Refused is the provider's way to decline. A reply's `opaque` is told as Anthropic's blocks or as the output
    items of responses.
    Parameters that a Request has no place for are ignored. Raises SetupError for `url` outside of the `with`.
    """

    def __init__(
        self,
        replies: Recorded | Backend = (),
        *,
        faults: Iterable[Fault | None] = (),
        models: Iterable[str] = (),
        jobs: Jobs | None = None,
        limits: RateLimits | None = None,
    ) -> None:
        self.backend: Backend = replies if isinstance(replies, Backend) else Script(replies)
        self.jobs = jobs or Jobs()
        answering = Answering(self.backend, tuple(models), self.jobs)
        self._answering = answering if limits is None else Limited(answering, limits)
        self._faults = iter(faults)
        self._received: list[Received] = []
        self._arriving = threading.Lock()
        self._listening: _Listening | None = None

    @property
    def url(self) -> str:
        if self._listening is None:
            raise SetupError("A FakeServer has an address while it runs: `with FakeServer(…) as server:`.")
        return f"http://127.0.0.1:{self._listening.port}"

    @property
    def received(self) -> list[Received]:
        with self._arriving:
            return list(self._received)

    def __enter__(self) -> FakeServer:
        if self._listening is not None:
            raise SetupError("This FakeServer runs already; make another one.")
        self._listening = _listening(self)
        threading.Thread(target=self._listening.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    def _arrived(self, received: Received) -> tuple[int, Fault]:
        """The request's number, from 1, and what goes wrong with it."""
        with self._arriving:
            self._received.append(received)
            fault = next(self._faults, None) if received.method == "POST" else None
            return len(self._received), fault or Fault()


_HAD: set[int] = set()  # the ports that servers of this process had


def _listening(fake: FakeServer) -> _Listening:
    """At an address of its own, so that no client takes it for one before: a pause that one asked for is kept."""
    while (made := _Listening(fake)).port in _HAD:
        made.server_close()
    _HAD.add(made.port)
    return made


class _Listening(ThreadingTCPServer):
    """The socket, and the connections that are open. A plain HTTPServer would look its own name up in the DNS."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self._open: set[Any] = set()
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._open.discard(request)
            super().shutdown_request(request)
            self._changed.notify_all()

    def close(self) -> None:
        """Hangs up on everybody, and waits a little for a backend that is still busy answering."""
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._open:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout=2.0)


class _Connection(BaseHTTPRequestHandler):
    """One client's connection, kept open from request to request."""

    server: _Listening
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and content are written apart

    def handle(self) -> None:
        with suppress(ConnectionError):  # clients hang up as they please
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """A test's output is not the place."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        content = self._content()
        headers = {name.lower(): value for name, value in self.headers.items()}
        url, body = urlsplit(self.path), _parsed(content)
        received = Received(url.path, headers, body, self.command, url.query, b"" if body is not None else content)
        fake = self.server.fake
        number, fault = fake._arrived(received)
        if fault.what == "drop" or (fault.what == "slow" and self._hung_up_within(fault.seconds)):
            self.close_connection = True
            return
        answer = fake._answering(received, number, fault)
        self._send_page(answer) if isinstance(answer, Page) else self._send_stream(answer)

    def _content(self) -> bytes:
        """A request's body, whole or, as clients send what they make bit by bit, in chunks."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0].strip() or b"0", 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()  # the end of its line
        while self.rfile.readline().strip():
            pass  # headers that come after the content
        return b"".join(chunks)

    def _hung_up_within(self, seconds: float) -> bool:
        """Waits until the time is up or one of the two ends, this server's included, has hung up."""
        self.connection.settimeout(max(seconds, 0.001))  # 0 would mean something else
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(None)

    def _send_page(self, page: Page) -> None:
        self.send_response(page.status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(page.content)))
        self.end_headers()
        self.wfile.write(page.content)

    def _send_stream(self, stream: Stream) -> None:
        """Each event is a chunk, sent at once."""
        self.send_response(200)
        for name, value in {"content-type": "text/event-stream", "transfer-encoding": "chunked"}.items():
            self.send_header(name, value)
        for name, value in stream.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for event in stream.events:
            content = event.encoded()
            self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
