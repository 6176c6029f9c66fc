"""Supervised fine-tuning, and LoRA

Fine-tuning is next-token prediction on examples of what should be said. The prompt is read but not learnt from: only
the answer's tokens, and the end-of-text behind them, count.

    loss = −(1/|A|) Σ over t in A of log p(xₜ₊₁ | x₁ … xₜ)      weights (B, T): 0 at prompt and padding, 1 at the answer

With probabilities 0.5, 0.8 and 0.9 for two tokens of an answer and its end, it is 0.341, whatever the prompt's were.

LoRA leaves every weight W (out, in) as it is and adds a product of two thin matrices, the only ones that are trained
(Hu et al. 2021, arXiv 2106.09685, eq. 3):

    W + (α / r) B A       A (r, in) random, B (out, r) zero: at the start nothing changes

At r = 8 a matrix of 128 × 128 has 2,048 trained numbers instead of 16,384. Added up, W + (α / r) B A is a matrix like
any other, so a merged model costs no more than it did.

**On the bundled model.** The same field reports as before, now answered in words: untrained, with all weights
trained, with adapters on all linear layers, and with adapters on attention only, as in the paper. Adapters are given
ten times the rate of all weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from behaviours.figures import likeliest, share
from harness import row

from chapters.head import reports
from chapters.saying import saying
from chapters.shown import BLUE, GREEN, GREY, ORANGE, Shown, bars, close, panels, smooth, stated
from promptlab import run, score
from promptlab.backends.tiny import Tiny
from promptlab.tiny.data.chat import assistant, user
from promptlab.tiny.lora import ATTENTION, LINEAR, LoRA, add_lora, merge
from promptlab.tiny.model import Config, Transformer, parameter_count
from promptlab.tiny.sft import padded, sft
from promptlab.tiny.train import Recipe, next_token_loss
from promptlab.types import Example


def worked() -> Shown:
    ids = [1, 10, 11, 12, 13, 2]  # three tokens of a prompt, two of an answer, its end
    batch = padded([ids], [3])
    answer = (0.5, 0.8, 0.9)
    losses = [
        float(next_token_loss(saying((*prompt, *answer), ids[1:]), batch)) / batch.counted
        for prompt in ((0.3, 0.3), (0.01, 0.99))
    ]
    shape = Config(d_model=128, n_layers=1, n_heads=4, vocab_size=64)
    base = Transformer(shape).initialise(torch.Generator().manual_seed(0)).eval()
    adapted = add_lora(base, LoRA(rank=8, alpha=16, targets=("q_proj",)))
    tokens = torch.arange(10, 30)[None]
    with torch.no_grad():
        start = adapted(tokens)
        for name, weight in adapted.named_parameters():
            if name.endswith(".B"):
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        trained, merged = adapted(tokens), merge(adapted)(tokens)
    return Shown(
        [
            stated("answer p = .5, .8, .9: loss, prompt masked", losses[0], "nats", "0.341"),
            row("… with another prompt: difference", abs(losses[1] - losses[0]), "nats", target=0, at_most=True),
            stated("targets counted, of five", batch.counted, "tokens", "3"),
            stated("LoRA, r 8, of 128 × 128: trained", parameter_count(adapted), "parameters", "2048"),
            close("LoRA before training against the base", start, base(tokens).detach(), 0.0),
            close("LoRA after, merged against adapted", merged, trained, 1e-5),
        ]
    )


def answered(tiny: Tiny, asked: Sequence[Example], labels: Sequence[str]) -> list[bool]:
    """Whether the likeliest of the labels is the right one."""
    scored = run([score([user(e.input)], labels) for e in asked], tiny)
    return [likeliest(labels, s) == e.target for s, e in zip(scored, asked, strict=True)]


def measure(tiny: Tiny, quick: bool) -> Shown:
    train, test = reports(96, 100)
    labels = sorted({str(e.target) for e in train})
    chats = [[user(e.input), assistant(e.target)] for e in train]
    recipe = Recipe(24 if quick else 90, lr=5e-4, warmup=5, weight_decay=0.0)
    ways = (
        ("all weights", tiny.model, recipe, BLUE),
        ("LoRA, all linear layers", add_lora(tiny.model, LoRA(targets=LINEAR)), replace(recipe, lr=5e-3), GREEN),
        ("LoRA, attention only", add_lora(tiny.model, LoRA(targets=ATTENTION)), replace(recipe, lr=5e-3), ORANGE),
    )
    figure, (left, right) = panels(4.6, 4.6)
    rows = [share("before training", answered(tiny, test, labels))]
    for name, base, how, colour in ways:
        losses: list[float] = []
        trained = sft(base, tiny.tokenizer, chats, recipe=how, on_step=lambda _, loss, at=losses: at.append(loss))
        plain = trained if base is tiny.model else merge(trained)
        said = answered(Tiny.of(plain, tiny.tokenizer), test, labels)
        note = f"{parameter_count(trained):,} trained parameters, {how.steps} steps"
        rows.append(share(f"{len(train)} reports, {name}", said, note=note))
        left.plot(smooth(losses), color=colour, label=name)
    left.axhline(math.log(len(labels)) / 2, color=GREY, ls="--", lw=1)  # an answer is a letter and its end
    left.text(recipe.steps - 1, math.log(len(labels)) / 2, "a guess", color=GREY, ha="right", va="bottom", fontsize=9)
    left.set(title="Loss on the answers", xlabel="step", ylabel="nats a token (mean of 5 steps)", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    names = ("before", "all\nweights", "LoRA,\nlinear", "LoRA,\nattention")
    bars(right, rows, names, [GREY, *(colour for *_, colour in ways)])
    right.set_title(f"{len(test)} reports held back")
    return Shown(rows, figure)
