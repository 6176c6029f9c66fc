"""Writing replies: one step gives every row its next token, and a row that has ended makes room for one that waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from promptlab.tiny.engine import paged
from promptlab.tiny.engine.drawing import Drawing
from promptlab.tiny.engine.paged import Job
from promptlab.tiny.engine.row import Row, Said
from promptlab.tiny.engine.stage import Stage
from promptlab.tiny.engine.store import NOWHERE, Chunk, Store, places
from promptlab.tiny.engine.weights import ALIKE, Attend, Weights, hiding
from promptlab.tiny.tokenizer import EOS, Tokenizer

FEW, SHORT = 4, 48  # of fewer rows, or where they share fewer tokens, each looks at a copy of its own
APART = 16, 4096  # rows, and tokens that they share times rows, from which they are written by themselves


def write(
    weights: Weights, store: Store, stage: Stage, tokenizer: Tokenizer, jobs: Sequence[Job], invariant: bool
) -> int:
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
        for alike in by_width(some, shared, stage.ahead > 1):
            # what a session was lent goes before the next one is lent more
            tokens += Session(weights, store, stage, tokenizer, alike, shared, ALIKE if invariant else 1).write()
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


def by_width(jobs: Sequence[Job], shared: int, ahead: bool) -> list[list[Job]]:
    """Rows whose own part takes about as much room: up to 256 tokens, or twice as much, or twice that.

    Where others write `ahead`, those that are held to a schema, and so looked at after each token, are by themselves.
    """
    found: dict[tuple[bool, int], list[Job]] = {}
    for row, path in jobs:
        width = sum(len(chunk.tokens) for chunk in path[shared:]) + len(row.uniforms)
        apart = ahead and row.held is not None
        found.setdefault((apart, max(width - 1, 255).bit_length()), []).append((row, path))
    return [found[kind] for kind in sorted(found)]


class Session:
    """Rows that begin with the same `shared` chunks, which all look at in one place; the rest each has a copy of.

    They are `fewest` at least, and as many as the stage computes: others, which have ended, stand in.
    """

    def __init__(
        self,
        weights: Weights,
        store: Store,
        stage: Stage,
        tokenizer: Tokenizer,
        jobs: Sequence[Job],
        shared: int,
        fewest: int,
    ):
        self.weights, self.store, self.stage, self.tokenizer, self.fewest = weights, store, stage, tokenizer, fewest
        c, common = weights.config, places(jobs[0][1][:shared])
        self.shared = stage.in_common(len(common))
        self.waiting = deque((row, places(path)) for row, path in jobs)
        width = stage.columns(max(len(where) - self.shared + len(row.uniforms) for row, where in self.waiting))
        n = max(fewest, min(stage.rows(len(jobs)), stage.most(width)))
        spare = (replace(jobs[0][0], finish="length"), self.waiting[0][1])
        self.waiting += [spare] * (n - len(jobs))
        self.width = width
        # keys and values in one piece, so that a step's are written at once: (L, 2, B, H, W, D), and those of all rows
        self.own, self.mask, self.above = stage.lend(
            (c.n_layers, 2, n, c.n_heads, width, c.d_head),
            (n, 1, width),
            (2, c.n_layers, c.n_heads, self.shared, c.d_head),
        )
        if self.shared:
            where = store.put(common[: self.shared])
            for above, kept in zip(self.above, (store.keys, store.values), strict=True):
                above.copy_(kept[:, where].view(c.n_layers, -1, c.n_heads, c.d_head).transpose(1, 2))
        self.lengths = np.zeros(n, dtype=np.int64)  # columns of its own that each row fills
        self.rows: list[Row] = []
        self.tokens = 0  # that have been worked out

    def write(self) -> int:
        """All of them; how many tokens were worked out."""
        said = self.begin(list(range(len(self.lengths))))
        fresh = [slot for slot, row in enumerate(self.rows) if row.finish is None]
        while True:
            self.extend(fresh, said)
            fresh = [slot for slot in fresh if self.rows[slot].finish is not None][: len(self.waiting)]
            if fresh:  # a row that ends makes room at once
                said = self.begin(fresh)
                continue
            fresh = [slot for slot, row in enumerate(self.rows) if row.finish is None]
            if not fresh:
                return self.tokens
            stay = max(self.fewest, self.stage.rows(len(fresh)))
            if stay <= 0.75 * len(self.rows):  # not at once: leaving costs a copy of what stays
                ended = [slot for slot, row in enumerate(self.rows) if row.finish is not None]
                self.keep(fresh + ended[: stay - len(fresh)])
                fresh = list(range(len(fresh)))
            said = self.go_on(fresh)

    def begin(self, slots: list[int]) -> list[Said]:
        """Gives slots to rows that wait, and those of them that have not ended their first tokens."""
        logits = self.admit(slots)
        fresh = [slot for slot in slots if self.rows[slot].finish is None]  # those that stand in come last
        drawing = self.drawing(fresh, 1)
        drawing.next(logits[: len(fresh)])
        return drawing.said()

    def admit(self, slots: list[int]) -> Tensor:
        """Gives slots to rows that wait; the scores of what they begin with, (slots, V)."""
        new = [self.waiting.popleft() for _ in slots]
        lengths = [len(where) - self.shared for _, where in new]
        to, most = self.store.put(np.array(slots)), max(lengths)
        if len(self.rows) < len(self.lengths):
            self.rows = [row for row, _ in new]
        else:
            for slot, (row, _) in zip(slots, new, strict=True):
                self.rows[slot] = row
            self.own.index_fill_(2, to, 0)  # what was there may be NaN, and 0 · NaN is NaN: also what is masked counts
        if most:
            where = np.full((len(new), most), NOWHERE)
            for k, (_, each) in enumerate(new):
                where[k, : lengths[k]] = each[self.shared :]
            index = self.store.put(where)
            c = self.weights.config
            for layer, own in enumerate(self.own):
                for mine, kept in zip(own, (self.store.keys[layer], self.store.values[layer]), strict=True):
                    copied = kept[index].view(*index.shape, c.n_heads, c.d_head).transpose(1, 2)  # (slots, H, most, D)
                    mine[:, :, :most].index_copy_(0, to, copied)
        self.lengths[slots] = lengths
        closed = torch.arange(self.width, device=to.device) >= self.store.put(np.array(lengths))[:, None]
        self.mask[to, 0] = hiding(closed, self.mask.dtype)
        scores = self.weights.alike if self.fewest == ALIKE else self.weights.logits
        return scores(self.store.hidden[self.store.put(np.array([where[-1] for _, where in new]))])

    def drawing(self, slots: list[int], most: int) -> Drawing:
        """Of up to so many tokens of these rows."""
        rows = [self.rows[slot] for slot in slots]
        allowed = {k: row.held.allowed() for k, row in enumerate(rows) if row.held is not None}
        return Drawing([row.how(most) for row in rows], allowed, self.weights)

    def extend(self, slots: list[int], said: Sequence[Said]) -> None:
        """Each of these rows gets its next tokens."""
        for slot, (tokens, log_p) in zip(slots, said, strict=True):
            self.tokens += len(tokens)
            self.rows[slot].extend(tokens, log_p, self.tokenizer)

    def keep(self, slots: list[int]) -> None:
        """Only these rows stay."""
        keep = self.store.put(np.array(slots))
        self.own, self.mask = self.stage.kept(self.own, 2, keep), self.stage.kept(self.mask, 0, keep)
        self.rows, self.lengths = [self.rows[k] for k in slots], self.lengths[slots]

    def go_on(self, slots: list[int]) -> list[Said]:
        """Reads the last token of every row, draws the next of these, and so on as far as the stage goes at a time.

        What ended rows get means nothing.
        """
        rows = [self.rows[slot] for slot in slots]
        held = any(row.held is not None for row in rows)
        ahead = 1 if held else min(self.stage.ahead, max(row.left for row in rows))  # of one that ends before, too many
        drawing = self.drawing(slots, ahead)
        some = self.store.put(np.array(slots)) if len(slots) < len(self.rows) else None
        columns = np.minimum(self.lengths, self.width - 1)
        now = self.stage.put(np.array([[row.ids[-1] if row.ids else EOS for row in self.rows], columns]))
        for k in range(ahead):
            seen = min(self.stage.columns(int(columns.max()) + 1 + k), self.width)
            shape = len(self.lengths), self.own.shape[2], self.width, self.shared, seen
            logits = self.weights.logits(self.stage.run(shape, partial(self.step, now, seen)))
            chosen = drawing.next(logits if some is None else logits[some])
            if k + 1 < ahead:
                if some is None:
                    now[0] = chosen
                else:
                    now[0].index_copy_(0, some, chosen)
                now[1].add_(1).clamp_(max=self.width - 1)
        self.lengths = np.minimum(columns + ahead, self.width)
        return drawing.said()

    def step(self, now: Tensor, seen: int) -> Tensor:
        """Reads a token of every row into a column of its own, `now` (2, B), of which so many are looked at: normed
        hidden states (B, C).
        """
        tokens, columns = now
        positions = (columns + self.shared).clamp_(max=self.weights.config.context - 1)
        rows = torch.arange(len(columns), device=columns.device)
        self.mask.view(-1).index_fill_(0, rows * self.width + columns, 0)
        return self.weights.forward(tokens, positions, self.looking(rows, columns, seen))

    def looking(self, rows: Tensor, columns: Tensor, end: int) -> Attend:
        """A row sees what all share and its own columns up to its last token, which is written to `columns`."""
        _, _, N, H, W, D = self.own.shape
        B = len(rows)
        mask = self.mask[:B, :, :end].expand(-1, H, -1).reshape(B * H, 1, end)
        of_both = torch.arange(2, device=rows.device)[:, None] * N + rows[:, None, None]  # (B, 2, 1)
        heads = of_both * H + torch.arange(H, device=rows.device)  # (B, 2, H)
        cells = (heads * W + columns[:, None, None]).flatten()

        def attend(layer: int, qkv: Tensor) -> Tensor:
            own = self.own[layer]
            own.view(-1, D).index_copy_(0, cells, qkv[:, 1:].reshape(-1, D))
            keys, values = own.view(2, N * H, W, D)[:, : B * H, :end]
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
