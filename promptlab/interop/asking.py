"""One request at a time from any thread, which is how other libraries ask: they know no programs and no batches."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

from promptlab.errors import ModelError
from promptlab.jsonable import dumped
from promptlab.runners import check_backend
from promptlab.types import Backend, Reply, Request


class Asking:
    """A backend as threads and event loops of others ask it. What it answers is a Reply or a ModelError, as a value.

    An engine in this process is asked by one thread at a time, and one request a batch: who asks first must not change
    an answer. A hosted model has one event loop, on a thread of its own, so that its connections, pace and budget are
    the same for whoever asks.
    """

    def __init__(self, backend: Backend) -> None:
        check_backend(backend, type(self).__name__)
        self.backend: Any = backend
        self.name = fingerprint(backend)
        self._one_at_a_time = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def _awaits(self) -> bool:
        return not self.backend.batched and hasattr(self.backend, "agenerate")

    def ask(self, request: Request) -> Reply | ModelError:
        if self._awaits:
            return self._begun(request).result()
        if not self.backend.batched:
            return self.backend.generate([request])[0]  # type: ignore[no-any-return]
        with self._one_at_a_time:
            return self.backend.generate([request])[0]  # type: ignore[no-any-return]

    async def aask(self, request: Request) -> Reply | ModelError:
        if self._awaits:
            return await asyncio.wrap_future(self._begun(request))
        return await asyncio.to_thread(self.ask, request)

    def _begun(self, request: Request) -> Future[Reply | ModelError]:
        with self._one_at_a_time:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_turning, args=(self._loop,), daemon=True).start()
                weakref.finalize(self, _ended, self._loop, self.backend)

        async def answered() -> Reply | ModelError:
            [reply] = await self.backend.agenerate([request])
            return reply  # type: ignore[no-any-return]

        return asyncio.run_coroutine_threadsafe(answered(), self._loop)


def _turning(loop: asyncio.AbstractEventLoop) -> None:
    """Runs a loop until it is stopped."""
    loop.run_forever()
    loop.close()


def _ended(loop: asyncio.AbstractEventLoop, backend: Any) -> None:
    """Closes a model's connections, and the loop that they live in."""

    async def closed() -> None:
        if hasattr(backend, "aclose"):
            await backend.aclose()
        loop.stop()

    end: Coroutine[Any, Any, None] = closed()
    try:
        asyncio.run_coroutine_threadsafe(end, loop)
    except RuntimeError:  # it is closed already
        end.close()


def fingerprint(backend: Any) -> str:
    """Twelve hexadecimal digits of all that can change a backend's answers.

    One that does not tell its `identity` is taken for unlike any other, itself in another process among them.
    """
    identity = getattr(backend, "identity", None)
    return secrets.token_hex(6) if identity is None else hashlib.sha256(dumped(identity)).hexdigest()[:12]
