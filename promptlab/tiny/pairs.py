"""Preferences: of two replies to one prompt, which is better. What reward models and DPO learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from promptlab.errors import DataError
from promptlab.tiny.model import Transformer
from promptlab.tiny.sft import padded
from promptlab.tiny.tokenizer import EOS, Tokenizer
from promptlab.tiny.train import refuse_masked
from promptlab.types import Message

Chat = Sequence[Message]


class Pair(NamedTuple):
    """Two replies to one prompt, the better one first."""

    prompt: Chat
    chosen: str
    rejected: str


class Row(NamedTuple):
    """A prompt with a reply and its end as token ids; the reply starts at `start`."""

    ids: list[int]
    start: int


class PairBatch(NamedTuple):
    """n pairs as 2n rows, the chosen replies first. Token ids (2n, T+1), weights of target tokens (2n, T).

    `given` (2n,) is what is known of each row beforehand: its log-probability under the reference, or a reward margin.
    """

    tokens: Tensor
    weights: Tensor
    given: Tensor

    @property
    def counted(self) -> float:
        """Losses of pairs are means over pairs, not over tokens."""
        return len(self.tokens) / 2


def row(tokenizer: Tokenizer, prompt: Chat, reply: str) -> Row:
    ids = tokenizer.chat(prompt)
    return Row([*ids, *tokenizer.encode(reply), EOS], len(ids))


def faults(tokenizer: Tokenizer, pairs: Sequence[Pair], context: int) -> Mapping[str, list[int]]:
    """The numbers of pairs that nothing can be learnt from, by what is wrong with them; a pair stands there once."""
    return faulty(pairs, lambda prompt, reply: len(row(tokenizer, prompt, reply).ids), context)


def faulty(pairs: Sequence[Pair], length: Callable[[Chat, str], int], context: int) -> Mapping[str, list[int]]:
    """`faults` of any tokenizer, given how many tokens a prompt with a reply and its end has."""
    found: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        if not pair.chosen.strip() or not pair.rejected.strip():
            found.setdefault("with an empty reply", []).append(i)
        elif pair.chosen == pair.rejected:
            found.setdefault("whose replies are identical", []).append(i)
        elif max(length(pair.prompt, text) for text in pair[1:]) > context:
            found.setdefault(f"longer than the context of {context} tokens", []).append(i)
    return found


def pair_rows(tokenizer: Tokenizer, pairs: Sequence[Pair], context: int) -> list[tuple[Row, Row]]:
    """Each pair's chosen and rejected row. Raises DataError, with counts, where pairs are faulty or there are none."""
    refuse_faulty(pairs, faults(tokenizer, pairs, context))
    return [(row(tokenizer, p.prompt, p.chosen), row(tokenizer, p.prompt, p.rejected)) for p in pairs]


def refuse_faulty(pairs: Sequence[Pair], found: Mapping[str, list[int]]) -> None:
    """Raises DataError, with counts, where pairs are faulty or there are none."""
    if not pairs:
        raise DataError("learning from preferences needs at least one pair.")
    if found:
        total = sum(map(len, found.values()))
        kinds = "; ".join(f"{len(of)} {kind} (the first is number {of[0] + 1})" for kind, of in found.items())
        raise DataError(f"{total} of {len(pairs)} pairs cannot be learnt from: {kinds}. `faults` lists them.")


def pair_batch(rows: Sequence[tuple[Row, Row]], given: Sequence[tuple[float, float]]) -> PairBatch:
    """Pairs side by side, padded on the right."""
    flat = [pair[side] for side in (0, 1) for pair in rows]
    tokens, weights, _ = padded([r.ids for r in flat], [r.start for r in flat])
    return PairBatch(tokens, weights, torch.tensor([numbers[side] for side in (0, 1) for numbers in given]))


def width(rows: Sequence[tuple[Row, Row]]) -> Callable[[int], int]:
    """How wide a pair of these is, in tokens."""
    return lambda i: max(len(side.ids) for side in rows[i])


def log_likelihoods(model: Transformer, batch: PairBatch) -> Tensor:
    """Σ log p(token) over each row's reply and its end, in nats, (2n,): a sum, not a mean over tokens.

    Raises SetupError for a masked model.
    """
    refuse_masked(model)
    counted = batch.weights.flatten().nonzero().squeeze(1)  # (N,): only these need the output matrix
    hidden = model(batch.tokens[:, :-1]).flatten(0, 1).index_select(0, counted)  # (N, C)
    targets = batch.tokens[:, 1:].flatten()[counted]
    log_p = -F.cross_entropy(model.logits(hidden).float(), targets, reduction="none")  # (N,)
    return log_p.new_zeros(len(batch.tokens)).index_add(0, counted // batch.weights.shape[1], log_p)
