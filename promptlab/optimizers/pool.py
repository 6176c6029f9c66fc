"""The best of the instructions one has: written by hand, found elsewhere, published."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from promptlab.errors import SetupError
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.optimizer import optimizer
from promptlab.optimizers.search import Search

UNREAD = (0.05, 0.475, 0.475)  # of the examples: nobody proposes, so hardly any are kept for proposers to read


@partial(optimizer, shares=UNREAD)
async def pool(search: Search, instructions: Iterable[str]) -> Candidate:
    """A race among given `instructions` and the prompt's own, and its winner against the latter; nothing is proposed.

    What any other optimiser comes down to once its candidates are there. Raises SetupError where there are none.
    """
    if isinstance(instructions, str):
        raise SetupError(f"instructions is a list of texts, got the text {instructions!r}. Put it in a list.")
    given = [search.seed.saying(text.strip(), "given") for text in instructions if text.strip()]
    if not given:
        raise SetupError("pool takes the instructions to choose from: instructions=[…], one text each.")
    [winner] = await search.race([search.seed, *search.add(given)])
    return winner
