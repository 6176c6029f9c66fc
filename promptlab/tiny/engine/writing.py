"""Writing replies: one step gives every row its next token, and a row that has ended makes room for one that waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from promptlab.tiny.engine import paged
from promptlab.tiny.engine.drawing import choose
from promptlab.tiny.engine.paged import Job
from promptlab.tiny.engine.row import Row
from promptlab.tiny.engine.store import NOWHERE, Chunk, Places, Store, places
from promptlab.tiny.engine.weights import ALIKE, Attend, Weights, room
from promptlab.tiny.tokenizer import EOS, Tokenizer

ROWS = 128  # written together at most: more make no step faster by the row
CELLS = 32_768  # tokens of the rows' own cache, padding included: about 200 MB for the bundled model
FEW, SHORT = 4, 48  # of fewer rows, or where they share fewer tokens, each looks at a copy of its own
APART = 16, 4096  # rows, and tokens that they share times rows, from which they are written by themselves


def write(weights: Weights, store: Store, tokenizer: Tokenizer, jobs: Sequence[Job], invariant: bool) -> int:
    """Writes the rows' replies. Every path has been read, and they are in the tree's order.

    How many tokens were worked out for it, those that rows write alike once where it is compiled. Where they are to be
    `invariant`, PyTorch has each look at a copy of its own, and there are never too few of them.
    """
    for row, _ in jobs:
        if not len(row.uniforms):
            row.finish = "length"
    jobs = [job for job in jobs if not job[0].done]
    if store.program is not None:
        return paged.write(store.program, store, tokenizer, jobs)
    tokens = 0
    for some in sessions(jobs, 0):
        shared = min(shared_by(some[0][1], path) for _, path in some)
        if invariant or len(some) < FEW or sum(len(chunk.tokens) for chunk in some[0][1][:shared]) < SHORT:
            shared = 0
        for alike in by_width(some, shared):
            session = Session(weights, store, tokenizer, alike, shared, ALIKE if invariant else 1)
            session.write()
            tokens += session.tokens
    return tokens


def sessions(jobs: Sequence[Job], depth: int) -> list[list[Job]]:
    """Rows that are written together: those that share much by themselves, so that it is looked at once for all."""
    apart: list[list[Job]] = []
    rest: list[Job] = []
    for _, group in groupby(jobs, key=lambda job: id(job[1][depth]) if len(job[1]) > depth else 0):
        some = list(group)
        end = min(shared_by(some[0][1], path) for _, path in some)
        tokens = sum(len(chunk.tokens) for chunk in some[0][1][depth:end])
        if len(some) < len(jobs) and len(some) >= APART[0] and tokens * len(some) >= APART[1]:
            apart += sessions(some, end)
        elif len(some) == len(jobs) and end > depth:
            return sessions(some, end)
        else:
            rest += some
    return [*apart, rest] if rest else apart


def shared_by(one: Sequence[Chunk], other: Sequence[Chunk]) -> int:
    """How many chunks two paths begin with."""
    n = min(len(one), len(other))
    return next((i for i in range(n) if one[i] is not other[i]), n)


def by_width(jobs: Sequence[Job], shared: int) -> list[list[Job]]:
    """Rows whose own part takes about as much room: up to 256 tokens, or twice as much, or twice that."""
    found: dict[int, list[Job]] = {}
    for row, path in jobs:
        width = sum(len(chunk.tokens) for chunk in path[shared:]) + len(row.uniforms)
        found.setdefault(max(width - 1, 255).bit_length(), []).append((row, path))
    return [found[width] for width in sorted(found)]


def seen(columns: int) -> int:
    """How many columns are looked at where so many are filled: of few sizes, in all of which sums are the same."""
    return max(32, -(-columns // 16) * 16)  # of fewer PyTorch multiplies otherwise


class Session:
    """Rows that begin with the same `shared` chunks, which all look at in one place; the rest each has a copy of.

    They are `fewest` at least: others, which have ended, stand in.
    """

    def __init__(
        self, weights: Weights, store: Store, tokenizer: Tokenizer, jobs: Sequence[Job], shared: int, fewest: int
    ):
        self.weights, self.store, self.tokenizer, self.fewest = weights, store, tokenizer, fewest
        jobs = [*jobs, *[(replace(jobs[0][0], finish="length"), jobs[0][1])] * (fewest - len(jobs))]
        c = weights.config
        common = places(jobs[0][1][:shared])
        self.shared = len(common)
        self.waiting = deque((row, places(path)) for row, path in jobs)
        width = seen(max(len(where) - self.shared + len(row.uniforms) for row, where in self.waiting))
        n = min(len(jobs), ROWS, max(fewest, CELLS // width))
        self.width = width
        where = torch.from_numpy(common)
        # (L, H, S, D) and, of every row, (L, B, H, W, D)
        self.above = [x[:, where].view(c.n_layers, -1, c.n_heads, c.d_head).transpose(1, 2).contiguous()
                      for x in (store.keys, store.values)] if self.shared else []  # fmt: skip
        # keys and values in one piece, so that a step's are written at once
        self.own = room(c.n_layers, 2, n, c.n_heads, width, c.d_head, dtype=weights.dtype)
        self.mask = torch.full((n, 1, width), float("-inf"), dtype=weights.dtype)
        self.lengths = np.zeros(n, dtype=np.int64)  # columns of its own that each row fills
        self.rows: list[Row] = []
        self.tokens = 0  # that have been worked out

    def write(self) -> None:
        n = len(self.lengths)
        logits = self.admit(list(range(n)))
        fresh = [slot for slot, row in enumerate(self.rows) if row.finish is None]
        while True:
            while fresh:  # a row that ends at once makes room at once
                self.extend(fresh, logits[fresh] if len(fresh) < len(self.rows) else logits)
                fresh = [slot for slot in fresh if self.rows[slot].finish is not None][: len(self.waiting)]
                if fresh:
                    logits[fresh] = self.admit(fresh)
            going = [slot for slot, row in enumerate(self.rows) if row.finish is None]
            if not going:
                return
            ended = [slot for slot, row in enumerate(self.rows) if row.finish is not None]
            stay = going + ended[: max(0, self.fewest - len(going))]
            if len(stay) <= 0.75 * len(self.rows):  # not at once: leaving costs a copy of what stays
                self.keep(stay)
                going = list(range(len(going)))
            logits, fresh = self.step(), going

    def admit(self, slots: list[int]) -> Tensor:
        """Gives slots to rows that wait; the scores of what they begin with, (slots, V)."""
        new = [self.waiting.popleft() for _ in slots]
        lengths = [len(where) - self.shared for _, where in new]
        if len(self.rows) < len(self.lengths):
            self.rows = [row for row, _ in new]
        else:
            for slot, (row, _) in zip(slots, new, strict=True):
                if self.rows[slot].finish == "nan":  # 0 · NaN is NaN: also what is masked has to be numbers
                    self.own[:, :, slot] = 0
                self.rows[slot] = row
        to, most = torch.tensor(slots), max(lengths)
        if most:
            where = np.full((len(new), most), NOWHERE)
            for k, (_, each) in enumerate(new):
                where[k, : lengths[k]] = each[self.shared :]
            index = torch.from_numpy(where)
            c = self.weights.config
            for layer, own in enumerate(self.own):
                for mine, kept in zip(own, (self.store.keys[layer], self.store.values[layer]), strict=True):
                    copied = kept[index].view(*index.shape, c.n_heads, c.d_head).transpose(1, 2)  # (slots, H, most, D)
                    mine[:, :, :most].index_copy_(0, to, copied)
        self.lengths[slots] = lengths
        open_to = torch.arange(self.width) < torch.tensor(lengths)[:, None]
        self.mask[to, 0] = torch.zeros(open_to.shape, dtype=self.mask.dtype).masked_fill_(~open_to, float("-inf"))
        scores = self.weights.alike if self.fewest == ALIKE else self.weights.logits
        return scores(self.store.hidden[[int(where[-1]) for _, where in new]])

    def extend(self, slots: list[int], logits: Tensor) -> None:
        """Each of these rows gets its next token."""
        rows = [self.rows[slot] for slot in slots]
        allowed = {k: row.held.allowed() for k, row in enumerate(rows) if row.held is not None}
        tokens, log_p = choose(logits, [row.how() for row in rows], allowed)
        self.tokens += len(tokens)
        for row, token, p in zip(rows, tokens, log_p, strict=True):
            row.extend([token], [p], self.tokenizer)

    def keep(self, slots: list[int]) -> None:
        """Only these rows stay."""
        keep = torch.tensor(slots)
        self.own = self.own.index_select(2, keep)
        self.rows, self.mask, self.lengths = [self.rows[k] for k in slots], self.mask[keep], self.lengths[slots]

    def step(self) -> Tensor:
        """Reads the last token of every row: the scores of the next, (B, V). What ended rows get means nothing."""
        columns = np.minimum(self.lengths, self.width - 1)
        self.lengths = columns + 1
        self.mask[torch.arange(len(columns)), 0, torch.from_numpy(columns)] = 0
        positions = np.minimum(columns + self.shared, self.weights.config.context - 1)
        tokens = torch.tensor([row.ids[-1] if row.ids else EOS for row in self.rows])
        hidden = self.weights.forward(tokens, torch.from_numpy(positions), self.looking(columns))
        return self.weights.logits(hidden)

    def looking(self, columns: Places) -> Attend:
        """A row sees what all share and its own columns up to its last token, which is written to `columns`."""
        _, _, B, H, W, D = self.own.shape
        end = seen(int(columns.max()) + 1)
        mask = self.mask[:, :, :end].expand(-1, H, -1).reshape(B * H, 1, end)
        rows = (np.arange(2)[:, None] * B + np.arange(B)[:, None, None]) * H  # (B, 2, 1)
        cells = torch.from_numpy((((rows + np.arange(H)) * W) + columns[:, None, None]).ravel())

        def attend(layer: int, qkv: Tensor) -> Tensor:
            own = self.own[layer]
            own.view(-1, D).index_copy_(0, cells, qkv[:, 1:].reshape(-1, D))
            keys, values = own.view(2, B * H, W, D)[:, :, :end]
            q = qkv[:, 0]  # (B, H, D)
            scores = torch.bmm(q.reshape(B * H, 1, D), keys.transpose(1, 2)).add_(mask)
            if not self.shared:
                return torch.bmm(torch.softmax(scores, dim=-1), values).view(B, H * D)
            above = torch.bmm(q.transpose(0, 1), self.above[0][layer].transpose(1, 2))  # (H, B, S)
            scores = torch.cat((above.transpose(0, 1), scores.view(B, H, end)), dim=-1)
            p_above, p_own = torch.split(torch.softmax(scores, dim=-1), [self.shared, end], dim=-1)
            y = torch.bmm(p_own.reshape(B * H, 1, end), values).view(B, H, D)
            return y.add_(torch.bmm(p_above.transpose(0, 1), self.above[1][layer]).transpose(0, 1)).view(B, H * D)

        return attend
