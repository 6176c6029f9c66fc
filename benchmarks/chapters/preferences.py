"""Learning from preferences: DPO

Of two replies to a prompt, y⁺ is preferred to y⁻. With log-probabilities summed over a reply's tokens, the log-ratios

    r⁺ = log π(y⁺|x) − log π_ref(y⁺|x),   r⁻ likewise      (n,) each, for n pairs

say how much likelier the model makes a reply than the reference did, and the loss is a logistic regression on their
difference (Rafailov et al. 2023, arXiv 2305.18290, eq. 7):

    loss = −log σ(β (r⁺ − r⁻))

At the reference both are 0, and the loss is ln 2 = 0.693. In the lecture's example the margin log π(y⁺) − log π(y⁻)
goes from 0.10 to 1.18. It gives margins only: the probabilities here, 0.42 and 0.38 before, 0.65 and 0.20 after, are
ours.

**On the bundled model**, after supervised fine-tuning: the polite of two ways to give the same advice is preferred.
The loss looks at the difference only, so the preferred reply may itself lose probability as long as the other loses
more (likelihood displacement, Razin et al. 2024, arXiv 2410.08847). A term of supervised loss holds against it.
"""

from __future__ import annotations

import math

import torch
from behaviours.figures import Rows
from harness import row
from matplotlib.figure import Figure
from torch import Tensor

from chapters.advice import polite_over_blunt, taught
from chapters.saying import Saying
from chapters.shown import BLUE, GREEN, GREY, ORANGE, Shown, panels, stated
from promptlab.backends.tiny import Tiny
from promptlab.compare.statistics import wilson
from promptlab.tiny.dpo import DPOStep, Preferences, dpo, measured, preference_losses
from promptlab.tiny.pairs import Row, log_likelihoods, pair_batch
from promptlab.tiny.train import Recipe

BETA = 0.1


def of_replies(chosen: float, rejected: float) -> Tensor:
    """log π of a chosen and a rejected reply of one token, (2,), under a model that gives them these probabilities."""
    model = Saying(torch.tensor([[1.0, 1.0, 1.0, chosen, rejected, 1 - chosen - rejected]]).log())
    return log_likelihoods(model, pair_batch([(Row([1, 3], 1), Row([1, 4], 1))], [(0.0, 0.0)]))


def worked() -> Shown:
    reference, after = of_replies(0.42, 0.38), of_replies(0.65, 0.20)
    ones = (torch.ones(1), torch.ones(1))

    def loss(log_p: Tensor, beta: float) -> float:
        chosen, rejected = (log_p - reference).chunk(2)
        return float(preference_losses(chosen, rejected, ones, beta=beta))

    return Shown(
        [
            stated("margin under the reference", float(reference[0] - reference[1]), "nats", "0.10"),
            stated("margin after training", float(after[0] - after[1]), "nats", "1.18"),
            stated("loss at the reference: ln 2", loss(reference, BETA), "nats", "0.693147"),
            stated("loss after, β 0.1", loss(after, 0.1), "nats", "0.641", "−log σ(0.1 · 1.079)"),
            stated("loss after, β 1", loss(after, 1.0), "nats", "0.293", "−log σ(1.079)"),
        ]
    )


def measure(tiny: Tiny, quick: bool) -> Shown:
    start, pairs = taught(tiny, quick), polite_over_blunt(128, seed=0)
    held_out = polite_over_blunt(60 if quick else 300, seed=1)
    recipe = Recipe(20 if quick else 80, lr=2e-4, warmup=5, weight_decay=0.0)
    told: dict[str, list[DPOStep]] = {}
    rows: Rows = []
    for name, weight in (("DPO", 0.0), ("DPO + SFT", 1.0)):
        steps = told[name] = []
        model = dpo(
            start.model, start.tokenizer, pairs, beta=BETA, sft_weight=weight, recipe=recipe, on_step=steps.append
        )
        rows += stands(name, measured(model, start.model, start.tokenizer, held_out), len(held_out))
    first = stated("first loss of the bundled model: ln 2", told["DPO"][0].loss, "nats", "0.693147")
    return Shown([first, *rows], drawn(told))


def stands(name: str, found: Preferences, n: int) -> Rows:
    """How a trained model stands to n pairs."""
    low, high = wilson(found.accuracy, n)
    note = f"rejected {found.rejected_ratio:+.2f}"
    return [
        row(f"{name}: held-out pairs ranked right", found.accuracy, "accuracy", low=low, high=high, n=n),
        row(f"{name}: β · margin", BETA * found.margin, "nats", n=n),
        row(f"{name}: log π(chosen), after - before", found.chosen_ratio, "nats", n=n, note=note),
    ]


def drawn(told: dict[str, list[DPOStep]]) -> Figure:
    """Loss, margin and log-ratios by step."""
    figure, (losses, margins, ratios) = panels(3.4, 3.4, 4.2)
    losses.plot([step.loss for step in told["DPO"]], color=BLUE)
    losses.axhline(math.log(2), color=GREY, ls=":", lw=1)
    losses.text(len(told["DPO"]) - 1, math.log(2), "ln 2", color=GREY, ha="right", va="bottom", fontsize=9)
    losses.set(title="DPO's loss", xlabel="step", ylabel="nats a pair", ylim=(0, None))
    for (name, steps), style in zip(told.items(), ("-", "--"), strict=True):
        margins.plot([BETA * step.pairs.margin for step in steps], color=BLUE, ls=style, label=name)
        ratios.plot([step.pairs.chosen_ratio for step in steps], color=GREEN, ls=style, label=f"chosen, {name}")
        ratios.plot([step.pairs.rejected_ratio for step in steps], color=ORANGE, ls=style, label=f"rejected, {name}")
    margins.set(title="Margin of implicit rewards", xlabel="step", ylabel="β (r⁺ − r⁻)")
    margins.legend(frameon=False, fontsize=9)
    ratios.axhline(0, color=GREY, ls=":", lw=1)
    ratios.set(title="Log-ratio to the reference", xlabel="step", ylabel="nats a reply")
    ratios.legend(frameon=False, fontsize=8)
    return figure
