"""Keys and values of what has been read, in bounded memory: a tree of chunks, the least recently used of which go.

A prompt's chunks are its first `CHUNK` tokens, the next as many, and so on. They are always read in like shapes, so
that a token's numbers are a function of it and those before it alone: whether they were kept from an earlier wave, or
taken over from another chunk that begins alike, changes no bit of any answer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptlab.errors import SetupError
from promptlab.tiny.engine.compiling import LANES, Memory
from promptlab.tiny.engine.weights import Weights, room
from promptlab.tiny.memory import installed, of_device
from promptlab.tiny.model import Transformer

CHUNK = 32  # tokens
CACHE_MB = 320.0  # of keys and values kept: 48,000 tokens of the bundled model
DEVICE_MB, DEVICE_SHARE = 2_000.0, 0.1  # on a GPU, which wants thousands of prompts at a time, and of its memory
SPARE = 16_384  # tokens being written or scored, for which there is room besides
NOWHERE, ASIDE = 0, 1  # a place of zeros, which padding reads, and one that padding writes to
Places = NDArray[np.int64]
Prompt = tuple[int, ...]


class Chunk:
    """Tokens behind those of `parent`, the first at position `start`; `places` are where they stand, once read."""

    __slots__ = ("children", "parent", "places", "read", "start", "tokens")

    def __init__(self, parent: Chunk | None, tokens: Prompt):
        self.parent, self.tokens = parent, tokens
        self.start: int = parent.start + len(parent.tokens) if parent is not None else 0
        self.children: dict[Prompt, Chunk] = {}
        self.read: list[Prompt] = []  # the children that others may take over from, in order
        self.places: Places | None = None

    def known(self) -> Places:
        """Where the tokens that it begins with stand already, as another chunk has been read that begins alike."""
        assert self.parent is not None
        near = self.parent.read
        at = bisect_left(near, self.tokens)  # none begins more alike than its neighbours in order
        found = max(near[max(at - 1, 0) : at + 1], key=lambda tokens: common(tokens, self.tokens), default=())
        places = self.parent.children[found].places if found else None
        return np.empty(0, dtype=np.int64) if places is None else places[: common(found, self.tokens)]


Part = tuple[Chunk, Places, Places]  # to read: where its tokens go, and where those that it begins with stand already


def common(one: Prompt, other: Prompt) -> int:
    """How many tokens both begin with."""
    n = min(len(one), len(other))
    return next((i for i in range(n) if one[i] != other[i]), n)


def room_for(model: Transformer, cache_mb: float | None) -> int:
    """How many tokens a cache of so many MB holds; by default CACHE_MB or DEVICE_MB, or what the context takes if more.

    Raises SetupError where what was given is less than the context takes, or more memory than there is.
    """
    config, usual = model.config, CACHE_MB
    if model.device.type != "cpu":
        usual = min(DEVICE_MB, DEVICE_SHARE * of_device(model.device) / 1e6)
    token_bytes = bytes_a_token(model)
    if cache_mb is not None and not (isinstance(cache_mb, int | float) and 0 <= cache_mb * 1e6 <= installed()):
        raise SetupError(f"cache_mb is a number of MB, of the {installed() / 1e6:,.0f} there are; got {cache_mb!r}.")
    held = int((usual if cache_mb is None else cache_mb) * 1e6) // token_bytes
    if cache_mb is not None and held < config.context:
        raise SetupError(
            f"The engine's cache of {cache_mb:,.3g} MB holds {held:,} tokens of this model, less than its context of "
            f"{config.context:,}; give it {config.context * token_bytes / 1e6:,.3g} MB at least."
        )
    return max(held, config.context)


def bytes_a_token(model: Transformer) -> int:
    """Of its keys, its values and its last hidden state."""
    return (2 * model.config.n_layers + 1) * model.config.d_model * model.dtype.itemsize


def memory_for(model: Transformer, cache_mb: float | None) -> int:
    """The bytes that a store takes once it is full."""
    return (room_for(model, cache_mb) + SPARE) * bytes_a_token(model)


class Blocks:
    """Keys and values of n blocks of LANES tokens, a few at a time."""

    def __init__(self, weights: Weights, n: int):
        c = weights.config
        self.numbers = room(c.n_layers, n, 2 * c.d_model * LANES, dtype=torch.float32).numpy()
        self.memory = Memory(self.numbers.ctypes.data, n)

    def copy(self, block: int, to: int) -> None:
        self.numbers[:, to] = self.numbers[:, block]


class Store:
    """Room for `capacity` tokens' keys, values and last hidden states; a CPU's memory is taken as it is first used.

    A compiled program has it in blocks of tokens, of which every chunk takes whole ones, and some more, `spare`, for
    what is not kept. PyTorch takes any places.
    """

    def __init__(self, weights: Weights, capacity: int):
        c, self.device = weights.config, weights.device
        self.unit = 1 if weights.program is None else LANES  # places that are taken together
        self.units = max(capacity // self.unit, -(-c.context // self.unit))
        self.first = -(-2 // self.unit)  # behind NOWHERE and ASIDE
        self.capacity, n = self.units * self.unit, (self.first + self.units) * self.unit
        if weights.program is None:
            shape = c.n_layers, n, c.d_model
            self.keys, self.values = (room(*shape, dtype=weights.dtype, device=self.device) for _ in range(2))
        else:
            end = self.first + self.units
            self.spare = range(end, end + -(-max(SPARE, c.context) // LANES))
            self.blocks = Blocks(weights, self.spare.stop)
        self.hidden = room(n, c.d_model, dtype=weights.dtype, device=self.device)
        self.empty(weights)

    def fits(self, weights: Weights) -> bool:
        """Whether what these make of tokens can stand here, they being of the same model as those before."""
        like = self.hidden.dtype == weights.dtype and self.device == weights.device
        return like and (self.program is None) == (weights.program is None)

    def empty(self, weights: Weights) -> None:
        """Nothing is read, and what will be is by these."""
        self.program = weights.program
        self.root = Chunk(None, ())
        self.free = np.arange(self.first + self.units - 1, self.first - 1, -1)  # units, of which the first `n_free` are
        self.n_free = self.units
        self.order: dict[Chunk, None] = {}  # what has been read, the least recently used first

    def put(self, places: Places) -> Tensor:
        """On the model's device."""
        return torch.from_numpy(places).to(self.device, non_blocking=True)

    def path(self, prompt: Prompt, share: bool = True) -> list[Chunk]:
        """The chunks of a prompt, without places those not read yet; fresh ones to not share."""
        chunk, path = self.root if share else Chunk(None, ()), []
        for at in range(0, len(prompt), CHUNK):
            tokens = prompt[at : at + CHUNK]
            found = chunk.children.get(tokens)
            if found is None:
                found = chunk.children[tokens] = Chunk(chunk, tokens)
            path.append(chunk := found)
        return path

    def use(self, path: Sequence[Chunk]) -> None:
        """Marks what has been read of a path as used just now, and no chunk before those that stand on it."""
        for chunk in reversed(path):
            if chunk.places is not None:
                del self.order[chunk]
                self.order[chunk] = None

    def take(self, n: int) -> Places:
        """n places. The least recently used chunks make room: the caller's own must have been used just now."""
        units = -(-n // self.unit)
        while self.n_free < units:
            oldest = next(iter(self.order))
            assert oldest.places is not None
            del self.order[oldest]
            self.give(oldest.places)
            oldest.places = None
            assert oldest.parent is not None
            near = oldest.parent.read
            if (at := bisect_left(near, oldest.tokens)) < len(near) and near[at] == oldest.tokens:
                del near[at]
            self.forget(oldest)
        self.n_free -= units
        taken = self.free[self.n_free : self.n_free + units]
        return (taken[:, None] * self.unit + np.arange(self.unit)).ravel()[:n]

    def size(self, chunk: Chunk) -> int:
        """How many places a chunk takes."""
        return -(-len(chunk.tokens) // self.unit) * self.unit

    def give(self, places: Places) -> None:
        units = places[:: self.unit] // self.unit
        self.free[self.n_free : self.n_free + len(units)] = units
        self.n_free += len(units)

    def forget(self, chunk: Chunk) -> None:
        """Takes a chunk that is not read, and that nothing stands on, out of the tree, and those that this leaves."""
        while chunk.parent is not None and chunk.places is None and not chunk.children:
            if chunk.parent.children.get(chunk.tokens) is chunk:
                del chunk.parent.children[chunk.tokens]
            chunk = chunk.parent

    def sound(self, parts: Sequence[Part]) -> list[bool]:
        """Whether each has numbers alone, told by one look at the device: of others there is no sum."""
        where = [places for _, places, _ in parts]
        finite = self.hidden[self.put(np.concatenate(where))].sum(-1).isfinite().cpu().numpy()
        starts = np.cumsum([0, *map(len, where[:-1])])
        return [bool(each) for each in np.logical_and.reduceat(finite, starts)]

    def keep(self, chunk: Chunk, places: Places, sound: bool) -> None:
        """A chunk has been read. Others may take over from it unless it has NaN, which spoils the tokens before it."""
        chunk.places = places
        self.order[chunk] = None
        if chunk.parent is not None and sound:
            insort(chunk.parent.read, chunk.tokens)

    def take_over(self, parts: Sequence[Part]) -> None:
        """Copies what is known of each to where its tokens go."""
        both = zip(*((known, to[: len(known)]) for _, to, known in parts), strict=True)
        here, there = (self.put(np.concatenate(each)) for each in both)
        self.hidden[there] = self.hidden[here]
        if self.program is not None:  # whole blocks: what is not known of the last is read into it then
            for _, to, known in parts:
                for a, b in zip(known[::LANES] // LANES, to[: len(known) : LANES] // LANES, strict=True):
                    self.blocks.copy(a, b)
        else:
            for kept in (self.keys, self.values):
                kept[:, there] = kept[:, here]


def places(path: Sequence[Chunk]) -> Places:
    """Where all tokens of a path stand, all of which have been read."""
    found = [chunk.places for chunk in path if chunk.places is not None]
    assert len(found) == len(path)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def up_to(chunk: Chunk | None) -> list[Chunk]:
    """The path that ends in a chunk."""
    path: list[Chunk] = []
    while chunk is not None and chunk.parent is not None:
        path.append(chunk)
        chunk = chunk.parent
    return path[::-1]


def padded(rows: Sequence[Places], width: int) -> Places:
    """Places (B, width) of rows of several lengths, padding standing nowhere."""
    made = np.full((len(rows), width), NOWHERE)
    for row, each in zip(made, rows, strict=True):
        row[: len(each)] = each
    return made
