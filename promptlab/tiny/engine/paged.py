"""Reading, scoring and writing by the compiled program, over blocks of tokens that texts which begin alike share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from promptlab.tiny.engine.compiling import LANES
from promptlab.tiny.engine.program import Program, Text
from promptlab.tiny.engine.row import Row
from promptlab.tiny.engine.store import Chunk, Part, Places, Store, places, up_to
from promptlab.tiny.tokenizer import Tokenizer

ROWS = 12  # written together by a thread: what more of them look at no longer is in the processor's own memory
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


class Behind:
    """Blocks of what is read behind a prompt: the prompt's own, but for one not filled, and some to go on in."""

    def __init__(self, store: Store, free: list[int], prompt: Places, tokens: int):
        whole, rest = divmod(len(prompt), LANES)
        self.mine = [free.pop() for _ in range(blocks_for(rest + tokens))]
        self.table = np.array([*(prompt[::LANES] // LANES)[:whole], *self.mine], dtype=np.int64)
        if rest:
            numbers = store.blocks.numbers
            numbers[:, self.mine[0]] = numbers[:, int(prompt[-1]) // LANES]


def blocks_for(tokens: int) -> int:
    return -(-tokens // LANES)


def score(program: Program, store: Store, pieces: Sequence[Piece]) -> Iterator[float]:
    """Σ log p of the ids behind the first of each piece."""
    for some in runs(store, pieces):
        free = [*store.spare]
        behind = [Behind(store, free, where, len(ids) - 1) for where, ids in some]
        texts = [Text(ids[:-1], len(where), each.table) for (where, ids), each in zip(some, behind, strict=True)]
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


def write(program: Program, store: Store, tokenizer: Tokenizer, jobs: Sequence[Job]) -> None:
    """Writes the rows' replies, a waiting one taking the place of one that ends. Every path has been read."""
    waiting, going = deque(jobs), list[tuple[Row, Behind]]()
    free, most = [*store.spare], ROWS * torch.get_num_threads()
    while waiting or going:
        new: list[tuple[Row, Behind]] = []
        ends: list[int] = []
        while waiting and len(going) + len(new) < most and blocks_for(LANES + waiting[0][0].left) <= len(free):
            row, path = waiting.popleft()
            where = places(path)
            new.append((row, Behind(store, free, where, row.left)))
            ends.append(int(where[-1]))
        if new:
            said = program.draw(program.logits(store.hidden[ends]), [row for row, _ in new])
        else:
            new, going = going, []
            said = program.go_on(store.blocks, [row for row, _ in new], [behind.table for _, behind in new])
        for (row, behind), (tokens, log_p) in zip(new, said, strict=True):
            row.extend(tokens, log_p, tokenizer)
            if row.done:
                free += behind.mine
            else:
                going.append((row, behind))
