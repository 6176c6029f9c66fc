"""Reading, scoring and writing by the compiled program, over blocks of tokens that texts which begin alike share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
import torch

from promptlab.tiny.engine.compiling import LANES
from promptlab.tiny.engine.program import Program, Text
from promptlab.tiny.engine.row import Row, Said
from promptlab.tiny.engine.store import Chunk, Part, Places, Store, places, up_to
from promptlab.tiny.tokenizer import Tokenizer

TOGETHER = 1024  # tokens of continuations that are read together

Job = tuple[Row, Sequence[Chunk]]  # a reply, and the path of its prompt
Piece = tuple[Places, Sequence[int]]  # a prompt, and a continuation of it


def read(program: Program, store: Store, parts: Sequence[Part]) -> None:
    """Reads what is not known of chunks whose parents have been read."""
    texts, to = [], []
    for chunk, where, known in parts:
        whole = np.concatenate([places(up_to(chunk.parent)), where])
        texts.append(Text(chunk.tokens[len(known) :], chunk.start + len(known), whole[::LANES] // LANES))
        to.append(where[len(known) :])
    store.hidden.index_copy_(0, torch.from_numpy(np.concatenate(to)), program.forward(store.blocks, texts))


class Spare:
    """Blocks for what is not kept, which several may use: one that nobody does any more is free."""

    def __init__(self, blocks: Iterable[int]):
        self.free = [*blocks]
        self.users: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.free)

    def take(self, n: int) -> list[int]:
        taken = [self.free.pop() for _ in range(n)]
        self.users.update(dict.fromkeys(taken, 1))
        return taken

    def share(self, table: Places) -> None:
        """Another uses these, of which a prompt's own do not count."""
        for block in table.tolist():
            if block in self.users:
                self.users[block] += 1

    def give(self, table: Places) -> None:
        """One uses these no more."""
        for block in table.tolist():
            if block in self.users:
                self.users[block] -= 1
                if not self.users[block]:
                    del self.users[block]
                    self.free.append(block)


def behind(store: Store, spare: Spare, table: Places, filled: int, tokens: int) -> Places:
    """Blocks to go on in for some tokens behind those that fill others so far: the same but for one not full."""
    whole, rest = divmod(filled, LANES)
    fresh = spare.take(blocks_for(rest + tokens))
    if rest:
        store.blocks.copy(int(table[whole]), fresh[0])
    spare.share(table[:whole])
    return np.array([*table[:whole], *fresh], dtype=np.int64)


