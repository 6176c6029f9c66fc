"""The engine: answers a wave of requests together, and reads nothing twice.

The wave's prompts are paths in a tree of chunks of tokens (`store`), of which what is not kept from earlier waves is
read (`reading`). Continuations are then scored (`weighing`) and replies written (`writing`), as many together as memory
allows, a waiting one taking the place of one that ends. Replies to one prompt are a tree as well where they are written
by the compiled program: what they begin with alike is worked out once, and each draws its own next token from it.

Where there is a C compiler, and the model is in float32, the numbers are worked out by a program of our own (`program`,
`arithmetic.c`), over blocks of tokens (`paged`). An answer is then the same to the bit whatever else is asked, and
whatever was kept. The environment's PROMPTLAB_COMPILE=0 turns it off.

Else it is PyTorch's. What is read and scored then comes out the same to the bit as well. A reply may depend on the
make-up of its wave, by about 1e-6 in a log-probability and never on earlier waves, as products of few rows are rounded
otherwise than those of many, and so is what several rows look at in one place; with `batch_invariant` it does not.
This holds where rows of a product of `weights.ALIKE` rows or more are rounded alike, as on a CPU they are.

Where the model is on a GPU, PyTorch does it too, and all of an answer may depend on its wave by a rounding. Replies are
written in steps of few shapes, captured as graphs (`stage`), several tokens ahead of a look at them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch

from promptlab.alternatives import scores_of
from promptlab.constrained import Held
from promptlab.errors import ContextOverflow, Interrupted, ModelError
from promptlab.tiny.engine.drawing import uniforms
from promptlab.tiny.engine.narrow import Kept
from promptlab.tiny.engine.program import program
from promptlab.tiny.engine.reading import read
from promptlab.tiny.engine.row import Row
from promptlab.tiny.engine.stage import stage_for
from promptlab.tiny.engine.store import Chunk, Prompt, Store, room_for
from promptlab.tiny.engine.weighing import Weighing, weigh
from promptlab.tiny.engine.weights import Weights
from promptlab.tiny.engine.writing import write
from promptlab.tiny.model import Transformer
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.types import Reply, Request, Token, Usage

MAX_NEW_TOKENS = 256  # where the request does not say

Asked = tuple[list[Chunk], list[Row | Weighing]]


class Engine:
    """A model that answers, one wave at a time, whichever threads they come from.

    Its parameters may change between calls, and what was read before is then forgotten: not so where they are written
    to through `.data`, which leaves no mark; then say `forget`. `cache_mb` bounds what is kept of prompts (`room_for`).
    `tokens_read` counts the prompt tokens that went through the model, continuations and replies not among them, and
    `tokens_written` those of replies that were worked out, which several may have in common. With `share` off every
    request is computed for itself, to see what sharing saves; with `batch_invariant` a reply is the same to the bit in
    any wave. Matrices are `kept` in that many bits (`narrow`).
    """

    store: Store

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        cache_mb: float | None = None,
        batch_invariant: bool = False,
        kept: Kept = "float32",
    ):
        self.model, self.tokenizer, self.batch_invariant, self.kept = model, tokenizer, batch_invariant, kept
        self.capacity = room_for(model, cache_mb)
        self.tokens_read, self.tokens_written, self.share = 0, 0, True
        self.working = threading.RLock()
        self.forget()

    def forget(self) -> None:
        """Keeps nothing of what was read before."""
        with self.working:
            state = versions(self.model)
            self.weights = Weights(self.model, self.kept)
            self.weights.program = program(self.weights)
            if "store" in self.__dict__ and self.store.fits(self.weights):
                self.store.empty(self.weights)  # in memory that the system has handed out already
            else:
                self.__dict__.pop("store", None)  # goes before there is a new one, as the stage does
                self.store = Store(self.weights, self.capacity)
            self.__dict__.pop("stage", None)
            self.stage, self.state = stage_for(self.weights), state

    def answer(self, requests: Sequence[Request], seed: int = 0) -> list[Reply | ModelError]:
        """A reply, or the error in its place, to every request, in order. `seed` is used where a request has none.

        After Ctrl-C raises Interrupted with the replies that are whole.
        """
        replies: dict[int, Reply | ModelError] = {}
        jobs: dict[int, Row | Weighing] = {}
        context = self.model.config.context
        for i, request in enumerate(requests):
            prompt = tuple(self.tokenizer.chat(request.messages))
            continuations = self.tokenizer.encode_all(request.continuations)
            needed = max(map(len, continuations), default=1)
            if (over := len(prompt) + needed - context) > 0:
                replies[i] = ContextOverflow(
                    f"the prompt is {over:,} tokens too long: it has {len(prompt):,}, and the context of "
                    f"{context:,} has to hold {needed:,} more"
                )
            elif continuations:
                jobs[i] = Weighing(prompt, continuations, request.alternatives)
            else:
                try:
                    held = None if request.schema is None else Held(request.schema, self.tokenizer.grammatical)
                except ModelError as error:
                    replies[i] = error
                else:
                    jobs[i] = begin(prompt, request, context, seed, held)
        try:
            self.work(list(jobs.values()))
        except KeyboardInterrupt as stop:
            replies |= self.told({i: job for i, job in jobs.items() if job.done})
            raise Interrupted([replies.get(i) for i in range(len(requests))]) from stop
        replies |= self.told(jobs)
        return [replies[i] for i in range(len(requests))]

    def told(self, done: Mapping[int, Row | Weighing]) -> dict[int, Reply | ModelError]:
        return {
            i: weighed(job) if isinstance(job, Weighing) else written(job, self.tokenizer) for i, job in done.items()
        }

    def work(self, jobs: Sequence[Row | Weighing]) -> None:
        """Does what was begun, as many prompts at a time as the cache holds."""
        with self.working:
            self._work(jobs)

    def _work(self, jobs: Sequence[Row | Weighing]) -> None:
        if self.state != versions(self.model):
            self.forget()
        in_order = sorted(jobs, key=lambda job: job.prompt)  # of the tree
        if self.share:
            wanted = [(prompt, list(alike)) for prompt, alike in groupby(in_order, key=lambda job: job.prompt)]
        else:
            wanted = [(job.prompt, [job]) for job in in_order]
        with torch.inference_mode():
            for part in self.parts(wanted):
                self.tokens_read += read(self.weights, self.store, [path for path, _ in part])
                for path, _ in part:
                    self.store.use(path)  # what others stand on goes after them
                each = [(job, path) for path, asked in part for job in asked]
                weigh(self.weights, self.store, [(job, path) for job, path in each if isinstance(job, Weighing)])
                rows = [(job, path) for job, path in each if isinstance(job, Row)]
                self.tokens_written += write(
                    self.weights, self.store, self.stage, self.tokenizer, rows, self.batch_invariant
                )

    def parts(self, wanted: Sequence[tuple[Prompt, list[Row | Weighing]]]) -> Iterator[list[Asked]]:
        """Paths, in the tree's order, and what is asked of each, as many at a time as there is room for."""
        part: list[Asked] = []
        seen: set[Chunk] = set()
        tokens = 0
        for prompt, asked in wanted:
            path = self.store.path(prompt, share=self.share)
            more = sum(self.store.size(chunk) for chunk in path if chunk not in seen)
            if part and tokens + more > self.store.capacity:
                yield part
                part, seen, tokens = [], set(), 0
                path = self.store.path(prompt, share=self.share)  # what was seen of it may have gone
                more = sum(map(self.store.size, path))
            part.append((path, asked))
            seen.update(path)
            tokens += more
            self.store.use(path)
        if part:
            yield part


