"""The ways to reach a model, each answered by the same written replies: what the contract is asked of."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promptlab import model
from promptlab.testing import FakeServer, Fault, Script

KEY = "sk-planted-0123456789"


@dataclass(frozen=True)
class Door:
    """A backend's spec with "URL" where the server's address goes, and its options; "script" needs no server."""

    name: str
    spec: str
    options: dict[str, Any]

    @property
    def hosted(self) -> bool:
        return self.spec != "script"

    @property
    def streams(self) -> bool:
        return bool(self.options.get("stream"))

    @property
    def chats(self) -> bool:
        return self.options.get("api") != "completions"

    @contextmanager
    def opened(self, replies: Any, faults: Iterable[Fault | None] = (), **options: Any) -> Iterator[Opened]:
        """The backend with these replies behind it."""
        if not self.hosted:
            script = Script(replies)
            yield Opened(script, script, None)
            return
        with FakeServer(replies, faults=faults) as server:
            given = {"key": KEY, "attempts": 1, **self.options, **options}  # what is asked once is answered once
            backend = model(self.spec.replace("URL", server.url), **given)
            yield Opened(backend, server.backend, server)


@dataclass(frozen=True)
class Opened:
    """A backend, the script that answers behind it, and the server between them."""

    backend: Any
    script: Any
    server: FakeServer | None


DOORS = [
    Door("script", "script", {}),
    *(
        Door(f"openai {api}{' stream' * stream}", "openai:m@URL", {"api": api, "stream": stream})
        for api in ("chat", "responses", "completions")
        for stream in (False, True)
    ),
    *(Door(f"hf-inference{' stream' * stream}", "hf-inference:m@URL", {"stream": stream}) for stream in (False, True)),
    *(Door(f"anthropic{' stream' * stream}", "anthropic:m@URL", {"stream": stream}) for stream in (False, True)),
]
HOSTED = [door for door in DOORS if door.hosted]
CHATS = [door for door in HOSTED if door.chats]
STREAMS = [door for door in HOSTED if door.streams]


@contextmanager
def answering(answer: Any, content_type: str = "") -> Iterator[str]:
    """The URL of a server whose answer to everything is this: bytes, JSON, or (a list) the events of a stream."""
    kind = content_type or ("text/event-stream" if isinstance(answer, list) else "application/json")
    if isinstance(answer, list):
        names = (f"event: {event['type']}\n" if "type" in event else "" for event in answer)
        told = zip(names, answer, strict=True)
        answer = ("".join(f"{name}data: {json.dumps(event)}\n\n" for name, event in told)).encode()
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *said: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"  # not the host, so not the account, of any FakeServer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
