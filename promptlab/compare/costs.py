"""What it costs once and with every query, and from how many queries on the dearer start pays: break-even.

A bill may be in anything that adds up: FLOPs, seconds, joules, money. FLOPs are counted as 2 N a token read or written
and 6 N a token trained on (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), N being the parameters a token passes:
all of a decoder's, half of an encoder-decoder's (Liu et al. 2022, arXiv 2205.05638, section 4.2). Attention over the
context comes on top where a model's `Shape` is known, a kept prefix being looked back on too.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.errors import SetupError


@dataclass(frozen=True, slots=True)
class Bill:
    """What is paid `once` (labels, tuning with its failed trials, training) and for each `query`, in one unit."""

    once: float
    query: float

    def __post_init__(self) -> None:
        if not (self.once >= 0 and self.query >= 0):
            raise SetupError(f"A bill has no negative parts; it was {self.once} once and {self.query} a query.")

    def __add__(self, other: Bill) -> Bill:
        return Bill(self.once + other.once, self.query + other.query)

    def total(self, queries: float) -> float:
        return self.once + self.query * queries


def break_even(now: Bill, instead: Bill) -> float | None:
    """N*: from how many queries on `instead` costs less than `now` in all; 0 where from the first, None where never."""
    more_once, less_a_query = instead.once - now.once, now.query - instead.query
    if less_a_query <= 0:
        return 0.0 if more_once < 0 and less_a_query == 0 else None
    return max(0.0, more_once / less_a_query)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as its FLOPs are counted: `layers` and `width` 0 leave attention out."""

    parameters: float
    layers: int = 0
    width: int = 0

    def answering(self, tokens: float, attended: float = 0.0) -> float:
        """FLOPs of reading or writing so many tokens, which look back on so many others in all: q·k and the weights
        times v are 2 `width` each, a layer (Chowdhery et al. 2022, arXiv 2204.02311, appendix B)."""
        return 2 * self.parameters * tokens + 4 * self.layers * self.width * attended

    def training(self, tokens: float, attended: float = 0.0, trained: float | None = None) -> float:
        """FLOPs of training on so many tokens, repeats counted: forward, and backward at twice that.

        Half of the latter is for the weights, so it is little where gradients are made of few (PEFT's adapters; not
        tiny's, whose gradients pass through the weights that they are added to); None is all of them.
        """
        weights = self.parameters if trained is None else min(trained, self.parameters)
        return (4 * self.parameters + 2 * weights) * tokens + 12 * self.layers * self.width * attended


def few_shot(parameters: float, prefix: float, query: float) -> Bill:
    """FLOPs of a prompt whose demonstrations (`prefix` tokens) are read anew with every query of `query` tokens."""
    return Bill(0.0, Shape(parameters).answering(prefix + query))


def few_shot_cached(parameters: float, prefix: float, query: float) -> Bill:
    """The same where the prefix is read once and kept (prefix caching)."""
    return Bill(Shape(parameters).answering(prefix), Shape(parameters).answering(query))


def fine_tuned(parameters: float, trained_tokens: float, query: float) -> Bill:
    """FLOPs of a model that was trained on so many tokens in all, and needs no demonstrations."""
    return Bill(Shape(parameters).training(trained_tokens), Shape(parameters).answering(query))
