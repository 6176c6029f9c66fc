"""Which demonstrations to show, and in which order: one policy a function. A new one that is known by a name to
`in_context(model, shots=NAME)` is also a row of SELECTORS."""

from collections.abc import Callable, Sequence

from promptlab.strategies.shots.entropy import by_entropy, entropy, label_entropy
from promptlab.strategies.shots.selector import Chosen, Selector, at_random, balanced, concluded, fitting, fixed
from promptlab.strategies.shots.similar import MOST_NEAREST, bm25, embedded, nearest
from promptlab.strategies.shots.various import diverse, dpp, vote_k
from promptlab.types import Example

__all__ = [
    "MOST_NEAREST",
    "PER_QUESTION",
    "SELECTORS",
    "Chosen",
    "Selector",
    "at_random",
    "balanced",
    "bm25",
    "by_entropy",
    "concluded",
    "diverse",
    "dpp",
    "embedded",
    "entropy",
    "fitting",
    "fixed",
    "label_entropy",
    "nearest",
    "vote_k",
]

# The policies by name: (pool, seed) -> selector.
SELECTORS: dict[str, Callable[[Sequence[Example], int], Selector]] = {
    "balanced": balanced,
    "random": at_random,
    "nearest": lambda pool, seed: nearest(pool),
    "bm25": lambda pool, seed: bm25(pool),
    "diverse": lambda pool, seed: diverse(pool),
    "dpp": lambda pool, seed: dpp(pool),
    "vote-k": lambda pool, seed: vote_k(pool),
}
PER_QUESTION = frozenset({"nearest", "bm25", "diverse", "dpp"})  # the others show every question the same
