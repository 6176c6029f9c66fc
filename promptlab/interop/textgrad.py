"""A backend as an engine of TextGrad 0.1.8, which nobody maintains any more: `optimizers.textgrad` is our own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from promptlab.errors import ModelError, SetupError
from promptlab.interop.asking import Asking
from promptlab.types import Backend, Message, Reply, Request, Usage

# What importing it would do: ask the network for prices, and make a folder of logs where one stands.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("TEXTGRAD_LOG_DIR", os.path.join(tempfile.gettempdir(), "textgrad"))
try:
    from textgrad.engine.base import EngineLM
except ModuleNotFoundError as error:
    raise SetupError("The package textgrad is not installed: pip install textgrad") from error


class Engine(EngineLM):  # type: ignore[misc]
    """See `engine`. `usage` is what all of its calls took, `calls` how many there were."""

    def __init__(self, backend: Backend, **options: Any) -> None:
        self._asking = Asking(backend)
        self.model_string = f"promptlab/{self._asking.name}"
        self.options, self.calls, self.usage = options, 0, Usage(cost_usd=0.0)

    def generate(self, prompt: Any, system_prompt: str | None = None, **kwargs: Any) -> str:
        """A reply's text. Raises the ModelError where there is none, as TextGrad has no other way to know."""
        system = self.system_prompt if system_prompt is None else system_prompt
        chat = ([Message("system", system)] if system else []) + [Message("user", joined(prompt))]
        reply = self._asking.ask(Request(tuple(chat), **{**self.options, **kwargs}))
        self.calls += 1
        if isinstance(reply, ModelError):
            raise reply
        assert isinstance(reply, Reply)
        self.usage += reply.usage
        return reply.text

    def __call__(self, prompt: Any, system_prompt: str | None = None, **kwargs: Any) -> str:
        return self.generate(prompt, system_prompt, **kwargs)


def joined(prompt: str | Sequence[str | bytes]) -> str:
    """A prompt of several texts as one. Raises SetupError for pictures."""
    parts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not all(isinstance(part, str) for part in parts):
        raise SetupError("promptlab's backends read texts; TextGrad asked with a picture.")
    return "\n".join(map(str, parts))


def engine(backend: Backend, **options: Any) -> Engine:
    """Any backend as TextGrad's engine: `tg.set_backward_engine(engine(model("tiny")), override=True)`.

    It goes through a cache and a budget where the backend has them; TextGrad's own cache, which takes no notice of the
    model's options, is not used. `options` are those of a Request: temperature, max_tokens, seed.
    """
    return Engine(backend, **options)
