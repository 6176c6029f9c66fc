"""RLHF: a reward model, PPO, and what the KL term is for

A reward model learns from preferences a number for each reply (−log σ(r⁺ − r⁻), Ouyang et al. 2022, arXiv
2203.02155). Then the policy π is trained to earn it without leaving its reference:

    maximise  E_π[r(x, y)] − β KL(π ‖ π_ref)

Over a handful of replies this has a closed form (Rafailov et al. 2023, eq. 4): the reference, tilted,

    π(y|x) = π_ref(y|x) exp(r(x, y) / β) / Z(x),     and the objective is then β log Z(x)

The toy: a polite and a blunt reply at 0.4 and 0.6 under the reference, rewards 1 and 0. At β = 0.5 the polite one
goes to 0.831. The closed form is three lines of PyTorch in this chapter; the library has the estimators of the KL
divergence (k1, k3), which must agree with it, and the ascent of the gradient must end there.

**On the bundled model**, after supervised fine-tuning: a reward model is learnt from a few pairs that differ in
manners only, and PPO goes after it with several β. The gold reward, a program that the training never sees, also asks
that the advice be the right one. Where nothing holds the policy back, what the reward model says and what a reply is
worth may part: the reward model was never shown such replies (Gao et al. 2022, arXiv 2210.10760).
"""

from __future__ import annotations

import torch
from behaviours.preferences import PROMPTS
from behaviours.rewards import end, fall, gold, smoothed
from harness import row
from matplotlib.figure import Figure
from torch import Tensor

from chapters.advice import polite_over_blunt, taught
from chapters.shown import BLUE, ORANGE, Shown, close, panels, stated
from promptlab.backends.tiny import Tiny
from promptlab.tiny.reward import RewardModel, reward_accuracy, reward_model
from promptlab.tiny.rlhf import PPO, Iteration, k1, k3, rlhf
from promptlab.tiny.train import Recipe

SIDES = (("reward", "reward model", ORANGE), ("gold", "gold", BLUE))
REFERENCE, REWARDS = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)


def tilted(beta: float) -> Tensor:
    """π_ref exp(r / β) / Z of the toy, (2,)."""
    return torch.softmax(REFERENCE.log() + REWARDS / beta, dim=0)


def objective(log_p: Tensor, beta: float) -> Tensor:
    """E_π[r] − β KL(π ‖ π_ref) of the toy, exactly: k1 summed under π."""
    p = log_p.exp()
    return (p * (REWARDS - beta * k1(log_p, REFERENCE.log()))).sum()


def climbed(beta: float, steps: int = 2000) -> Tensor:
    """The policy that following the objective's gradient from the reference ends at."""
    logits = REFERENCE.log().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(objective(torch.log_softmax(logits, dim=0), beta), logits)
        logits = (logits + gradient).detach().requires_grad_()
    return torch.softmax(logits.detach(), dim=0)


def worked() -> Shown:
    best = tilted(0.5)
    log_z = (REFERENCE * (REWARDS / 0.5).exp()).sum().log()
    divergences = [(best * of(best.log(), REFERENCE.log())).sum() for of in (k1, k3)]
    return Shown(
        [
            stated("toy, β 0.5: p(polite), 0.4 before", float(best[0]), "", "0.831", "0.4 e² / (0.4 e² + 0.6)"),
            stated("the same at β 1", float(tilted(1.0)[0]), "", "0.644", "0.4 e / (0.4 e + 0.6)"),
            stated("the objective there: β log Z", float(objective(best.log(), 0.5)), "reward", "0.634"),
            close("the same against 0.5 · log Z", objective(best.log(), 0.5), 0.5 * log_z, 1e-9),
            close("the gradient's end against the closed form", climbed(0.5), best),
            close("KL by k1 against by k3", divergences[0], divergences[1], 1e-9, f"{float(divergences[0]):.3f} nats"),
        ]
    )


def trained(start: Tiny, reward: RewardModel, beta: float, iterations: int) -> list[Iteration]:
    """What was told of a run of PPO: few rollouts at a high rate, to see in moments what else takes long."""
    told: list[Iteration] = []
    ppo = PPO(rollouts=32, max_tokens=24, beta=beta)
    recipe = Recipe(iterations * ppo.steps, lr=3e-4, warmup=5, weight_decay=0.0)
    rlhf(start.model, start.tokenizer, PROMPTS, reward, gold=gold, ppo=ppo, recipe=recipe, on_step=told.append)
    return told


def measure(tiny: Tiny, quick: bool) -> Shown:
    start = taught(tiny, quick)
    recipe = Recipe(16 if quick else 40, lr=3e-4, warmup=5, weight_decay=0.0)
    proxy = reward_model(start.model, start.tokenizer, polite_over_blunt(128, seed=0), recipe=recipe)
    right = reward_accuracy(proxy, start.tokenizer, polite_over_blunt(60 if quick else 300, seed=1))
    proxy.whiten(start.model, start.tokenizer, PROMPTS * 4)
    betas, iterations = ((0.1, 0.0), 10) if quick else ((0.5, 0.2, 0.1, 0.05, 0.0), 20)
    runs = {beta: trained(start, proxy, beta, iterations) for beta in betas}
    rows = [row("reward model: held-out pairs ranked right", right, "accuracy", n=60 if quick else 300)]
    for beta, told in runs.items():
        kl, really = end(told, "kl"), end(told, "gold")
        note = f"KL {kl:.1f} nats, gold {really:.2f}, gold lost after its highest {fall(told):.2f}"
        rows.append(row(f"PPO, β {beta:g}: reward model's reward", end(told, "reward"), "reward", n=32 * 5, note=note))
    return Shown(rows, drawn(runs))


def drawn(runs: dict[float, list[Iteration]]) -> Figure:
    """The toy's policy by β, where runs of each β end, and how two of them came there."""
    figure, (toy, frontier, hacked) = panels(3.2, 3.9, 4.6)
    shown = (float("inf"), 2.0, 1.0, 0.5, 0.2)
    toy.bar(range(len(shown)), [float(tilted(beta)[0]) for beta in shown], color=BLUE, width=0.6)
    toy.set_xticks(range(len(shown)), ["∞", *(f"{beta:g}" for beta in shown[1:])])
    toy.set(title="Toy: p(polite)", xlabel="β", ylim=(0, 1))
    far = [end(told, "kl") for told in runs.values()]
    for of, name, colour in SIDES:
        ends = [end(told, of) for told in runs.values()]
        frontier.plot(far, ends, color=colour, marker="o", ms=4, label=name)
        if of == "reward":
            for beta, at in zip(runs, zip(far, ends, strict=True), strict=True):
                frontier.annotate(f"β {beta:g}", at, (0, 6), textcoords="offset points", fontsize=8, ha="center")
    frontier.set(title="KL and reward at the end", xlabel="KL to the reference, nats a reply", ylabel="reward")
    frontier.margins(0.12)
    frontier.legend(frameon=False, fontsize=9)
    for beta, style in ((0.0, "-"), (0.1, "--")):
        for of, name, colour in SIDES:
            hacked.plot(smoothed(runs[beta], of), color=colour, ls=style, label=f"{name}, β {beta:g}")
    hacked.set(title="Without the KL term, and with it", xlabel="iteration (mean of 5)", ylabel="reward")
    hacked.legend(frameon=False, fontsize=8)
    return figure
