"""RLHF: how far from the model a reward is bought, and what a small reward model's reward is really worth."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean

from harness import row

from behaviours.figures import Rows
from behaviours.preferences import PROMPTS, draws, preferred
from promptlab.backends.tiny import Tiny
from promptlab.tiny.data.style import worth
from promptlab.tiny.pairs import Chat
from promptlab.tiny.reward import RewardModel, reward_accuracy, reward_model
from promptlab.tiny.rlhf import PPO, Iteration, Reward, rlhf
from promptlab.tiny.train import Recipe

BETAS = (0.3, 0.05, 0.0)
ITERATIONS, FEW = 32, 6  # of a run, and of one that is only to be seen working
LAST = 5  # iterations at the end that a run's figures are means over
SEEDS = 3  # runs of each β by the gold reward: two runs of a β differ by as much as two β do


def gold(prompt: Chat, said: str) -> float:
    return worth(prompt[-1].content, said)


def trained(tiny: Tiny, reward: Reward | RewardModel, beta: float, iterations: int, seed: int = 0) -> list[Iteration]:
    """What was told of a run's iterations."""
    told: list[Iteration] = []
    ppo = PPO(beta=beta, max_tokens=40)
    recipe = Recipe(iterations * ppo.steps, lr=1e-4, warmup=5, weight_decay=0.0)
    rlhf(
        tiny.model, tiny.tokenizer, PROMPTS, reward,
        gold=gold, ppo=ppo, recipe=recipe, on_step=told.append, seed=seed,
    )  # fmt: skip
    return told


def end(told: list[Iteration], of: str) -> float:
    return sum(getattr(each, of) for each in told[-LAST:]) / LAST


def smoothed(told: list[Iteration], of: str) -> list[float]:
    """Means over LAST iterations."""
    values = [getattr(each, of) for each in told]
    return [sum(values[i : i + LAST]) / LAST for i in range(len(values) - LAST + 1)]


def frontier(runs: dict[float, list[list[Iteration]]], name: str) -> Rows:
    """A row a β, the mean of its runs, and whether reward rises with KL as β falls."""
    rows = []
    points = []
    for beta, several in runs.items():
        kl, reward, really = (fmean(end(told, of) for told in several) for of in ("kl", "reward", "gold"))
        points.append((kl, reward))
        note = f"KL {kl:.2f} nats, gold {really:.3f}; seeds: {len(several)}"
        n = 64 * LAST * len(several)
        rows.append(row(f"RLHF, {name}, β {beta:g}: reward", reward, "reward", n=n, note=note))
    rises = all(a[0] < b[0] and a[1] <= b[1] + 0.02 for a, b in pairwise(points))
    verdict = row(
        f"RLHF, {name}: reward rises with KL as β falls", float(rises), "yes (1) or no", n=len(points), target=1
    )
    return [*rows, verdict]


def fall(told: list[Iteration]) -> float:
    """How far the gold reward is below its highest at the end."""
    means = smoothed(told, "gold")
    return max(means) - means[-1]


def measure(tiny: Tiny, n: int) -> Rows:
    pairs = preferred(tiny, 200, 40_000_000)
    small = reward_model(tiny.model, tiny.tokenizer, pairs).whiten(tiny.model, tiny.tokenizer, PROMPTS * 6)
    right = reward_accuracy(small, tiny.tokenizer, preferred(tiny, n, 10_000_000))
    iterations = ITERATIONS if n >= 300 else FEW
    by_proxy = {beta: [trained(tiny, small, beta, iterations)] for beta in BETAS}
    by_gold = {beta: [trained(tiny, gold, beta, iterations, seed) for seed in range(SEEDS)] for beta in BETAS}
    start = draws(tiny, n, 50_000_000)
    rows = [
        row("reward model of 200 pairs: accuracy on held-out pairs", right, "accuracy", n=n),
        row("gold reward before RLHF", sum(d.worth for d in start) / n, "reward", n=n),
        *frontier(by_gold, "gold reward"),
        *frontier(by_proxy, "reward model"),
    ]
    hacked, honest = fall(by_proxy[0.0][0]), fmean(map(fall, by_gold[0.0]))
    rows += [
        row("reward model, β 0: gold lost after its highest", hacked, "reward", n=iterations, target=0.05),
        row("gold reward, β 0: gold lost after its highest", honest, "reward", n=iterations, target=0.02, at_most=True),
    ]
    return rows
