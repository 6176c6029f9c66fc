"""The engine: answers many requests together, from one key-value cache for every group of prompts.

A prompt that several requests share is read once; what all prompts of a group begin with is read once for the group.
Prompts are padded on the right, so that a token's column in the cache is its position; replies stand behind the widest.
Towards batch make-up the engine is not bit-invariant: CPU matrix products round differently for other shapes, by about
1e-6 in a log-probability. What a row samples depends on its own seed and branch only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptlab.errors import ContextOverflow, ModelError
from promptlab.tiny.model import Cache, Earlier, Transformer
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.types import Reply, Request, Token, Usage

TOKENS_A_CHUNK = 16_384  # of cache, padding included: about 100 MB for the bundled model
SHARED_AT_LEAST = 24  # tokens in common from which reading a prefix once pays
MAX_NEW_TOKENS = 256  # where the request does not say
PACK = 256  # tokens of continuations that are scored side by side

T = TypeVar("T")
Prompt = tuple[int, ...]


@dataclass(slots=True)
class Read:
    """Prompts that have been read: a cache row each, how long they are, and the scores of what comes next."""

    cache: Cache
    padding: Tensor  # (B, 1, 1, S), 0 where a cache row holds its prompt, minus infinity behind it
    lengths: Tensor  # (B,) tokens of each prompt
    logits: Tensor  # (B, V)


@dataclass(slots=True)
class Row:
    """One reply in the making, to the prompt in row `of` of those read."""

    request: Request
    of: int
    uniforms: np.ndarray[tuple[int], np.dtype[np.float64]]  # one draw in [0, 1) a token: as many as there is room for
    finish: str | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def answer(
    model: Transformer, tokenizer: Tokenizer, requests: Sequence[Request], seed: int = 0
) -> list[Reply | ModelError]:
    """A reply, or the error in its place, to every request, in order. `seed` is used where a request has none."""
    replies: dict[int, Reply | ModelError] = {}
    continuations = [tokenizer.encode_all(request.continuations) for request in requests]
    askers: dict[Prompt, list[int]] = {}  # prompt -> the requests that have it
    for i, request in enumerate(requests):
        prompt = tuple(tokenizer.chat(request.messages))
        needed = max(map(len, continuations[i]), default=1)
        if (over := len(prompt) + needed - model.config.context) > 0:
            replies[i] = ContextOverflow(
                f"the prompt is {over:,} tokens too long: it has {len(prompt):,}, and the context of "
                f"{model.config.context:,} has to hold {needed:,} more"
            )
        else:
            askers.setdefault(prompt, []).append(i)
    with torch.inference_mode():
        for prompts, read in read_all(model, list(askers)):
            asked = [(row, i) for row, prompt in enumerate(prompts) for i in askers[prompt]]
            to_score = [(row, i) for row, i in asked if requests[i].continuations]
            scores = iter(score(model, read, [(row, ids) for row, i in to_score for ids in continuations[i]]))
            for row, i in to_score:
                tokens = len(prompts[row]) + sum(map(len, continuations[i]))
                replies[i] = Reply(scores=tuple(next(scores) for _ in continuations[i]), usage=Usage(tokens))
            to_write = [(row, i) for row, i in asked if not requests[i].continuations]
            rows = [begin(requests[i], row, model.config.context - len(prompts[row]), seed) for row, i in to_write]
            write(model, tokenizer, read, rows)
            for (row, i), written in zip(to_write, rows, strict=True):
                replies[i] = finished(written, tokenizer, len(prompts[row]))
    return [replies[i] for i in range(len(requests))]


def runs(items: Sequence[T], width: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The items in runs that take at most `most` cells when padded to the run's widest; no run is empty."""
    run: list[T] = []
    widest = 0
    for item in items:
        if run and (len(run) + 1) * max(widest, width(item)) > most:
            yield run
            run, widest = [], 0
        run.append(item)
        widest = max(widest, width(item))
    if run:
        yield run


# ---- reading prompts


def read_all(model: Transformer, prompts: Sequence[Prompt]) -> Iterator[tuple[list[Prompt], Read]]:
    """All prompts, some at a time: those that begin alike together, and then those of like lengths."""
    for group, shared in groups(prompts):
        yield from read_group(model, group, shared)


def read_group(model: Transformer, group: Sequence[Prompt], shared: int) -> Iterator[tuple[list[Prompt], Read]]:
    """Prompts that share their first tokens, which are read once; the rest of as many at a time as memory allows."""
    prefix = None
    if shared:
        prefix = Earlier(Cache(model.config, 1, shared, model.dtype))
        model(torch.tensor([group[0][:shared]]), cache=prefix.cache)
    for some in runs(sorted(group, key=len), lambda prompt: len(prompt) - shared, TOKENS_A_CHUNK):
        yield some, read_after(model, prefix, some)


