"""What a strategy asks beside the question: of the same model, by the caller's options as far as they suit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SUITABLE = ("max_tokens", "temperature", "top_p", "seed", "to")


def beside(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a question's options those that suit another one: how long, how it is sampled, and which model is asked.

    What belongs to the question itself is left out: its prompt, stop strings, schema, tools and log-probabilities.
    """
    return {name: value for name, value in options.items() if name in SUITABLE}
