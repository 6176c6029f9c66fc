"""Models that Hugging Face's inference providers host, asked through its router, which speaks OpenAI's protocol."""

from __future__ import annotations

from typing import Any

from promptlab.backends.hosted import key_from
from promptlab.backends.openai import APIS, OpenAI
from promptlab.errors import SetupError

ROUTER = "https://router.huggingface.co/v1"


class HFInference(OpenAI):
    """A model of the hub at the first of its providers, at one of them as NAME:PROVIDER, or NAME@URL of an endpoint.

    Options are those of OpenAI's chats. The key is `key`, or HF_TOKEN; a URL needs none. Not by `huggingface_hub`'s own
    client, whose answers (2.4) lack refusals and cached tokens, and which rewrites schemas on their way.
    """

    kind = "hf-inference"
    key_variable = "HF_TOKEN"
    apis = None
    batch_api = None
    can = APIS["chat"] - {"n"}

    def __init__(self, name: str, *, key: str | None = None, **options: Any) -> None:
        if options.get("api", "chat") != "chat":
            raise SetupError("The router speaks chat completions only: leave api out.")
        if "@" not in name:
            key = key_from(key, self.key_variable, needed=True)
        super().__init__(name if "@" in name else f"{name}@{ROUTER}", key=key, **options)
        self.can = type(self).can
        self.native_n = False