def blocks_for(tokens: int) -> int:
    return -(-tokens // LANES)


def score(program: Program, store: Store, pieces: Sequence[Piece]) -> Iterator[float]:
    """Σ log p of the ids behind the first of each piece."""
    for some in runs(store, pieces):
        spare = Spare(store.spare)
        texts = [
            Text(ids[:-1], len(where), behind(store, spare, where[::LANES] // LANES, len(where), len(ids) - 1))
            for where, ids in some
        ]
        log_p = program.said(program.forward(store.blocks, texts), [i for _, ids in some for i in ids[1:]])
        yield from (float(each.sum()) for each in torch.split(log_p, [len(ids) - 1 for _, ids in some]))


def runs(store: Store, pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """As many at a time as is quick, and as there are blocks for."""
    some: list[Piece] = []
    tokens = taken = 0
    for where, ids in pieces:
        blocks = blocks_for(len(where) % LANES + len(ids) - 1)
        if some and (tokens + len(ids) > TOGETHER or taken + blocks > len(store.spare)):
            yield some
            some, tokens, taken = [], 0, 0
        some.append((where, ids))
        tokens, taken = tokens + len(ids), taken + blocks
    if some:
        yield some


class Stem:
    """Rows of a prompt that have written the same so far, and the blocks of it, where there are any."""

    __slots__ = ("path", "rows", "table")

    def __init__(self, path: Sequence[Chunk], rows: list[Row], table: Places | None = None):
        self.path, self.rows, self.table = path, rows, table

    @property
    def ids(self) -> list[int]:
        return self.rows[0].ids

    @property
    def left(self) -> int:
        return max(row.left for row in self.rows)

    def live(self) -> list[list[Row]]:
        """Those that go on, parted by what they have written last."""
        parts: dict[int, list[Row]] = {}
        for row in self.rows:
            if not row.done:
                parts.setdefault(row.ids[-1], []).append(row)
        return [*parts.values()]


class Writing:
    """Replies in the making, as a tree: what rows of a prompt write alike is worked out once, until they part.

    A part goes on in blocks of its own behind the full ones. Where there are none left it waits for others to end, and
    what it has written is then read.
    """

    def __init__(self, program: Program, store: Store, tokenizer: Tokenizer, jobs: Sequence[Job]):
        self.program, self.store, self.tokenizer = program, store, tokenizer
        alike = ([*some] for _, some in groupby(jobs, key=lambda job: id(job[1])))
        self.waiting = deque(Stem(some[0][1], [row for row, _ in some]) for some in alike)
        self.going: list[Stem] = []  # those that have parted follow each other, as they look at the same blocks
        self.spare, self.most = Spare(store.spare), program.rows * torch.get_num_threads()
        self.tokens = 0  # that have been worked out

    def write(self) -> None:
        while self.waiting or self.going:
            if new := self.admitted():
                self.begin(new)
            else:
                self.go_on()

    def admitted(self) -> list[Stem]:
        """Of those that wait as many as there is room for."""
        new: list[Stem] = []
        while self.waiting and len(self.going) + len(new) < self.most:
            stem = self.waiting[0]
            tokens = len(stem.ids) + stem.left
            if blocks_for(LANES + tokens) > len(self.spare):
                break
            where = places(stem.path)
            stem.table = behind(self.store, self.spare, where[::LANES] // LANES, len(where), tokens)
            new.append(self.waiting.popleft())
        return new

    def begin(self, new: Sequence[Stem]) -> None:
        """Their first tokens, or of those that had to wait what they have written already."""
        if again := [stem for stem in new if stem.ids]:
            texts = [Text(stem.ids[:-1], len(stem.rows[0].prompt), table(stem)) for stem in again]
            self.program.forward(self.store.blocks, texts)
            self.tokens += sum(len(text.ids) for text in texts)
            self.going += again
        if fresh := [stem for stem in new if not stem.ids]:
            logits = self.program.logits(self.store.hidden[[last(stem.path) for stem in fresh]])
            of = [k for k, stem in enumerate(fresh) for _ in stem.rows]
            said = self.program.draw(logits, [row for stem in fresh for row in stem.rows], of)
            self.going += self.extended(fresh, said)

    def go_on(self) -> None:
        now, later = self.going[: self.most], self.going[self.most :]
        said = self.program.go_on(self.store.blocks, [stem.rows for stem in now], [table(stem) for stem in now])
        self.going = [*self.extended(now, said), *later]

    def extended(self, stems: Sequence[Stem], said: Sequence[Said]) -> list[Stem]:
        """What is left of them, and has parted, with what each row has said."""
        more, left = iter(said), list[Stem]()
        for stem in stems:
            of_each = [next(more) for _ in stem.rows]
            self.tokens += len(of_each[0][0])
            for row, (tokens, log_p) in zip(stem.rows, of_each, strict=True):
                row.extend(tokens, log_p, self.tokenizer)
            left += self.parted(stem)
        return left

    def parted(self, stem: Stem) -> list[Stem]:
        """The first part goes on in the stem's blocks, others behind those that are full."""
        parts = stem.live()
        if not parts:
            self.spare.give(table(stem))
            return []
        stem.rows, found = parts[0], [stem]
        for rows in parts[1:]:
            part = Stem(stem.path, rows)
            filled, tokens = len(rows[0].prompt) + len(part.ids) - 1, part.left + 1
            if blocks_for(filled % LANES + tokens) <= len(self.spare):
                part.table = behind(self.store, self.spare, table(stem), filled, tokens)
                found.append(part)
            else:
                self.waiting.appendleft(part)
        return found


def table(stem: Stem) -> Places:
    assert stem.table is not None
    return stem.table


def last(path: Sequence[Chunk]) -> int:
    """Where the last token of a path stands."""
    assert path[-1].places is not None
    return int(path[-1].places[-1])


def write(program: Program, store: Store, tokenizer: Tokenizer, jobs: Sequence[Job]) -> int:
    """Writes the rows' replies, a waiting one taking the place of one that ends. Every path has been read.

    How many tokens were worked out for it: what rows of a path write alike is so once.
    """
    writing = Writing(program, store, tokenizer, jobs)
    writing.write()
    return writing.tokens
