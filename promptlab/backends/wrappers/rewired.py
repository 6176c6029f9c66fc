"""A wrapper around another backend than the one it was made around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.types import Backend, Request


class Rewired(Wrapper):
    """What `wrapper` does, with all that it keeps (a cache, a budget), around `backend` in place of its own."""

    def __init__(self, wrapper: Wrapper, backend: Backend) -> None:
        super().__init__(backend)
        self.wrapper = wrapper
        self.paces = wrapper.paces

    def __getattr__(self, name: str) -> Any:
        if name == "wrapper":  # not there yet: while it is being unpickled
            raise AttributeError(name)
        if name in ("backend", "agenerate", "batched", "native_n") or name not in dir(self.wrapper):
            return super().__getattr__(name)
        return getattr(self.wrapper, name)

    def __repr__(self) -> str:
        return f"{type(self.wrapper).__name__}({self.backend!r})"

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        return await self.wrapper.around(requests, inner)
