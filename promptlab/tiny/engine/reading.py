"""Reading prompts: what of a wave's chunks has not been read yet, those of like shape together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from promptlab.tiny.engine import paged
from promptlab.tiny.engine.store import ASIDE, CHUNK, NOWHERE, Chunk, Part, Places, Store, common, places, up_to
from promptlab.tiny.engine.weights import Attend, Weights, attention, hiding, merged

CELLS = 16_384  # tokens looked at by a batch, those of each row counted, padding included
STEP = 8  # tokens are read by a multiple of this: a row of fewer may be rounded otherwise
PAYS = 64  # tokens that waiting for another chunk of the wave has to save

T = TypeVar("T")


def read(weights: Weights, store: Store, paths: Sequence[Sequence[Chunk]]) -> int:
    """Reads what of the paths is not; how many tokens that were."""
    missing = {chunk: None for path in paths for chunk in path if chunk.places is None}
    n = 0
    for _, chunks in groupby(sorted(missing, key=lambda chunk: chunk.start), key=lambda chunk: chunk.start):
        waiting = list(chunks)
        while waiting:
            turn = dict.fromkeys(first(waiting))
            n += read_turn(weights, store, list(turn))
            waiting = [chunk for chunk in waiting if chunk not in turn]
    return n


def first(chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """Those to read first, of chunks in the tree's order: one of several that begin alike, if it spares others much."""
    groups = [list(siblings) for _, siblings in groupby(chunks, key=lambda chunk: id(chunk.parent))]
    while groups:
        group = groups.pop()
        alike = common(group[0].tokens, group[-1].tokens)
        if len(group) == 1 or (alike * (len(group) - 1) >= PAYS and sum(spared(c, alike) for c in group[1:]) >= PAYS):
            yield group[0]
        else:
            groups += [list(some) for _, some in groupby(group, key=lambda chunk: chunk.tokens[alike : alike + 1])]


def spared(chunk: Chunk, alike: int) -> int:
    """How many tokens fewer would be read of a chunk, padding included, if so many of its first were known."""
    n, known = len(chunk.tokens), len(chunk.known())
    return wide(n - known) - wide(n - max(known, alike))


def wide(n: int) -> int:
    """In how many tokens, padding included, n are read."""
    return -(-n // STEP) * STEP


def read_turn(weights: Weights, store: Store, chunks: Sequence[Chunk]) -> int:
    """Reads and keeps chunks with the same start, whose parents have been read."""
    taken: dict[Chunk, Places] = {}
    try:
        for chunk in chunks:
            taken[chunk] = store.take(len(chunk.tokens))
        parts = sorted(((chunk, where, chunk.known()) for chunk, where in taken.items()), key=width)
        for columns, alike in groupby(parts, key=width):
            for some in in_runs(list(alike), chunks[0].start + CHUNK, weights.times):
                read_together(weights, store, columns, some)
                for (chunk, where, _), sound in zip(some, store.sound(some), strict=True):
                    store.keep(chunk, where, sound)
                    del taken[chunk]
    finally:  # after Ctrl-C as well: what was not read takes no place
        for where in taken.values():
            store.give(where)
    return sum(len(where) - len(known) for _, where, known in parts)


def width(part: Part) -> int:
    """How many tokens are to be read, padding included."""
    _, where, known = part
    return wide(len(where) - len(known))


def in_runs(parts: Sequence[T], cells: int, times: int) -> Iterator[Sequence[T]]:
    """As many at a time as memory allows, `times` as many as on a CPU, siblings side by side."""
    size = max(1, times * CELLS // cells)
    for start in range(0, len(parts), size):
        yield parts[start : start + size]


def read_together(weights: Weights, store: Store, columns: int, parts: Sequence[Part]) -> None:
    """Takes over what is known of the parts, and reads the rest."""
    store.take_over(parts)
    if columns and store.program is not None:
        paged.read(store.program, store, parts)
    elif columns:
        read_padded(weights, store, columns, parts)


def read_padded(weights: Weights, store: Store, columns: int, parts: Sequence[Part]) -> None:
    """By PyTorch, as rows of one width."""
    tokens = np.zeros((len(parts), columns), dtype=np.int64)
    to, whole = np.full(tokens.shape, ASIDE), np.full((len(parts), CHUNK), NOWHERE)
    for row, (chunk, where, known) in enumerate(parts):
        n = len(where) - len(known)
        tokens[row, :n], to[row, :n] = chunk.tokens[len(known) :], where[len(known) :]
        whole[row, : len(where)] = where
    column = store.put(np.array([[len(known)] for _, _, known in parts]) + np.arange(columns))  # in its chunk
    positions = (parts[0][0].start + column).clamp_(max=weights.config.context - 1)  # padding may be beyond
    goes = store.put(to)
    attend = among(store, [chunk for chunk, _, _ in parts], store.put(whole), column, goes.flatten())
    hidden = weights.forward(store.put(tokens), positions, attend)
    store.hidden.index_copy_(0, goes.flatten(), hidden.flatten(0, 1))


def among(store: Store, chunks: Sequence[Chunk], whole: Tensor, column: Tensor, to: Tensor) -> Attend:
    """A token sees what its path has before its chunk, and its chunk up to itself.

    Its keys and values go to `to` (B·T,). `whole` (B, CHUNK) is where the chunks' tokens stand, `column` (B, T) which
    of its chunk a token is.
    """
    parents = list(dict.fromkeys(chunk.parent for chunk in chunks))
    rows = [chunk.parent for chunk in chunks] if len(parents) > 1 else parents  # siblings share one row
    earlier = store.put(np.stack([places(up_to(parent)) for parent in rows]))
    later = torch.arange(CHUNK, device=column.device) > column[:, None, :, None]
    mask = hiding(later, store.keys.dtype)  # (B, 1, T, CHUNK)

    def attend(layer: int, qkv: Tensor) -> Tensor:
        B, T, _, H, D = qkv.shape
        both = store.keys[layer], store.values[layer]
        for kept, fresh in zip(both, qkv[:, :, 1:].unbind(2), strict=True):
            kept.index_copy_(0, to, fresh.reshape(B * T, H * D))
        q = qkv[:, :, 0].transpose(1, 2)  # (B, H, T, D)
        k, v = (kept[whole].view(B, CHUNK, H, D).transpose(1, 2) for kept in both)
        seen = attention(q, k, v, mask)
        if earlier.shape[1]:
            k, v = (kept[earlier].view(*earlier.shape, H, D).transpose(1, 2) for kept in both)
            y = merged(attention(q, k, v, None), seen)
        else:
            y = seen[0]
        return y.transpose(1, 2).reshape(B, T, H * D)

    return attend
