"""Quick looks at a model while it trains: does it read label maps it has never seen from their demonstrations?"""

from __future__ import annotations

from random import Random

import torch

from promptlab.tiny.data.chat import Chat, assistant, distinct, nonsense, system, user
from promptlab.tiny.data.label_maps import HELD_OUT_LABELS, options
from promptlab.tiny.model import Transformer
from promptlab.tiny.tokenizer import Tokenizer


def label_map_question(rng: Random, n_labels: int, shots: int) -> tuple[Chat, str, list[str]]:
    """A fresh map from nonsense words to labels never seen in training: the chat, its right answer, all labels.

    Each label is tied to three words and an item shows two. Demonstrations go through the labels in random order.
    """
    labels = rng.sample(HELD_OUT_LABELS, n_labels)
    pool = distinct(rng, lambda: nonsense(rng, 2), 3 * n_labels)
    words = {label: pool[3 * i : 3 * i + 3] for i, label in enumerate(labels)}
    chat: Chat = [system(options(labels))]
    order: list[str] = []
    for _ in range(shots):
        order = order or rng.sample(labels, n_labels)
        label = order.pop()
        chat += [user(" ".join(rng.sample(words[label], 2))), assistant(label)]
    answer = rng.choice(labels)
    return [*chat, user(" ".join(rng.sample(words[answer], 2)))], answer, labels


@torch.no_grad()
def label_map_accuracy(model: Transformer, tokenizer: Tokenizer, n_labels: int, shots: int, n: int, seed: int) -> float:
    """The share of n questions whose label's first token the model finds likeliest among the labels' first tokens."""
    right = 0
    for i in range(n):
        chat, answer, labels = label_map_question(Random(f"probe/{seed}/{i}"), n_labels, shots)
        hidden = model(torch.tensor([tokenizer.chat(chat)]))[0, -1]  # (C,)
        first = [ids[0] for ids in tokenizer.encode_all(labels)]
        scores = model.logits(hidden)[first]
        right += labels[int(scores.argmax())] == answer
    return right / n