def groups(prompts: Sequence[Prompt]) -> Iterator[tuple[list[Prompt], int]]:
    """Prompts that begin alike, with how many tokens they share; then those that are like no other, sharing none."""
    by_start: dict[Prompt, list[Prompt]] = {}
    for prompt in prompts:
        by_start.setdefault(prompt[:SHARED_AT_LEAST], []).append(prompt)
    yield from ((group, common_prefix(group)) for group in by_start.values() if len(group) > 1)
    if alone := [group[0] for group in by_start.values() if len(group) == 1]:
        yield alone, 0


def common_prefix(prompts: Sequence[Prompt]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own."""
    first, last = min(prompts), max(prompts)
    n = min(map(len, prompts)) - 1
    return next((i for i in range(n) if first[i] != last[i]), n)


def read_after(model: Transformer, prefix: Earlier | None, prompts: Sequence[Prompt]) -> Read:
    """Read prompts that all begin with the prefix. No prompt looks at its padding, which stands behind it."""
    shared = prefix.cache.length if prefix is not None else 0
    lengths = torch.tensor([len(prompt) - shared for prompt in prompts])
    B, width = len(prompts), int(lengths.max())
    tokens = torch.zeros(B, width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, : lengths[row]] = torch.tensor(prompt[shared:])
    cache = Cache(model.config, B, width, model.dtype, prefix)
    hidden = model(tokens, cache=cache)
    padding = seen(torch.arange(width) < lengths[:, None], model.dtype)[:, None, None]
    return Read(cache, padding, lengths + shared, model.logits(hidden[torch.arange(B), lengths - 1]))


def seen(may: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores: 0 where a position may be seen, minus infinity where not."""
    return torch.zeros(may.shape, dtype=dtype).masked_fill_(~may, float("-inf"))


# ---- scoring continuations


def score(model: Transformer, read: Read, pieces: Sequence[tuple[int, list[int]]]) -> list[float]:
    """Σ log p(token) of every piece (row of its prompt, the continuation's ids), in nats."""
    first = torch.log_softmax(read.logits, dim=-1)
    sums = [float(first[row, ids[0]]) if ids else 0.0 for row, ids in pieces]
    widths = [len(ids) - 1 for _, ids in pieces]  # the prompt itself tells of the first token
    packs: list[list[int]] = []  # numbers of pieces of one prompt, whose keys and values are copied once a pack
    for n, (row, _) in enumerate(pieces):
        if widths[n] > 0:
            last = packs[-1] if packs else []
            if last and pieces[last[0]][0] == row and sum(widths[m] for m in last) + widths[n] <= PACK:
                last.append(n)
            else:
                packs.append([n])
    for some in runs(packs, lambda pack: sum(widths[n] for n in pack), TOKENS_A_CHUNK // 2):
        for n, rest in score_side_by_side(model, read, pieces, some):
            sums[n] += rest
    return sums


def score_side_by_side(
    model: Transformer, read: Read, pieces: Sequence[tuple[int, list[int]]], packs: Sequence[Sequence[int]]
) -> Iterator[tuple[int, float]]:
    """(number of the piece, Σ log p of its tokens but the first). A piece sees the prompt and itself."""
    of = torch.tensor([pieces[pack[0]][0] for pack in packs])
    width = max(sum(len(pieces[n][1]) - 1 for n in pack) for pack in packs)
    inputs, targets, step = (torch.zeros(len(packs), width, dtype=torch.long) for _ in range(3))
    piece = torch.full((len(packs), width), -1)
    for k, pack in enumerate(packs):
        start = 0
        for n in pack:
            ids = torch.tensor(pieces[n][1])
            here = slice(start, start + len(ids) - 1)
            inputs[k, here], targets[k, here], piece[k, here] = ids[:-1], ids[1:], n
            step[k, here] = torch.arange(len(ids) - 1)
            start = here.stop
    itself = (piece[:, :, None] == piece[:, None]).tril()  # (packs, width, width)
    prompts = Earlier(read.cache.select(of, 0), read.padding[of])
    cache = Cache(model.config, len(packs), width, model.dtype, prompts)
    hidden = model(inputs, read.lengths[of, None] + step, seen(itself, model.dtype)[:, None], cache=cache)
    log_p = torch.log_softmax(model.logits(hidden), dim=-1).gather(2, targets[..., None]).squeeze(2)
    for k, pack in enumerate(packs):
        for n in pack:
            yield n, float(log_p[k][piece[k] == n].sum())


# ---- writing replies


def begin(request: Request, of: int, left: int, seed: int) -> Row:
    """A reply of which nothing is written yet; `left` tokens of the context are."""
    room = min(MAX_NEW_TOKENS if request.max_tokens is None else request.max_tokens, left)
    return Row(request, of, uniforms(request, seed, room), finish=None if room else "length")


def uniforms(request: Request, seed: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """n draws that depend on seed and branch alone, so that a sample does not depend on its place in a batch."""
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    return np.random.Generator(philox).random(n)


def write(model: Transformer, tokenizer: Tokenizer, read: Read, rows: Sequence[Row]) -> None:
    """Write the rows' replies, as many together as memory allows."""
    unfinished = [row for row in rows if row.finish is None]
    for batch in runs(unfinished, lambda row: read.cache.length + len(row.uniforms), 2 * TOKENS_A_CHUNK):
        write_together(model, tokenizer, read, batch)


def write_together(model: Transformer, tokenizer: Tokenizer, read: Read, batch: list[Row]) -> None:
    """Write replies, a token of every unfinished one at a time."""
    of = torch.tensor([row.of for row in batch])
    logits, lengths, padding = read.logits[of], read.lengths[of], read.padding[of]
    cache = read.cache.select(of, max(len(row.uniforms) for row in batch))
    while True:
        for row, token, log_p in zip(batch, *choose(logits, batch), strict=True):
            extend(row, token, log_p, tokenizer)
        going = [k for k, row in enumerate(batch) if row.finish is None]
        if not going:
            return
        if len(going) <= 0.75 * len(batch):  # not at once: leaving the batch costs a copy of what stays
            keep = torch.tensor(going)
            batch, lengths, padding = [batch[k] for k in going], lengths[keep], padding[keep]
            cache = cache.select(keep, max(len(row.uniforms) - len(row.ids) for row in batch))
        last = torch.tensor([row.ids[-1:] or [EOS] for row in batch])
        padding = F.pad(padding, (0, 1))  # what is written is none
        hidden = model(last, lengths[:, None], padding, cache=cache)
        logits, lengths = model.logits(hidden[:, -1]), lengths + 1


def choose(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
    """The next token of every row and its log-probability (of the model, before temperature and top-p)."""
    log_p = torch.log_softmax(logits, dim=-1)  # (B, V)
    choice = log_p.argmax(dim=-1)
    drawn = [k for k, row in enumerate(rows) if row.finish is None and row.request.temperature]
    if drawn:
        how = [(r.request.temperature, r.request.top_p, r.uniforms[len(r.ids)]) for r in (rows[k] for k in drawn)]
        temperature, top_p, u = torch.tensor(how, dtype=torch.float64)[..., None].unbind(1)  # (drawn, 1) each
        p = torch.softmax((log_p - log_p.amax(-1, True))[drawn].double() / temperature, dim=-1)
        choice[drawn] = nucleus_draw(p, top_p, u).squeeze(1)
    return choice.tolist(), log_p.gather(1, choice[:, None]).squeeze(1).tolist()


def nucleus_draw(p: Tensor, top_p: Tensor, u: Tensor) -> Tensor:
    """Holtzman et al. 2019 (arXiv 1904.09751): draws from the fewest likeliest tokens that hold `top_p`.

    By inverse CDF of u in [0, 1). p is (B, V); top_p, u and the result are (B, 1).
    """
    p, order = p.sort(dim=-1, descending=True, stable=True)
    below = p.cumsum(-1)
    last = ((below - p < top_p).sum(-1, keepdim=True) - 1).clamp(min=0)
    i = torch.searchsorted(below, u * below.gather(-1, last), right=True)
    return order.gather(-1, torch.minimum(i, last))


def extend(row: Row, token: int, log_p: float, tokenizer: Tokenizer) -> None:
    """Add a token to a reply, unless it has ended, and see whether that ends it."""
    if row.finish is not None:
        return
    if token == EOS:
        row.finish = "stop"
        return
    row.ids.append(token)
    row.logprobs.append(log_p)
    if row.request.stop and any(stop in tokenizer.decode(row.ids) for stop in row.request.stop):
        row.finish = "stop"
    elif len(row.ids) == len(row.uniforms):
        row.finish = "length"


def finished(row: Row, tokenizer: Tokenizer, prompt_tokens: int) -> Reply:
    """The reply of a row: its text up to the first stop string."""
    whole = text = tokenizer.decode(row.ids)
    for stop in row.request.stop:
        text = text.split(stop, 1)[0]
    tokens: tuple[Token, ...] = ()
    if row.request.logprobs:
        tokens = tuple(Token(tokenizer.decode([t]), p) for t, p in zip(row.ids, row.logprobs, strict=True))
    eos = row.finish == "stop" and text == whole  # it was said, and counts
    usage = Usage(prompt_tokens, output_tokens=len(row.ids) + eos)
    return Reply(text, finish="stop" if row.finish == "stop" else "length", tokens=tokens, usage=usage)
