"""The ways to reach a model, each answered by the same written replies: what the contract is asked of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
            backend = model(self.spec.replace("URL", server.url), **{"key": KEY, **self.options, **options})
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
