"""The engine: answers many requests together, from one key-value cache per group of prompts.

A prompt that several requests share is read once; what all prompts of a group begin with is read once for the group.
Rows are padded on the left, so that every prompt ends, and every reply begins, in the same column.
Towards batch make-up the engine is not bit-invariant: CPU matrix products round differently for other shapes, by about
1e-6 in a log-probability. What a row samples depends on its own seed and branch only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from promptlab.errors import ContextOverflow, ModelError
from promptlab.tiny.model import Cache, Transformer
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.types import Reply, Request, Token, Usage

TOKENS_A_CHUNK = 16_384  # of prompt, padding included: bounds the cache to about 100 MB for the bundled model
SHARED_AT_LEAST = 24  # tokens in common from which reading a prefix once pays
MAX_NEW_TOKENS = 256  # where the request does not say


@dataclass(slots=True)
class Row:
    """One reply in the making."""

    request: Request
    uniforms: np.ndarray[tuple[int], np.dtype[np.float64]]  # one draw in [0, 1) a token
    room: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None


@dataclass(slots=True)
class Prefilled:
    """Prompts that have been read: a cache row each, which of its columns are real, the next token's scores."""

    cache: Cache
    real: Tensor  # (B, S) bool, False at padding
    lengths: Tensor  # (B,) tokens of each prompt
    logits: Tensor  # (B, V)


