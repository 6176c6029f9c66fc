"""What tokens cost is what the price tables' own code says, and an unknown price is none."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import model
from promptlab.backends.prices import given_price, list_price
from promptlab.errors import SetupError
from promptlab.types import Usage

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")

MODELS = [
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-1"),
    ("openai", "o3"),
]


@settings(deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 500_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 100_000),
)
def test_a_call_costs_what_the_tables_say(model: tuple[str, str], read: int, cached: float, wrote: float, out: int):
    provider, name = model
    n_cached = int(read * cached)
    n_wrote = int((read - n_cached) * wrote) if provider == "anthropic" else 0
    price = list_price(provider, name)
    assert price is not None
    usage = genai_prices.Usage(
        input_tokens=read, cache_read_tokens=n_cached, cache_write_tokens=n_wrote, output_tokens=out
    )
    expected = float(genai_prices.calc_price(usage, model_ref=name, provider_id=provider).total_price)
    ours = price.cost_usd(Usage(read, n_cached, out, cache_write_tokens=n_wrote))
    assert ours == pytest.approx(expected, abs=1e-9)


def test_the_table_is_dated_and_what_is_not_in_it_has_no_price():
    price = list_price("openai", "gpt-5-mini")
    assert price is not None
    assert price.source == f"genai-prices {genai_prices.__version__}" or price.source.startswith("genai-prices ")
    assert list_price("openai", "no-such-model-at-all") is None
    assert list_price("nobody", "gpt-5-mini") is None


def test_a_price_of_ones_own():
    price = given_price({"input": 1.0, "output": 4.0, "cached": 0.1})
    assert price.cost_usd(Usage(1_000_000, 500_000, 1_000_000)) == pytest.approx(0.5 + 0.05 + 4.0)
    assert price.source == "given"


WRONG = [
    {},
    {"input": 1.0},
    {"input": 1.0, "output": -1.0},
    {"input": 1, "out": 2},
    {"input": nan, "output": 1},
    {"input": 1, "output": inf},
    {"input": "a", "output": 1},
    5,
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_is_no_price_is_refused(wrong: Any):
    with pytest.raises(SetupError, match="A price is USD"):
        model("openai:m", key="k", usd_per_million=wrong)
