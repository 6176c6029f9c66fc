"""Documents packed into rows of token ids with loss weights, keyed by (seed, row): any row can be made again alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import numpy as np
from numpy.typing import NDArray

from promptlab.tiny.data.chat import Chat, Family
from promptlab.tiny.data.mixture import MIXTURE
from promptlab.tiny.data.tools import OBSERVATION
from promptlab.tiny.tokenizer import BOS, EOS, Tokenizer

ANSWER_WEIGHT, OTHER_WEIGHT = 1.0, 0.25  # the loss counts what the assistant says four times as much


def documents(rng: Random, room: int, mixture: Mapping[str, tuple[Family, float]]) -> Iterator[Chat]:
    """Chats without end, each of a family drawn by its share."""
    families = [family for family, _ in mixture.values()]
    shares = [share for _, share in mixture.values()]
    while True:
        yield rng.choices(families, shares)[0](rng, room)


def pack(tokenizer: Tokenizer, chats: Iterator[Chat], size: int) -> tuple[list[int], list[float]]:
    """Whole chats one after the other until `size` tokens are full; the last is cropped (as in the lecture)."""
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < size:
        chat = next(chats)
        ids.append(BOS)
        weights.append(0.0)  # nothing foretells where a document ends
        for message, text in zip(chat, tokenizer.encode_all([m.content for m in chat]), strict=True):
            ids += [tokenizer.role[message.role], *text]
            said = message.role == "assistant"
            weight = ANSWER_WEIGHT if said else 0.0 if message.content.startswith(OBSERVATION) else OTHER_WEIGHT
            weights += [OTHER_WEIGHT, *[weight] * len(text)]
            if said:
                ids.append(EOS)
                weights.append(ANSWER_WEIGHT)
    return ids[:size], weights[:size]


def rows(
    tokenizer: Tokenizer,
    seed: int,
    first: int,
    n: int,
    context: int,
    mixture: Mapping[str, tuple[Family, float]] = MIXTURE,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows first … first+n-1 of the stream: token ids and loss weights, each (n, context + 1)."""
    ids, weights = np.empty((n, context + 1), np.int64), np.empty((n, context + 1), np.float32)
    for i in range(n):
        rng = Random(f"{seed}/{first + i}")
        ids[i], weights[i] = pack(tokenizer, documents(rng, context, mixture), context + 1)
    return ids, weights
