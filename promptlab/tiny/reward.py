"""A reward model: which of two replies people would prefer, learnt as a score of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptlab.errors import DataError
from promptlab.tiny.engine import answer
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Chat, Pair, PairBatch, pair_batch, pair_rows, row, width
from promptlab.tiny.sft import BATCH, alike, epochs, hidden_states, padded, steps_for
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Recipe, train
from promptlab.types import Reply, Request


class RewardModel(nn.Module):
    """A transformer's body with one number read from the hidden state of the last token, the reply's end.

    `forward` gives raw scores; `rewards` gives them minus `shift` over `scale`, which are 0 and 1 until `whiten`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, body: Transformer):
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.config.d_model, 1, bias=False)
        nn.init.zeros_(self.head.weight)  # so that no pair is preferred at first and the loss starts at ln 2
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Scores (B,) of rows of tokens (B, T+1); the last target of weight 1 (B, T) is the last token."""
        places = torch.arange(1, tokens.shape[1])
        last = (places * (weights > 0)).amax(1)  # (B,)
        hidden = hidden_states(self.body, tokens)  # (B, T+1, C)
        return self.head(hidden[torch.arange(len(tokens)), last]).squeeze(1)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def rewards(self, tokenizer: Tokenizer, replies: Sequence[tuple[Chat, str]]) -> list[float]:
        """The reward of each (prompt, reply). What is longer than the context loses its oldest tokens."""
        found: dict[int, float] = {}
        rows = [row(tokenizer, *reply).ids[-self.body.config.context :] for reply in replies]
        for few in alike(range(len(rows)), lambda i: len(rows[i])):
            batch = padded([rows[i] for i in few], [1] * len(few))
            scores = (self(batch.tokens, batch.weights) - self.shift) / self.scale
            found.update(zip(few, scores.tolist(), strict=True))
        return [found[i] for i in range(len(rows))]

    def whiten(self, policy: Transformer, tokenizer: Tokenizer, prompts: Sequence[Chat], seed: int = 0) -> RewardModel:
        """Set shift and scale so that rewards of the policy's own samples have mean 0 and variance 1.

        As before PPO in Huang et al. 2024 (arXiv 2403.17031), where the policy is the one that PPO starts from. One
        sample a prompt at temperature 1, so give a few hundred prompts; with fewer than two it is a DataError.
        """
        asked = [Request(tuple(p), temperature=1.0, branch=(i,)) for i, p in enumerate(prompts)]
        replies = answer(policy, tokenizer, asked, seed)
        written = [(p, r.text) for p, r in zip(prompts, replies, strict=True) if isinstance(r, Reply)]
        if len(written) < 2:
            raise DataError(f"whitening needs samples for at least two prompts; got {len(written)}.")
        raw = torch.tensor(self.rewards(tokenizer, written)) * self.scale + self.shift
        self.shift, self.scale = raw.mean(), raw.std().clamp_min(1e-8)
        return self


def bradley_terry_losses(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, centre: float = 0.0) -> Tensor:
    """−log σ(r_c − r_r − m) + c (r_c + r_r)², one a pair (Ouyang et al. 2022, arXiv 2203.02155, eq. 1).

    The margin m is of Touvron et al. 2023 (2307.09288, eq. 2), the second term of Eisenstein et al. 2023 (2312.09244):
    a pair fixes the difference of two rewards only, and the term keeps their mean at 0.
    """
    return -F.logsigmoid(chosen - rejected - margin) + centre * (chosen + rejected).square()


class RewardStep(NamedTuple):
    """A step's means over its pairs, as they were before the step."""

    step: int
    loss: float
    margin: float  # reward of the chosen minus that of the rejected
    accuracy: float  # share of pairs whose chosen reply has the higher reward; a tie counts half


def reward_model(
    base: Transformer,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    *,
    margins: Sequence[float] | None = None,
    centre: float = 0.01,
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: Callable[[RewardStep], None] | None = None,
) -> RewardModel:
    """A copy of `base` with a reward head, trained to give each pair's chosen reply the higher reward.

    `margins` say by how much, one a pair. Raises DataError, with counts, where pairs cannot be learnt from.
    """
    rows = pair_rows(tokenizer, pairs, base.config.context)
    if margins is not None and len(margins) != len(pairs):
        raise DataError(f"there are {len(margins)} margins for {len(pairs)} pairs.")
    model = RewardModel(copy.deepcopy(base))
    recipe = recipe or recipe_for(len(rows))
    batch_of = epochs(len(rows), min(BATCH, len(rows)), recipe.steps, seed)
    seen: list[Tensor] = []

    def batch_at(step: int) -> list[PairBatch]:
        return [
            pair_batch([rows[i] for i in few], [(margins[i], 0.0) if margins else (0.0, 0.0) for i in few])
            for few in alike(batch_of(step), width(rows))
        ]

    def loss(model: nn.Module, batch: PairBatch) -> Tensor:
        chosen, rejected = model(batch.tokens, batch.weights).chunk(2)
        seen.append((chosen - rejected).detach())
        return bradley_terry_losses(chosen, rejected, batch.given.chunk(2)[0], centre).sum()

    def report(step: int, value: float) -> None:
        margin = torch.cat(seen)
        seen.clear()
        if on_step is not None:
            on_step(RewardStep(step, value, float(margin.mean()), share_right(margin.tolist())))

    train(model, batch_at, loss, recipe, on_step=report)
    return model


def recipe_for(n: int) -> Recipe:
    """What suits n pairs."""
    return Recipe(steps_for(n, epochs=4), lr=3e-4, warmup=10, weight_decay=0.01)


def share_right(margins: Iterable[float]) -> float:
    """The share of margins above 0; a tie counts half."""
    signs = [0.5 + 0.5 * ((m > 0) - (m < 0)) for m in margins]
    return sum(signs) / len(signs)


def reward_accuracy(model: RewardModel, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> float:
    """The share of pairs whose chosen reply has the higher reward; a tie counts half."""
    chosen = model.rewards(tokenizer, [(p.prompt, p.chosen) for p in pairs])
    rejected = model.rewards(tokenizer, [(p.prompt, p.rejected) for p in pairs])
    return share_right(c - r for c, r in zip(chosen, rejected, strict=True))
