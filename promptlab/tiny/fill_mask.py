"""What a masked model puts into the gap of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from promptlab.errors import ContextOverflow, ModelError, SetupError
from promptlab.tiny.model import Transformer
from promptlab.tiny.tokenizer import BOS, EOS, MASK, SPECIAL, Tokenizer
from promptlab.types import Reply, Request, Token, Usage

GAP = "[MASK]"  # how a gap is written


class Filling(NamedTuple):
    """A token and its probability."""

    token: str
    probability: float


def fill_mask(model: Transformer, tokenizer: Tokenizer, text: str, k: int = 5) -> list[Filling]:
    """The k likeliest tokens for the gap of a text, written [MASK], the likeliest first.

    A token keeps the space that it begins with.
    Raises ModelError where the text has not one gap or is longer than the context, SetupError for a causal model.
    """
    return [Filling(token.text, math.exp(token.logprob)) for token in top(model, tokenizer, text, k)]


def top(model: Transformer, tokenizer: Tokenizer, text: str, k: int) -> list[Token]:
    """`fill_mask` with log-probabilities, in nats."""
    if model.config.causal:
        raise SetupError("This model goes on with texts: it has not learnt to fill gaps, as `train mlm` makes one do.")
    before, after = around(text)
    log_p = at_gap(model, tokenizer, before, after, 1)[0]
    best = log_p.topk(min(k, len(log_p)))
    return [Token(written(tokenizer, i), p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def around(text: str) -> tuple[str, str]:
    """What stands before and after the one gap of a text. The space before a gap is its token's."""
    parts = text.split(GAP)
    if (gaps := len(parts) - 1) != 1:
        raise ModelError(f"the text has {gaps or 'no'} gap{'s' * (gaps > 1)} to fill: write {GAP} where the one is")
    return parts[0].removesuffix(" "), parts[1]


@torch.inference_mode()
def at_gap(model: Transformer, tokenizer: Tokenizer, before: str, after: str, n: int) -> Tensor:
    """log p of every token at each of n masks in the gap, (n, V), the text being a document of its own."""
    left = [BOS, *tokenizer.encode(before)]
    ids = [*left, *[MASK] * n, *tokenizer.encode(after), EOS]
    if len(ids) > model.config.context:
        raise ContextOverflow(f"the text has {len(ids)} tokens; the context is {model.config.context}")
    hidden = model(torch.tensor([ids], device=model.device), causal=False)[0, len(left) : len(left) + n]  # (n, C)
    return torch.log_softmax(model.logits(hidden).float(), dim=-1)


def written(tokenizer: Tokenizer, token: int) -> str:
    return SPECIAL[token] if token < len(SPECIAL) else tokenizer.decode([token])


def filled(model: Transformer, tokenizer: Tokenizer, requests: Sequence[Request]) -> list[Reply | ModelError]:
    """Replies to texts with a gap: the likeliest token for it, or the log-probability of each continuation in it.

    A continuation of several tokens is read as if the gap were as many masks, and their log-probabilities are added.
    Where a space stands before the gap, one is put before a continuation that lacks it.
    """
    return [reply_to(model, tokenizer, request) for request in requests]


def reply_to(model: Transformer, tokenizer: Tokenizer, request: Request) -> Reply | ModelError:
    text = "\n\n".join(message.content for message in request.messages)
    try:
        before, after = around(text)
        read = len(tokenizer.encode(before)) + len(tokenizer.encode(after)) + 2
        if not request.continuations:
            log_p, token = at_gap(model, tokenizer, before, after, 1)[0].max(0)
            said = written(tokenizer, int(token))
            kept = (Token(said, float(log_p)),) if request.logprobs else ()
            return Reply(said, tokens=kept, usage=Usage(read + 1, output_tokens=1))
        spaced = f"{before} {GAP}" in text
        rows = [tokenizer.encode(f" {c}" if spaced and c and c[0] != " " else c) for c in request.continuations]
        if not all(rows):
            return ModelError("a text without a token cannot fill a gap")
        at = {n: at_gap(model, tokenizer, before, after, n) for n in {len(row) for row in rows}}
    except ModelError as error:
        return error
    scores = tuple(float(at[len(row)][range(len(row)), row].sum()) for row in rows)
    return Reply(scores=scores, usage=Usage(sum(read + n for n in at)))
