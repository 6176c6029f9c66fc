"""Reading prompts: the chunks of a wave that have not been read yet, those of like shape together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from promptlab.tiny.engine.store import ASIDE, CHUNK, Chunk, Store, hidden_behind, padded, places
from promptlab.tiny.engine.weights import Attend, Weights, attention, merged

CELLS = 16_384  # tokens looked at by a batch, those of each row counted, padding included
STEP = 8  # a chunk's width is a multiple of this


def read(weights: Weights, store: Store, paths: Sequence[Sequence[Chunk]]) -> int:
    """Reads what of the paths is not; how many tokens that were."""
    missing = sorted({chunk: None for path in paths for chunk in path if chunk.places is None}, key=shape)
    for like, chunks in groupby(missing, key=shape):
        for some in in_runs(list(chunks), sum(like[1:])):
            read_together(weights, store, some)
    return sum(len(chunk.tokens) for chunk in missing)


def shape(chunk: Chunk) -> tuple[int, int, int]:
    """Its depth, how much room those before it take, and how much it takes itself. Parents come before children."""
    return chunk.depth, -(-chunk.start // CHUNK) * CHUNK, -(-len(chunk.tokens) // STEP) * STEP


def in_runs(chunks: Sequence[Chunk], width: int) -> Iterator[Sequence[Chunk]]:
    """As many at a time as memory allows, siblings side by side."""
    size = max(1, CELLS // width)
    for start in range(0, len(chunks), size):
        yield chunks[start : start + size]


def read_together(weights: Weights, store: Store, chunks: Sequence[Chunk]) -> None:
    """Reads chunks of one shape, whose parents have been read, and keeps them."""
    _, before, width = shape(chunks[0])
    lengths = [len(chunk.tokens) for chunk in chunks]
    taken = store.take(sum(lengths))
    try:
        own = np.split(taken, np.cumsum(lengths)[:-1])
        to = np.full((len(chunks), width), ASIDE)
        tokens = np.zeros((len(chunks), width), dtype=np.int64)
        for row, (chunk, where) in enumerate(zip(chunks, own, strict=True)):
            tokens[row, : len(where)], to[row, : len(where)] = chunk.tokens, where
        start = torch.tensor([chunk.start for chunk in chunks])[:, None]
        positions = (start + torch.arange(width)).clamp_(max=weights.config.context - 1)  # padding may be beyond
        hidden = weights.forward(
            torch.from_numpy(tokens), positions, among(store, chunks, before, torch.from_numpy(to).flatten())
        )
        store.hidden[torch.from_numpy(taken)] = hidden[torch.from_numpy(to != ASIDE)]
    except BaseException:  # Ctrl-C among them: what was not read takes no place
        store.give(taken)
        raise
    for chunk, where in zip(chunks, own, strict=True):
        store.keep(chunk, where)


def among(store: Store, chunks: Sequence[Chunk], before: int, to: Tensor) -> Attend:
    """A chunk sees what its path has before it, and itself up to each token; its keys and values go to `to` (B·T,)."""
    parents = list(dict.fromkeys(chunk.parent for chunk in chunks))
    rows = [chunk.parent for chunk in chunks] if len(parents) > 1 else parents  # siblings share one row
    earlier = [places(up_to(parent)) for parent in rows]
    where = padded(earlier, before)
    mask = hidden_behind([len(each) for each in earlier], before, store.keys.dtype)[:, None, None]

    def attend(layer: int, qkv: Tensor) -> Tensor:
        B, T, _, H, D = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        store.keys[layer].index_copy_(0, to, qkv[:, :, 1].reshape(B * T, H * D))
        store.values[layer].index_copy_(0, to, qkv[:, :, 2].reshape(B * T, H * D))
        seen = attention(q, k, v, None, causal=True)
        if before:
            k, v = (x[layer][where].view(*where.shape, H, D).transpose(1, 2) for x in (store.keys, store.values))
            y = merged(attention(q, k, v, mask.expand(B, -1, -1, -1)), seen)
        else:
            y = seen[0]
        return y.transpose(1, 2).reshape(B, T, H * D)

    return attend


def up_to(chunk: Chunk | None) -> list[Chunk]:
    """The path that ends in a chunk."""
    path: list[Chunk] = []
    while chunk is not None and chunk.parent is not None:
        path.append(chunk)
        chunk = chunk.parent
    return path[::-1]
