"""DPO: preferences between the model's own replies, judged by the gold program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from harness import row

from behaviours.figures import Rows, mean
from promptlab import ask, run
from promptlab.backends.tiny import Tiny
from promptlab.compare.statistics import wilson
from promptlab.tiny.data.chat import user
from promptlab.tiny.data.style import ADVICE, ASKS, worth
from promptlab.tiny.dpo import dpo, measured
from promptlab.tiny.model import Transformer
from promptlab.tiny.pairs import Chat, Pair, log_likelihoods, pair_batch
from promptlab.tiny.pairs import row as tokens_of
from promptlab.tiny.tokenizer import Tokenizer

PROMPTS: list[Chat] = [[user(asks.format(about=advice.about))] for advice in ADVICE for asks in ASKS]


class Drawn(NamedTuple):
    """A sampled reply to a prompt and what it is worth."""

    prompt: Chat
    text: str
    worth: float


def draws(tiny: Tiny, n: int, seed: int) -> list[Drawn]:
    """n replies at temperature 1, to the prompts in turn."""
    asked = [PROMPTS[i % len(PROMPTS)] for i in range(n)]
    programs = [ask(prompt, temperature=1.0, seed=seed + i, max_tokens=64) for i, prompt in enumerate(asked)]
    replies = run(programs, tiny)
    return [Drawn(p, r.text, worth(p[-1].content, r.text)) for p, r in zip(asked, replies, strict=True)]


def preferred(tiny: Tiny, n: int, seed: int) -> list[Pair]:
    """n pairs of replies of different worth, the better one first."""
    found: list[Pair] = []
    while len(found) < n:
        one, other = draws(tiny, 3 * n, seed), draws(tiny, 3 * n, seed + 500_000)
        for a, b in zip(one, other, strict=True):
            if a.worth != b.worth and a.text.strip() and b.text.strip():
                better, worse = (a, b) if a.worth > b.worth else (b, a)
                found.append(Pair(a.prompt, better.text, worse.text))
        seed += 3 * n
    return found[:n]


@torch.no_grad()
def log_p(model: Transformer, tokenizer: Tokenizer, drawn: list[Drawn]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """log π(reply) of each, in nats."""
    found = []
    for d in drawn:
        r = tokens_of(tokenizer, d.prompt, d.text)
        found.append(log_likelihoods(model, pair_batch([(r, r)], [(0.0, 0.0)]))[0].item())
    return np.array(found)


def measure(tiny: Tiny, n: int) -> Rows:
    train, held_out = preferred(tiny, 1000, 0), preferred(tiny, n, 10_000_000)
    # β and the term of SFT are what keeps a model of this size near itself: without, LOG.md has what becomes of it
    trained = Tiny.of(dpo(tiny.model, tiny.tokenizer, train, beta=0.5, sft_weight=2.0), tiny.tokenizer)
    before = measured(tiny.model, tiny.model, tiny.tokenizer, held_out)
    after = measured(trained.model, tiny.model, tiny.tokenizer, held_out)
    low, high = wilson(after.accuracy, n)
    new, old = draws(trained, n, 20_000_000), draws(tiny, n, 30_000_000)
    wins = [(a.worth > b.worth) + 0.5 * (a.worth == b.worth) for a, b in zip(new, old, strict=True)]
    kl = log_p(trained.model, trained.tokenizer, new) - log_p(tiny.model, tiny.tokenizer, new)
    won = mean("DPO: win rate over the model it started from - .5", [w - 0.5 for w in wins], "difference", 0.20)
    far = mean("DPO: KL to the model it started from", kl.tolist(), "nats a reply")
    return [
        row(
            "DPO: preference accuracy on held-out pairs",
            after.accuracy,
            "accuracy",
            low=low,
            high=high,
            n=n,
            target=0.9,
            note=f"{before.accuracy:.2f} before",
        ),
        won,
        {**far, "target": 10.0, "ok": far["value"] <= 10.0},
        row(
            "DPO: log-probability of the chosen reply, after - before",
            after.chosen_ratio,
            "nats",
            n=n,
            note=f"rejected {after.rejected_ratio:+.2f}",
        ),
    ]
