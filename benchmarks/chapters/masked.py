"""Masked language modelling

Some tokens of a text are hidden, and the model guesses them from both sides: no mask over the future. The loss is
counted where a token was chosen, and nowhere else (Devlin et al. 2019, arXiv 1810.04805):

    loss = −(1/|M|) Σ over t in M of log p(xₜ | the text as read)     logits (|M|, V)

With p = 0.70 for the one hidden token it is −log 0.70 = 0.357. 15 % of the tokens are chosen. Of these, 80 % become
`[MASK]`, 10 % any token and 10 % stay as they are, so that a text without masks is not a strange sight later.

**On the bundled model.** Its blocks, made to go on with texts, are trained for a moment to fill gaps in a small
grammar of public-health advice, once from the bundled weights and once from random ones: is what was learnt from the
left alone a start for reading both sides?
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import torch
from harness import row

from chapters.saying import saying
from chapters.shown import BLUE, GREY, ORANGE, Shown, panels, smooth, stated
from promptlab.backends.tiny import Tiny
from promptlab.tiny.data.style import ADVICE, phrased
from promptlab.tiny.fill_mask import fill_mask
from promptlab.tiny.mlm import Masked, generator_of, hide, masked_token_loss
from promptlab.tiny.model import Transformer
from promptlab.tiny.sft import padded
from promptlab.tiny.tokenizer import BOS, EOS, MASK, SPECIAL
from promptlab.tiny.train import Recipe, train

GAP, FITS = "Please boil the [MASK], thank you.", "water"
TEXTS = 16  # a step


def worked() -> Shown:
    tokens = torch.tensor([[11, 12, 13, 14]])
    chosen = torch.tensor([[False, False, True, False]])
    batch = Masked(tokens.where(~chosen, MASK), tokens, chosen)
    model = saying([0.1, 0.2, 0.70, 0.3], tokens[0].tolist(), causal=False)
    many = torch.full((64, 1024), 100)
    inputs, _, asked = hide(many, 1024, generator_of(0, 0))
    share = float((inputs == MASK)[asked].float().mean())
    loss = float(masked_token_loss(model, batch))
    return Shown(
        [
            stated("one of four tokens hidden, p = 0.70: loss", loss, "nats", "0.357"),
            stated("tokens chosen, of 65,536", float(asked.float().mean()), "share", "0.15"),
            stated("of these hidden behind the mask", share, "share", "0.8"),
        ]
    )


def learnt(model: Transformer, tiny: Tiny, steps: int, lr: float) -> tuple[Transformer, list[float]]:
    """The model after so many steps of filling gaps, and the loss of each, in nats a hidden token."""
    losses: list[float] = []

    def batch_at(step: int) -> list[Masked]:
        rng = Random(f"lecture/masked/{step}")
        texts = [phrased(rng, rng.choice(ADVICE), rng.random() < 0.5, rng.random() < 0.6) for _ in range(TEXTS)]
        rows = [[BOS, *ids, EOS] for ids in tiny.tokenizer.encode_all(texts)]
        tokens = padded(rows, [1] * len(rows)).tokens
        return [hide(tokens, model.config.vocab_size, generator_of(0, step))]

    recipe = Recipe(steps, lr=lr, warmup=5, weight_decay=0.01)
    train(model, batch_at, masked_token_loss, recipe, on_step=lambda _, loss: losses.append(loss))
    return model, losses


def of_word(model: Transformer, tiny: Tiny) -> float:
    """The probability of what fits the gap."""
    everything = fill_mask(model, tiny.tokenizer, GAP, k=len(tiny.tokenizer))
    return sum(p for token, p in everything if token.strip() == FITS)


def measure(tiny: Tiny, quick: bool) -> Shown:
    steps = 25 if quick else 200
    config = replace(tiny.model.config, causal=False)
    begun, new = Transformer(config), Transformer(config).initialise(torch.Generator().manual_seed(0))
    begun.load_state_dict(tiny.model.state_dict())
    before = of_word(begun, tiny)
    (model, losses), (_, from_nothing) = (learnt(m, tiny, steps, 2e-3) for m in (begun, new))
    figure, (left, right) = panels(4.6, 4.0)
    left.plot(smooth(losses), color=BLUE, label="from the bundled weights")
    left.plot(smooth(from_nothing), color=ORANGE, label="from random weights")
    left.set(title="Loss at hidden tokens", xlabel="step", ylabel="nats a token (mean of 5 steps)", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    best = fill_mask(model, tiny.tokenizer, GAP, k=6)[::-1]
    names = [token if token in SPECIAL else token.replace(" ", "␣") for token, _ in best]
    right.barh(range(len(best)), [p for _, p in best], color=[BLUE if FITS in n else GREY for n in names])
    right.set_yticks(range(len(best)), names)
    right.set(title=GAP, xlabel="probability after training", xlim=(0, 1))
    note = f"{steps} steps of {TEXTS} short texts"
    return Shown(
        [
            row("loss at hidden tokens, last 5 steps", smooth(losses)[-1], "nats", n=steps, note=note),
            row("the same from random weights", smooth(from_nothing)[-1], "nats", n=steps, note=note),
            row(f"p({FITS}) in {GAP}", of_word(model, tiny), "probability", note=f"{before:.3f} before training"),
        ],
        figure,
    )