def versions(model: Transformer) -> tuple[tuple[int, int], ...]:
    """Other numbers wherever a parameter has been written to, by other ways than its `.data`, or replaced."""
    return tuple((p.data_ptr(), -1 if p.is_inference() else p._version) for p in model.parameters())


def answer(
    model: Transformer, tokenizer: Tokenizer, requests: Sequence[Request], seed: int = 0
) -> list[Reply | ModelError]:
    """What an engine that has read nothing yet answers."""
    return Engine(model, tokenizer).answer(requests, seed)


def begin(prompt: Prompt, request: Request, context: int, seed: int, held: Held | None = None) -> Row:
    """A reply of which nothing is written yet."""
    most = MAX_NEW_TOKENS if request.max_tokens is None else request.max_tokens
    return Row(prompt, request, uniforms(request, seed, min(most, context - len(prompt))), held)


def written(row: Row, tokenizer: Tokenizer) -> Reply | ModelError:
    """The reply of a row: its text up to the first stop string."""
    if row.finish == "nan":
        return no_numbers(f"token {len(row.ids) + 1} of the reply")
    whole = text = tokenizer.decode(row.ids)
    for stop in row.request.stop:
        text = text.split(stop, 1)[0]
    tokens: tuple[Token, ...] = ()
    if row.request.logprobs:
        tokens = tuple(Token(tokenizer.decode([t]), p) for t, p in zip(row.ids, row.logprobs, strict=True))
    eos = row.finish == "stop" and text == whole  # it was said, and counts
    usage = Usage(len(row.prompt), output_tokens=len(row.ids) + eos)
    return Reply(text, finish="stop" if row.finish == "stop" else "length", tokens=tokens, usage=usage)


def weighed(weighing: Weighing) -> Reply | ModelError:
    if any(score != score for score in weighing.sums):
        return no_numbers("a continuation")
    tokens = len(weighing.prompt) + sum(map(len, weighing.continuations))
    scores = scores_of(weighing.sums, weighing.continuations, weighing.alternatives)
    return Reply(scores=scores, usage=Usage(tokens))


def no_numbers(where: str) -> ModelError:
    return ModelError(f"the model's scores at {where} are not numbers (NaN); its weights have overflown")