def answer(
    model: Transformer, tokenizer: Tokenizer, requests: Sequence[Request], seed: int = 0
) -> list[Reply | ModelError]:
    """A reply, or the error in its place, to every request, in order. `seed` is used where a request has none."""
    replies: list[Reply | ModelError | None] = [None] * len(requests)
    prompts: dict[tuple[int, ...], list[int]] = {}  # prompt -> the requests that have it
    for i, request in enumerate(requests):
        prompt = tuple(tokenizer.chat(request.messages))
        longest = max((len(ids) for ids in tokenizer.encode_all(request.continuations)), default=1)
        if len(prompt) + longest > model.config.context:
            replies[i] = ContextOverflow(
                f"the prompt has {len(prompt)} tokens and needs {longest} more; the context is {model.config.context}"
            )
        else:
            prompts.setdefault(prompt, []).append(i)
    with torch.inference_mode():
        for chunk, shared in chunks(list(prompts)):
            read = prefill(model, chunk, shared)
            of_chunk = [(row, i) for row, prompt in enumerate(chunk) for i in prompts[prompt]]
            scored = [(row, i) for row, i in of_chunk if requests[i].continuations]
            asked = [(row, i) for row, i in of_chunk if not requests[i].continuations]
            for (row, i), sums in zip(scored, score_rows(model, tokenizer, read, scored, requests), strict=True):
                n = sum(len(ids) for ids in tokenizer.encode_all(requests[i].continuations))
                replies[i] = Reply(scores=tuple(sums), usage=Usage(len(chunk[row]) + n))
            for (_, i), reply in zip(asked, generate_rows(model, tokenizer, read, asked, requests, seed), strict=True):
                replies[i] = reply
    return [reply for reply in replies if reply is not None]


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own."""
    first, last = min(prompts), max(prompts)
    n = min(len(p) for p in prompts) - 1
    return next((i for i in range(n) if first[i] != last[i]), n)


def chunks(prompts: Sequence[tuple[int, ...]]) -> Iterator[tuple[list[tuple[int, ...]], int]]:
    """Prompts in groups to read together, and how many tokens each group shares. Like lengths go together."""
    by_start: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt in prompts:
        by_start.setdefault(prompt[:SHARED_AT_LEAST], []).append(prompt)
    alone = [p for group in by_start.values() if len(group) == 1 for p in group]
    for group in [*(g for g in by_start.values() if len(g) > 1), alone]:
        shared = common_prefix(group) if len(group) > 1 and group is not alone else 0
        chunk: list[tuple[int, ...]] = []
        for prompt in sorted(group, key=len):
            if chunk and (len(chunk) + 1) * len(prompt) > TOKENS_A_CHUNK:
                yield chunk, shared
                chunk = []
            chunk.append(prompt)
        if chunk:
            yield chunk, shared


def prefill(model: Transformer, prompts: Sequence[tuple[int, ...]], shared: int) -> Prefilled:
    """Read the prompts. Columns: the shared prefix, then padding, then each prompt's own end."""
    B, width = len(prompts), max(map(len, prompts)) - shared
    lengths = torch.tensor([len(p) for p in prompts])
    own = torch.zeros(B, width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own[row, width - (len(prompt) - shared) :] = torch.tensor(prompt[shared:])
    padding = width - (lengths - shared)  # (B,)
    columns = torch.arange(width)
    real = columns >= padding[:, None]  # (B, width)
    positions = (shared + columns - padding[:, None]).clamp(min=0)
    if shared:
        first = Cache(model.config, 1, shared)
        model(torch.tensor([prompts[0][:shared]]), cache=first)
        cache = first.select(torch.zeros(B, dtype=torch.long), width)
        real = torch.cat((torch.ones(B, shared, dtype=torch.bool), real), dim=1)
    else:
        cache = Cache(model.config, B, width)
    before = torch.arange(shared + width) <= (shared + columns)[:, None]  # (width, S)
    hidden = model(own, positions, attends(before[None] & real[:, None]), cache=cache)
    return Prefilled(cache, real, lengths, model.logits(hidden[:, -1]).float())


def attends(mask: Tensor) -> Tensor:
    """A (B, T, S) mask as attention takes it, (B, 1, T, S); padding attends to itself, or its softmax would be 0/0."""
    nothing = ~mask.any(dim=-1, keepdim=True)
    return (mask | nothing)[:, None]


def score_rows(
    model: Transformer,
    tokenizer: Tokenizer,
    read: Prefilled,
    scored: Sequence[tuple[int, int]],
    requests: Sequence[Request],
) -> list[list[float]]:
    """Σ log p(token) of every continuation of the scored (row, request) pairs, in nats."""
    rows: list[tuple[int, list[int]]] = []
    for row, i in scored:
        rows += [(row, ids) for ids in tokenizer.encode_all(requests[i].continuations)]
    first = torch.log_softmax(read.logits, dim=-1)
    sums = [float(first[row, ids[0]]) if ids else 0.0 for row, ids in rows]
    longer = sorted((n for n, (_, ids) in enumerate(rows) if len(ids) > 1), key=lambda n: len(rows[n][1]))
    per_chunk = max(1, TOKENS_A_CHUNK // (read.cache.length + 8))
    for start in range(0, len(longer), per_chunk):
        some = longer[start : start + per_chunk]
        of = torch.tensor([rows[n][0] for n in some])
        width = max(len(rows[n][1]) for n in some) - 1
        tokens = torch.zeros(len(some), width + 1, dtype=torch.long)
        for k, n in enumerate(some):
            tokens[k, : len(rows[n][1])] = torch.tensor(rows[n][1])
        cache = read.cache.select(of, width)
        mask = torch.cat((read.real[of][:, None].expand(-1, width, -1), causal(width, len(some))), dim=2)
        positions = read.lengths[of][:, None] + torch.arange(width)
        hidden = model(tokens[:, :-1], positions, mask[:, None], cache=cache)
        log_p = torch.log_softmax(model.logits(hidden).float(), dim=-1)
        said = log_p.gather(2, tokens[:, 1:, None]).squeeze(2)  # (rows, width)
        for k, n in enumerate(some):
            sums[n] += float(said[k, : len(rows[n][1]) - 1].sum())
    per_request = iter(sums)
    return [[next(per_request) for _ in requests[i].continuations] for _, i in scored]


def causal(T: int, B: int) -> Tensor:
    return torch.ones(T, T, dtype=torch.bool).tril().expand(B, T, T)


def generate_rows(
    model: Transformer,
    tokenizer: Tokenizer,
    read: Prefilled,
    asked: Sequence[tuple[int, int]],
    requests: Sequence[Request],
    seed: int,
) -> list[Reply]:
    """Reply to the asked (row, request) pairs, a token of every unfinished reply at a time."""
    rows = []
    for row, i in asked:
        limit = requests[i].max_tokens
        room = min(MAX_NEW_TOKENS if limit is None else limit, model.config.context - int(read.lengths[row]))
        rows.append(Row(requests[i], uniforms(requests[i], seed, room), room))
    of = torch.tensor([row for row, _ in asked], dtype=torch.long)
    live = [n for n, row in enumerate(rows) if row.room > 0]
    logits, lengths, real = read.logits[of[live]], read.lengths[of[live]], read.real[of[live]]
    cache = read.cache.select(of[live], max((rows[n].room for n in live), default=0)) if live else read.cache
    while live:
        for n, choice, log_p in zip(live, *choose(logits, [rows[n] for n in live]), strict=True):
            extend(rows[n], choice, log_p, tokenizer)
        going = [k for k, n in enumerate(live) if rows[n].finish is None]
        if not going:
            break
        if len(going) < len(live):  # finished rows leave the batch
            keep = torch.tensor(going)
            live, lengths, real = [live[k] for k in going], lengths[keep], real[keep]
            cache = cache.select(keep, max(rows[n].room - len(rows[n].ids) for n in live))
        real = torch.cat((real, torch.ones(len(live), 1, dtype=torch.bool)), dim=1)
        last = torch.tensor([[rows[n].ids[-1]] for n in live])
        hidden = model(last, lengths[:, None], real[:, None, None], cache=cache)
        lengths = lengths + 1
        logits = model.logits(hidden[:, -1]).float()
    prompt_tokens = [int(read.lengths[row]) for row, _ in asked]
    return [finished(row, tokenizer, n) for row, n in zip(rows, prompt_tokens, strict=True)]


def uniforms(request: Request, seed: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """n draws that depend on seed and branch alone, so that a sample does not depend on its place in a batch."""
    key = repr((request.seed if request.seed is not None else seed, request.branch)).encode()
    philox = np.random.Philox(key=int.from_bytes(hashlib.sha256(key).digest()[:16], "little"))
    return np.random.Generator(philox).random(max(n, 0))


def choose(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
    """The next token of every row and its log-probability (of the model, before temperature and top-p)."""
    log_p = torch.log_softmax(logits, dim=-1)  # (B, V)
    choice = log_p.argmax(dim=-1)
    for k, row in enumerate(rows):
        if row.request.temperature:
            p = torch.softmax(logits[k].double() / row.request.temperature, dim=-1)
            choice[k] = nucleus_draw(p, row.request.top_p, row.uniforms[len(row.ids)])
    return choice.tolist(), log_p.gather(1, choice[:, None]).squeeze(1).tolist()


def nucleus_draw(p: Tensor, top_p: float, u: float) -> int:
    """Holtzman et al. 2019 (arXiv 1904.09751): a draw from the fewest likeliest tokens holding `top_p`, by inverse CDF."""
    p, order = p.sort(descending=True, stable=True)
    below = p.cumsum(0)
    kept = int((below - p < top_p).sum())
    i = int(torch.searchsorted(below[:kept], u * float(below[kept - 1]), right=True))
    return int(order[min(i, kept - 1)])


def extend(row: Row, token: int, log_p: float, tokenizer: Tokenizer) -> None:
    """Add a token to a reply and see whether it ends it."""
    if token == EOS:
        row.finish = "stop"
        return
    row.ids.append(token)
    row.logprobs.append(log_p)
    if row.request.stop and any(stop in tokenizer.decode(row.ids) for stop in row.request.stop):
        row.finish = "stop"
    elif len(row.ids) >= row.room:
        row.finish = "length"


def finished(row: Row, tokenizer: Tokenizer, prompt_tokens: int) -> Reply:
    """The reply of a row: its text up to the first stop string."""
    text = tokenizer.decode(row.ids)
    for stop in row.request.stop:
        text = text.split(stop, 1)[0]
    tokens: tuple[Token, ...] = ()
    if row.request.logprobs:
        tokens = tuple(Token(tokenizer.decode([t]), p) for t, p in zip(row.ids, row.logprobs, strict=True))
    usage = Usage(prompt_tokens, output_tokens=len(row.ids) + (row.finish == "stop"))
    return Reply(text, finish="stop" if row.finish == "stop" else "length", tokens=tokens, usage=usage)
