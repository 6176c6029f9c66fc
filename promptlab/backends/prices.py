"""What tokens cost: a provider's list price, from the dated tables of `genai-prices`, or one that is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from promptlab.errors import SetupError
from promptlab.types import Usage

Tiers = tuple[
    tuple[int, float], ...
]  # from so many input tokens on, USD for a million tokens; rising, the first from 0
GIVEN = ("input", "output", "cached", "cache_write")


@dataclass(frozen=True)
class Price:
    """USD for a million tokens: read, written, read from the provider's cache, and written to it.

    Cached tokens without a price of their own cost what others cost. `source` says where the price is from.
    """

    input: Tiers
    output: Tiers
    cached: Tiers
    cache_write: Tiers
    source: str

    def cost_usd(self, usage: Usage) -> float:
        """What a call's tokens cost. The input's length decides the tier of all of them."""
        n = usage.input_tokens
        plain = n - usage.cached_tokens - usage.cache_write_tokens
        millionths = (
            plain * at(self.input, n)
            + usage.cached_tokens * at(self.cached, n)
            + usage.cache_write_tokens * at(self.cache_write, n)
            + usage.output_tokens * at(self.output, n)
        )
        return round(millionths / 1e6, 12)


def at(tiers: Tiers, tokens: int) -> float:
    return next(price for start, price in reversed(tiers) if tokens > start or start == 0)


def given_price(usd_per_million: Mapping[str, float]) -> Price:
    """A price of one's own: {"input": 0.25, "output": 2.0}, with "cached" and "cache_write" where they differ.

    Raises SetupError for what is none.
    """
    named = isinstance(usd_per_million, Mapping) and {"input", "output"} <= set(usd_per_million) <= set(GIVEN)
    if not named or not all(hasattr(usd, "__float__") and 0 <= usd < math.inf for usd in usd_per_million.values()):
        raise SetupError(
            'A price is USD for a million tokens, 0 or more, as in {"input": 0.25, "output": 2.0}, with "cached" and '
            f'"cache_write" where they differ; got {usd_per_million!r}.'
        )
    tiers = {name: ((0, float(usd_per_million.get(name, usd_per_million["input"]))),) for name in GIVEN}
    return Price(**tiers, source="given")


@cache
def list_price(provider: str, name: str) -> Price | None:
    """A provider's price of a model in the installed tables, None where it is not there: never 0 for that."""
    if not find_spec("genai_prices"):
        return None
    from genai_prices import Usage as Theirs
    from genai_prices import calc_price

    try:
        found: Any = calc_price(Theirs(input_tokens=1), model_ref=name, provider_id=provider).model_price
    except LookupError:
        return None
    if found.input_mtok is None or found.output_mtok is None:
        return None
    read = found.input_mtok
    return Price(
        _tiers(read),
        _tiers(found.output_mtok),
        _tiers(getattr(found, "cache_read_mtok", None) or read),
        _tiers(getattr(found, "cache_write_mtok", None) or read),
        f"genai-prices {version('genai-prices')}",
    )


def _tiers(price: Any) -> Tiers:
    """A price as the tables have it: a number, or a base and what holds above a number of tokens."""
    if not hasattr(price, "tiers"):
        return ((0, float(price)),)
    return ((0, float(price.base)), *((tier.start, float(tier.price)) for tier in price.tiers))
