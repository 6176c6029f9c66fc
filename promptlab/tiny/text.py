"""A user's own text as rows of token ids: documents one after the other, an end-of-text between them, cut to length.

By default a token sees the end of the document before it, as in the lecture. Where `apart`, it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from random import Random
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from promptlab.errors import DataError
from promptlab.tiny.tokenizer import BOS, EOS
from promptlab.tiny.train import Batch, next_token_loss


def documents(texts: Sequence[str]) -> list[str]:
    """Texts without those that are empty or repeated. Raises DataError if none is left."""
    found = list(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))
    if not found:  # repeats go, since what is held out must not be read elsewhere
        raise DataError("There is no text to train on.")
    return found


def digest(texts: Iterable[str]) -> str:
    """The sha256 of texts in their order."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


class Stream:
    """Documents as one endless row of token ids: all of them, then all of them in another order, and so on."""

    def __init__(self, documents: Sequence[Sequence[int]], seed: int):
        self.documents = [np.array([BOS, *ids, EOS]) for ids in documents]
        self.seed, self.tokens = seed, sum(map(len, self.documents))
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, number: int) -> NDArray[np.int64]:
        n = len(self.documents)
        order = Random(f"text/{self.seed}/{number}").sample(range(n), n)
        return np.concatenate([self.documents[i] for i in order])

    def rows(self, first: int, n: int, size: int, overlap: int = 1) -> Tensor:
        """Rows first … first+n-1 of `size` tokens, (n, size), a function of the seed and these numbers.

        A row begins with the last `overlap` tokens of the one before: 1 makes each token a target once an epoch.
        """
        stride = size - overlap
        begin, end = first * stride, (first + n) * stride + overlap
        epoch = begin // self.tokens
        ids = np.concatenate([self.epoch(e) for e in range(epoch, (end - 1) // self.tokens + 1)])
        begin -= epoch * self.tokens
        return torch.from_numpy(np.stack([ids[i : i + size] for i in range(begin, begin + n * stride, stride)]))


Document = TypeVar("Document", str, list[int])


def split(documents: Sequence[Document], held_out: float, seed: int) -> tuple[list[Document], list[Document]]:
    """What is trained on, and a share of the characters, or of the tokens, that is not.

    The documents are put in an order of the seed, and those at its end are held out. The one at the border is cut in
    two, its beginning read and its end held out: so a single long document will do. Raises DataError for no such share.
    """
    if not 0 <= held_out < 1:
        raise DataError(f"The share of text held out must be at least 0 and less than 1, got {held_out}.")
    order = Random(f"held out/{seed}").sample(documents, len(documents))
    total = sum(map(len, order))
    left = total - round(total * held_out)
    read: list[Document] = []
    held: list[Document] = []
    for document in order:
        read += [document[:left]] if left > 0 else []
        held += [document[max(left, 0) :]] if left < len(document) else []
        left -= len(document)
    if not read or (held_out and not held):
        parts = "characters" if isinstance(order[0], str) else "tokens"
        raise DataError(f"{total} {parts} are too few to hold {held_out:.0%} of them out.")
    return read, held


def batch_of(rows: Tensor) -> Batch:
    """Rows (n, T+1) to predict the next token in. That a document begins where one has ended is not counted."""
    return Batch(rows, (rows[:, 1:] != BOS).float())


def apart(tokens: Tensor, causal: bool = True) -> tuple[Tensor, Tensor]:
    """Positions (B, T) that restart with every document, and who may attend to whom, (B, 1, T, T), documents apart.

    A document begins at <bos>, which stands nowhere else. What comes before a row's first one is a document too.
    """
    T = tokens.shape[1]
    begins = tokens == BOS
    document = begins.cumsum(1)  # (B, T)
    at = torch.arange(T).expand_as(tokens)
    positions = at - torch.where(begins, at, 0).cummax(1).values
    mask = document[:, :, None] == document[:, None, :]  # (B, T, T)
    return positions, (mask.tril() if causal else mask)[:, None]


def next_token_loss_apart(model: nn.Module, batch: Batch) -> Tensor:
    """`next_token_loss` where no token sees another document. It takes longer: half of the scores made are not used."""
    return next_token_loss(model, batch, *apart(batch.tokens[:, :-1]))
