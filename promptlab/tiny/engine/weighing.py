"""Scoring continuations: those of a prompt side by side, each seeing the prompt and itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from promptlab.tiny.engine import paged
from promptlab.tiny.engine.reading import in_runs, wide
from promptlab.tiny.engine.store import CHUNK, Chunk, Places, Store, padded, places
from promptlab.tiny.engine.weights import Attend, Weights, attention, hiding, merged

LOGITS = 8192  # tokens whose scores are in memory at once
PACK = 256  # tokens of continuations that are scored side by side


@dataclass(slots=True)
class Weighing:
    """Continuations of one prompt, as ids; `sums` is Σ log p(token) of each, in nats."""

    prompt: tuple[int, ...]
    continuations: list[list[int]]
    alternatives: bool = False
    sums: list[float] = field(default_factory=list)
    done: bool = False


@dataclass(slots=True)
class Pack:
    """Pieces of one prompt whose tokens behind the first are scored in one row: (which piece, ids)."""

    where: Places
    pieces: list[tuple[int, list[int]]] = field(default_factory=list)
    width: int = 0


def weigh(weights: Weights, store: Store, jobs: Sequence[tuple[Weighing, Sequence[Chunk]]]) -> None:
    """Fills in the sums. Every path has been read."""
    weighings, paths = [weighing for weighing, _ in jobs], [path for _, path in jobs]
    where = [places(path) for path in paths]
    firsts = log_p_of_firsts(weights, store, weighings, [each[-1] for each in where])
    for weighing, sums in zip(weighings, firsts, strict=True):
        weighing.sums = sums
    pieces = [(n, m, ids) for n, each in enumerate(weighings) for m, ids in enumerate(each.continuations)]
    longer = [piece for piece in pieces if len(piece[2]) > 1]
    rests: Iterable[float]
    if store.program is not None:
        rests = paged.score(store.program, store, [(where[n], ids) for n, _, ids in longer])
    else:
        rests = in_packs(weights, store, where, longer)
    for (n, m, _), rest in zip(longer, rests, strict=True):
        weighings[n].sums[m] += rest
    for weighing in weighings:
        weighing.done = True


def in_packs(
    weights: Weights, store: Store, where: Sequence[Places], pieces: Sequence[tuple[int, int, list[int]]]
) -> list[float]:
    """Σ log p of each piece's tokens but the first, by PyTorch: those of a prompt side by side."""
    packs: list[Pack] = []
    for k, (n, _, ids) in enumerate(pieces):
        if not packs or packs[-1].where is not where[n] or packs[-1].width + len(ids) - 1 > PACK:
            packs.append(Pack(where[n]))
        packs[-1].pieces.append((k, ids))
        packs[-1].width += len(ids) - 1
    rests = [0.0] * len(pieces)
    for (width, before), alike in groupby(sorted(packs, key=shape), key=shape):
        for some in in_runs(list(alike), width + before, weights.times):
            for k, rest in side_by_side(weights, store, width, before, some):
                rests[k] = rest
    return rests


def shape(pack: Pack) -> tuple[int, int]:
    """How much room its tokens and its prompt take. Those of one shape are scored together, each as if alone."""
    return wide(pack.width), -(-len(pack.where) // CHUNK) * CHUNK


def log_p_of_firsts(
    weights: Weights, store: Store, weighings: Sequence[Weighing], ends: Sequence[int]
) -> list[list[float]]:
    """log p of every continuation's first token, 0 of an empty one: the prompt itself tells it."""
    scores = weights.alike if store.program is None else store.program.logits
    found: list[list[float]] = []
    for start in range(0, len(weighings), 256):
        some = weighings[start : start + 256]
        here = store.put(np.array(ends[start : start + 256]))
        log_p = torch.log_softmax(scores(store.hidden[here]), dim=-1)
        asked = [(row, ids[0]) for row, each in enumerate(some) for ids in each.continuations if ids]
        rows, ids = store.put(np.array(asked, dtype=np.int64).reshape(-1, 2)).unbind(1)
        values = iter(log_p[rows, ids].cpu().tolist())
        found += [[next(values) if ids else 0.0 for ids in each.continuations] for each in some]
    return found


def side_by_side(
    weights: Weights, store: Store, width: int, before: int, packs: Sequence[Pack]
) -> Iterator[tuple[int, float]]:
    """(piece, Σ log p of its tokens but the first), of packs of one shape."""
    inputs, targets, positions = (torch.zeros(len(packs), width, dtype=torch.long) for _ in range(3))
    piece = torch.full((len(packs), width), -1)
    for row, pack in enumerate(packs):
        start = 0
        for number, (_, ids) in enumerate(pack.pieces):
            here = slice(start, start + len(ids) - 1)
            inputs[row, here], targets[row, here], piece[row, here] = (
                torch.tensor(ids[:-1]),
                torch.tensor(ids[1:]),
                number,
            )
            positions[row, here] = torch.arange(len(pack.where), len(pack.where) + len(ids) - 1)
            start = here.stop
    inputs, targets, positions, piece = (x.to(weights.device) for x in (inputs, targets, positions, piece))
    itself = (piece[:, :, None] == piece[:, None]).tril()  # (packs, width, width)
    hidden = weights.forward(inputs, positions, behind(store, before, packs, itself))
    said = piece >= 0
    each = zip(torch.split(hidden[said], LOGITS), torch.split(targets[said], LOGITS), strict=True)
    log_p = torch.cat([torch.log_softmax(weights.alike(h), dim=-1).gather(1, t[:, None]) for h, t in each]).squeeze(1)
    sums = iter(torch.split(log_p.cpu(), [len(ids) - 1 for pack in packs for _, ids in pack.pieces]))
    for pack in packs:
        for k, _ in pack.pieces:
            yield k, float(next(sums).sum())


def behind(store: Store, before: int, packs: Sequence[Pack], itself: Tensor) -> Attend:
    """A token sees its pack's prompt, and of the pack where `itself` (B, T, T) says so."""
    where = store.put(padded([pack.where for pack in packs], before))
    lengths = store.put(np.array([[len(pack.where)] for pack in packs]))
    mask = hiding(torch.arange(before, device=lengths.device) >= lengths, store.keys.dtype)[:, None, None]
    own = hiding(~itself, store.keys.dtype)[:, None]

    def attend(layer: int, qkv: Tensor) -> Tensor:
        B, T, _, H, D = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = attention(q, k, v, own)
        k, v = (x[layer][where].view(*where.shape, H, D).transpose(1, 2) for x in (store.keys, store.values))
        return merged(attention(q, k, v, mask), seen).transpose(1, 2).reshape(B, T, H * D)

    return attend
