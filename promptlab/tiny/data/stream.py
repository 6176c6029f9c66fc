"""Documents packed into rows of token ids with loss weights, keyed by (seed, row): any row can be made again alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import PromptlabError
from promptlab.tiny.data.chat import Chat, Family
from promptlab.tiny.data.mixture import EARLY, LATER, MIXTURE, ablated
from promptlab.tiny.data.tools import OBSERVATION
from promptlab.tiny.tokenizer import BOS, EOS, Tokenizer

SHORT = 256  # rows are short at first: in-context learning emerges sooner and cheaper there
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


Rows = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a run reads in each of its steps, a function of these values alone.

    Rows are short before step `long_from` and as long as the context from there on. Before step `early` there is more
    of what makes a model look back, and from step `later` on more label maps. Of the rows of a step each of
    `processes` reads its own.
    """

    seed: int
    context: int
    long_from: int
    early: int
    tokens_per_step: int = 8192
    later: float = inf
    without: tuple[str, ...] = ()
    fixed_labels: bool = False
    rank: int = 0
    processes: int = 1

    def size(self, step: int) -> int:
        """Tokens a row."""
        return min(SHORT, self.context) if step < self.long_from else self.context

    def rows(self, tokenizer: Tokenizer, step: int) -> Rows:
        """This process's rows of a step, ids and weights, each (n, size + 1); none where there are too few for all."""
        size = self.size(step)
        kind = 0 if size == SHORT else 1  # rows of the two halves are different documents
        of_all = max(1, self.tokens_per_step // size)
        start, end = (of_all * rank // self.processes for rank in (self.rank, self.rank + 1))
        mixture = EARLY if step < self.early else MIXTURE if step < self.later else LATER
        mixture = ablated(mixture, self.without, self.fixed_labels)
        return rows(tokenizer, 2 * self.seed + kind, step * of_all + start, end - start, size, mixture)


def make_rows(reading: Reading, tokenizer: Path, asked: Connection) -> None:
    """Answer each step asked for with its rows, until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks is interrupted too, and then closes the connection
    loaded = Tokenizer.load(tokenizer)
    while True:
        try:
            asked.send(reading.rows(loaded, asked.recv()))
        except (EOFError, OSError):
            return


@contextmanager
def rows_ahead(reading: Reading, tokenizer: Path) -> Iterator[Callable[[int], Rows]]:
    """The rows of a step, those of the next being made meanwhile by another process. They are the same rows.

    Raises PromptlabError if that process ends.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    here, there = spawn.Pipe()
    maker = spawn.Process(target=make_rows, args=(reading, tokenizer, there), daemon=True)
    maker.start()
    there.close()
    coming: list[int] = []

    def at(step: int) -> Rows:
        try:
            if coming != [step]:
                for _ in coming:
                    here.recv()
                here.send(step)
            made: Rows = here.recv()
            here.send(step + 1)
        except (EOFError, OSError) as error:
            raise PromptlabError("The process that makes what is read has ended.") from error
        coming[:] = [step + 1]
        return made

    try:
        yield at
    finally:
        here.close()
        maker.join()
