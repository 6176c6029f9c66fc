"""What requests begin with, as far as a provider may keep it."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from promptlab.types import Request

CHARACTERS_A_TOKEN = 4  # of English: https://help.openai.com/en/articles/4936856
LEAST_TOKENS = 1024  # that are kept: https://developers.openai.com/api/docs/guides/prompt-caching


class Prefix(NamedTuple):
    """What a request begins with: tools, schema, and all up to the end of one of its turns."""

    key: bytes
    tokens: int  # as estimated


def prefixes(request: Request, least_tokens: int = LEAST_TOKENS) -> list[Prefix]:
    """Those of a request that are long enough to be kept, the longest first: that is all of it."""
    bare = not request.tools and request.schema is None
    if bare and sum(len(turn.content) for turn in request.messages) < least_tokens * CHARACTERS_A_TOKEN / 2:
        return []  # most are short, and cost nothing here
    told = json.dumps([[tool.name, tool.description, tool.parameters] for tool in request.tools], default=repr)
    told += json.dumps(request.schema, default=repr) if request.schema is not None else ""
    digest, characters = hashlib.sha256(told.encode("utf-8", "surrogatepass")), len(told)
    found: list[Prefix] = []
    for turn in request.messages:
        said = repr((turn.role, turn.content, turn.calls, turn.call_id, turn.opaque))
        digest.update(said.encode("utf-8", "surrogatepass"))
        characters += len(turn.content) + (len(str(turn.calls)) if turn.calls else 0)
        if characters >= least_tokens * CHARACTERS_A_TOKEN:
            found.append(Prefix(digest.digest(), characters // CHARACTERS_A_TOKEN))
    return found[::-1]
