"""Supervised fine-tuning: next-token prediction on the answers only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import Tensor

from promptlab.errors import DataError
from promptlab.tiny.model import Transformer
from promptlab.tiny.tokenizer import EOS, PAD, Tokenizer
from promptlab.tiny.train import Batch, Recipe, next_token_loss, train
from promptlab.types import Message

BATCH = 16
TOGETHER = 320  # tokens of a batch, padding included, that are read at once: so few stay in the processor's cache


def epochs(n: int, batch: int, steps: int, seed: int) -> Callable[[int], list[int]]:
    """Which of n examples each step takes: every example once an epoch, in an order new each epoch."""
    order: list[int] = []
    epoch = 0
    while len(order) < steps * batch:
        order += Random(f"epoch/{seed}/{epoch}").sample(range(n), n)
        epoch += 1
    return lambda step: order[step * batch : (step + 1) * batch]


def alike(chosen: Sequence[int], length: Callable[[int], int]) -> list[list[int]]:
    """The examples of a step, as many of like length at a time as are few tokens together: little is padding then.

    Their gradients add up, so this changes time only.
    """
    groups: list[list[int]] = []
    for i in sorted(chosen, key=length):
        if not groups or (len(groups[-1]) + 1) * length(i) > TOGETHER:
            groups.append([])
        groups[-1].append(i)
    return groups


def padded(rows: Sequence[list[int]], starts: Sequence[int]) -> Batch:
    """Rows of different lengths as one batch, padded on the right; targets before each row's `start` do not count."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), PAD)
    weights = torch.zeros(len(rows), width - 1)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        tokens[i, : len(row)] = torch.tensor(row)
        weights[i, start - 1 : len(row) - 1] = 1.0
    return Batch(tokens, weights)


def hidden_states(body: Transformer, tokens: Tensor) -> Tensor:
    """What a body makes, (B, T, C), of rows of tokens (B, T) padded on the right, each as it would be alone.

    In a masked model, which sees both sides, the padding is hidden; a causal one never sees what comes after.
    """
    return body(tokens, mask=None if body.config.causal else (tokens != PAD)[:, None, None])  # type: ignore[no-any-return]


def steps_for(n: int, epochs: int = 12) -> int:
    """So many epochs of n examples, but not fewer than 60 steps nor more than 160."""
    return min(160, max(60, epochs * n // BATCH))


def recipe_for(n: int) -> Recipe:
    """What suits n examples, by SFT or with a head."""
    return Recipe(steps_for(n), lr=5e-4, warmup=10, weight_decay=0.01)


def refuse_long(answers: Sequence[int], context: int) -> None:
    """Raises DataError, with counts, where answers of so many tokens leave no room for a prompt."""
    if long := [i for i, n in enumerate(answers) if n >= context]:
        raise DataError(
            f"{len(long)} of {len(answers)} answers leave no room for a prompt: the first is number {long[0] + 1}, of "
            f"{answers[long[0]]} tokens; the model's context is {context}."
        )


def sft(
    base: Transformer,
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Message]],
    seed: int = 0,
    recipe: Recipe | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Transformer:
    """A copy of `base` trained to say each chat's last message, and then to stop. Prompts are masked from the loss.

    A chat longer than the context loses its oldest tokens. Raises DataError where there is nothing to learn from, or
    answers, which are counted, leave no room in the context for even one token before them.
    """
    if not chats:
        raise DataError("sft needs at least one chat to learn from.")
    model = copy.deepcopy(base)
    answers = [[*tokenizer.encode(said.content), EOS] for *_, said in chats]
    refuse_long([len(answer) for answer in answers], base.config.context)
    rows, starts = [], []
    for (*prompt, _), answer in zip(chats, answers, strict=True):
        ids = tokenizer.chat(prompt)[len(answer) - base.config.context :]
        rows.append(ids + answer)
        starts.append(len(ids))
    recipe = recipe or recipe_for(len(rows))
    batch_of = epochs(len(rows), min(BATCH, len(rows)), recipe.steps, seed)

    def batch_at(step: int) -> list[Batch]:
        some = alike(batch_of(step), lambda i: len(rows[i]))
        return [padded([rows[i] for i in few], [starts[i] for i in few]) for few in some]

    train(model, batch_at, next_token_loss, recipe, on_step=on_step)
    return model
