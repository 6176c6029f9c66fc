"""Prompts of a wave as a prefix tree: where each is cut into chunks, so that what several share is one path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from promptlab.tiny.engine.store import CHUNK

PAYS = 64  # tokens that a cut between two multiples of a chunk has to save

Prompt = tuple[int, ...]


def cut(prompts: Sequence[Prompt]) -> dict[Prompt, list[Prompt]]:
    """The chunks of each distinct prompt, in the tree's order.

    A chunk ends after `CHUNK` tokens, at the end of its prompt, and where prompts part if that saves enough tokens. It
    depends on the wave alone and not on what has been read before.
    """
    pieces: dict[Prompt, list[Prompt]] = {prompt: [] for prompt in sorted(set(prompts))}
    groups = [(list(pieces), 0)] if pieces else []
    while groups:
        group, start = groups.pop()
        first, last = group[0], group[-1]
        shared = common(first, last, start)
        beyond = (shared - start) % CHUNK
        end = shared if beyond * (len(group) - 1) >= PAYS or len(group) == 1 else shared - beyond
        for at in range(start, end, CHUNK):
            piece = first[at : min(at + CHUNK, end)]
            for prompt in group:
                pieces[prompt].append(piece)
        rest = [prompt for prompt in group if len(prompt) > end]
        # those that go on alike, or that end before others do where these have not been cut
        for _, some in groupby(rest, key=lambda prompt: prompt[end : shared + 1]):
            groups.append((list(some), end))
    return pieces


def common(first: Prompt, last: Prompt, start: int) -> int:
    """How many tokens two prompts begin with, which share `start` at least."""
    n = min(len(first), len(last))
    return next((i for i in range(start, n) if first[i] != last[i]), n)
