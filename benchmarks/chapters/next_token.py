"""Causal language modelling

The model foretells each token from those before it; the loss is the mean surprise at what really came:

    loss = −(1/T) Σₜ log p(xₜ₊₁ | x₁ … xₜ)       hidden (B, T, C) · Wᵀ -> logits (B, T, V)

With p = 0.75 for the token that came it is −log 0.75 = 0.29. The exponential of the loss is the perplexity: how many
equally likely tokens the model was choosing from, as it were.

**On the bundled model.** The loss by position shows learning without training. In a text that is read twice it falls
at the start of the second copy. In a list of demonstrations of labels that were never seen in training, the loss at
the label falls with the number of demonstrations. No weight changes: this is in-context learning.
"""

from __future__ import annotations

import math
from random import Random

import torch
import torch.nn.functional as F
from behaviours.figures import mean
from torch import Tensor

from chapters.attention import twice
from chapters.saying import saying
from chapters.shown import BLUE, GREY, ORANGE, Shown, close, panels, stated
from promptlab import run, score
from promptlab.backends.tiny import Tiny
from promptlab.tiny.model import Transformer
from promptlab.tiny.probe import label_map_question
from promptlab.tiny.train import Batch, next_token_loss

SHOTS = (0, 1, 2, 4, 8, 16)
N_LABELS = 4


def worked() -> Shown:
    one = Batch(torch.tensor([[10, 11]]), torch.ones(1, 1))
    three = Batch(torch.tensor([[10, 11, 12, 13]]), torch.ones(1, 3))
    loss = float(next_token_loss(saying([0.75], [11]), one))
    of_three = float(next_token_loss(saying([0.75, 0.5, 0.9], [11, 12, 13]), three)) / three.counted
    by_hand = -(math.log(0.75) + math.log(0.5) + math.log(0.9)) / 3
    return Shown(
        [
            stated("p = 0.75 for the token that came: loss", loss, "nats", "0.29"),
            stated("the same to four decimals", loss, "nats", "0.2877"),
            stated("its perplexity", math.exp(loss), "tokens", "1.333", "1 / 0.75"),
            close("p = .75, .5, .9: mean, against by hand", torch.tensor(of_three), torch.tensor(by_hand)),
        ]
    )


@torch.no_grad()
def token_losses(model: Transformer, tokens: Tensor) -> Tensor:
    """−log p of every token after the first, (B, T), of tokens (B, T+1)."""
    logits = model.logits(model(tokens[:, :-1]))
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")


def measure(tiny: Tiny, quick: bool) -> Shown:
    n, width = 16 if quick else 96, 16
    texts = [twice(tiny, Random(f"lecture/next/{i}"), 8) for i in range(n)]
    copies = []
    for tokens, period in texts:
        losses = token_losses(tiny.model, tokens)[0, 1:]  # the first is that of <user>
        copies.append(torch.stack([losses[:width], losses[period : period + width]]))
    first, second = torch.stack(copies).unbind(1)  # (n, width) each
    surprise = {shots: at_label(tiny, shots, n) for shots in SHOTS}
    figure, (left, right) = panels(4.6, 4.0)
    left.plot(range(1, width + 1), first.mean(0), color=ORANGE, marker="o", ms=3, label="first copy")
    left.plot(range(1, width + 1), second.mean(0), color=BLUE, marker="o", ms=3, label="second copy")
    left.set(title="A text read twice", xlabel="token of the copy", ylabel="loss, nats", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    right.plot(range(len(SHOTS)), [sum(surprise[s]) / n for s in SHOTS], color=BLUE, marker="o", ms=4)
    right.axhline(math.log(N_LABELS), color=GREY, ls="--", lw=1)
    right.text(0, math.log(N_LABELS), f"log {N_LABELS}: a guess", color=GREY, ha="left", va="bottom", fontsize=9)
    right.set_xticks(range(len(SHOTS)), SHOTS)
    right.set(
        title="Labels never seen in training", xlabel="demonstrations", ylabel="loss at the label, nats", ylim=(0, None)
    )
    batch = Batch(texts[0][0], torch.ones(1, texts[0][0].shape[1] - 1))
    with torch.no_grad():
        whole = next_token_loss(tiny.model, batch)
    return Shown(
        [
            mean("a text read twice: loss in the first copy", first.mean(1).tolist(), "nats a token"),
            mean("… in the second copy, from its 2nd token on", second[:, 1:].mean(1).tolist(), "nats a token"),
            *(
                mean(f"{N_LABELS} labels never seen, {s} demonstrated: loss", surprise[s], "nats a label")
                for s in SHOTS
            ),
            close("sum by position against next_token_loss", token_losses(tiny.model, batch.tokens).sum(), whole, 1e-3),
        ],
        figure,
    )


def at_label(tiny: Tiny, shots: int, n: int) -> list[float]:
    """−log p(the right label) after so many demonstrations, the labels' probabilities summing to 1."""
    questions = [label_map_question(Random(f"lecture/label/{i}"), N_LABELS, shots) for i in range(n)]
    scored = run([score(chat, labels) for chat, _, labels in questions], tiny)
    log_p = [torch.log_softmax(torch.tensor(scores), dim=0) for scores in scored]
    return [-float(p[labels.index(answer)]) for p, (_, answer, labels) in zip(log_p, questions, strict=True)]
