"""A classification head: softmax(W h + b) on the pooled hidden states of the text."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptlab.tiny.model import Transformer
from promptlab.tiny.sft import BATCH, alike, epochs, hidden_states, recipe_for
from promptlab.tiny.tokenizer import PAD, Tokenizer
from promptlab.tiny.train import Batch, Recipe, train
from promptlab.types import Message


class Classifier(nn.Module):
    """Mean of the body's hidden states over the text, (B, C), times W plus b: a score a label, (B, labels)."""

    def __init__(self, body: Transformer, labels: Sequence[str]):
        super().__init__()
        self.body, self.labels = body, tuple(labels)
        self.head = nn.Linear(body.config.d_model, len(labels))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def pooled(self, batch: Batch) -> Tensor:
        hidden = hidden_states(self.body, batch.tokens)  # (B, T, C)
        weights = batch.weights[..., None]  # 1 at text, 0 at padding
        return (hidden * weights).sum(1) / weights.sum(1)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.pooled(batch))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def log_probabilities(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[float]]:
        """log p(label | text) in nats, a row a text."""
        found: dict[int, list[float]] = {}
        for few in alike(range(len(texts)), lambda i: len(texts[i]) // 4):
            batch = encoded(tokenizer, [texts[i] for i in few], self.body.config.context)
            found.update(zip(few, torch.log_softmax(self(batch).float(), dim=-1).tolist(), strict=True))
        return [found[i] for i in range(len(texts))]


def encoded(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> Batch:
    """Texts as the prompts they would be asked as, padded on the right; the oldest tokens of too long ones are cut."""
    rows = [tokenizer.chat([Message("user", text)])[-context:] for text in texts]
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    weights = torch.zeros(tokens.shape)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = 1.0
    return Batch(tokens, weights)


def label_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Σ −log p(label | text) over the batch."""
    assert batch.labels is not None
    return F.cross_entropy(model(batch), batch.labels, reduction="sum")


def train_head(
    base: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    targets: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
    frozen: bool = False,
    recipe: Recipe | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Classifier:
    """A copy of `base` with a head, both trained on the labelled texts; with `frozen` only the head is."""
    classifier = Classifier(copy.deepcopy(base), labels)
    classifier.body.requires_grad_(not frozen)
    recipe = recipe or recipe_for(len(texts))
    index = {label: i for i, label in enumerate(labels)}
    batch_of = epochs(len(texts), min(BATCH, len(texts)), recipe.steps, seed)

    def batch_of_some(few: Sequence[int]) -> Batch:
        batch = encoded(tokenizer, [texts[i] for i in few], base.config.context)
        return batch._replace(labels=torch.tensor([index[targets[i]] for i in few]))

    def batch_at(step: int) -> list[Batch]:
        return [batch_of_some(few) for few in alike(batch_of(step), lambda i: len(texts[i]) // 4)]

    train(classifier, batch_at, label_loss, recipe, on_step=on_step)
    return classifier
