"""When to stop sampling: after how many more votes an election could be decided, from those cast so far.

A rule is `(votes so far, n) -> bool | int`, as `gather(until=…)` asks it: True, decided; else how many more votes it
takes at least. A vote of None is a path without an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import comb

from promptlab.errors import SetupError

Stop = Callable[[Sequence[Hashable | None], int], bool | int]


def leading(votes: Sequence[Hashable | None]) -> tuple[int, int]:
    """How many votes the two most frequent values have."""
    counts = sorted(Counter(vote for vote in votes if vote is not None).values(), reverse=True)
    first, second = [*counts, 0, 0][:2]
    return first, second


def lossless(votes: Sequence[Hashable | None], n: int) -> bool | int:
    """Stop when the lead exceeds what is left: the winner is the one that all n samples would elect."""
    first, second = leading(votes)
    left = n - len(votes)
    lead = first - second
    return True if lead > left else (left - lead) // 2 + 1  # more, if all of them go to the leader


def beta(p: float = 0.95) -> Stop:
    """Aggarwal et al. 2023 (Adaptive-Consistency, arXiv 2305.11860): stop when the leader is the majority's with P ≥ p.

    With the two largest counts a and b, P(θ > ½) under Beta(a + 1, b + 1). Differs from the authors' code: in closed
    form, not by quadrature. Raises SetupError for a p that is not between ½ and 1.
    """
    if not 0.5 < p < 1:
        raise SetupError(f"beta stops at a probability between 0.5 and 1, got {p!r}.")

    def rule(votes: Sequence[Hashable | None], n: int) -> bool | int:
        a, b = leading(votes)
        more = next(more for more in range(n + 2) if more > n or ahead(a + more, b) >= p)
        return more or True

    return rule


def ahead(a: int, b: int) -> float:
    """P(θ > ½) for θ ~ Beta(a + 1, b + 1): that of at most a heads in a + b + 1 tosses of a coin."""
    tosses = a + b + 1
    return sum(comb(tosses, j) for j in range(a + 1)) / (1 << tosses)


def window(width: int = 5) -> Stop:
    """Li et al. 2024 (ESC, arXiv 2401.10480): sample in windows; stop when all votes of a window are the same.

    All samples drawn vote, as in the paper's algorithm. Raises SetupError for a width below 1.
    """
    if width < 1:
        raise SetupError(f"A window is at least 1 sample wide, got {width!r}.")

    def rule(votes: Sequence[Hashable | None], n: int) -> bool | int:
        if votes and len(votes) % width == 0 and len(set(votes[-width:])) == 1 and votes[-1] is not None:
            return True
        return width - len(votes) % width

    return rule
