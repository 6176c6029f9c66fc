"""Replies held to a JSON schema while they are written: which tokens may come next, as llguidance tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import ModelError, SetupError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

# A small model likes to write spaces until its tokens are spent.
COMPACT: JsonCompileOptions = {"whitespace_flexible": False}


def grammatical(tokenizer: str, vocabulary: int, ends: Sequence[int]) -> LLTokenizer:
    """The tokens of a tokenizer.json as llguidance knows them. Raises SetupError where that is not installed."""
    try:
        from llguidance import LLTokenizer
    except ImportError:
        raise SetupError("Schemas are held to by llguidance: pip install 'promptlab[tiny]'") from None
    return LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(ends))


class Held:
    """One reply in the making that will be JSON of a schema, if it comes to its end.

    Raises ModelError for a schema that no reply can be held to.
    """

    def __init__(self, schema: Mapping[str, Any], tokenizer: LLTokenizer):
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=COMPACT)
        self.matcher: LLMatcher = LLMatcher(tokenizer, grammar, log_level=0)
        self._check()

    def allowed(self) -> NDArray[np.bool_]:
        """Of every token whether it may come next, (V,); the end may once the JSON is whole."""
        return np.frombuffer(self.matcher.compute_logit_bias(), dtype=np.uint8) > 0

    @property
    def whole(self) -> bool:
        """Whether nothing but the end may come next."""
        return bool(self.matcher.is_stopped())

    def take(self, token: int) -> None:
        """A token that was allowed has been written."""
        self.matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if why := self.matcher.get_error():
            raise ModelError(f"a reply cannot be held to this schema: {' '.join(why.split())[:300]}")
