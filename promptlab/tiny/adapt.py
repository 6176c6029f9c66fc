"""Continued pretraining on a user's own text (Gururangan et al. 2020, arXiv 2004.10964), and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from promptlab.tiny.checkpoint import load, save
from promptlab.tiny.data.stream import rows
from promptlab.tiny.model import Transformer
from promptlab.tiny.precision import precision
from promptlab.tiny.same_run import same_run
from promptlab.tiny.text import Stream, batch_of, digest, documents, next_token_loss_apart, split
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Batch, Recipe, finished, next_token_loss, train

TOKENS_PER_STEP, TOKENS_AT_ONCE, LOOKED_AT = 8192, 2048, 64  # rows that a perplexity is of, at most


class Adapted(NamedTuple):
    """Perplexities a token before and after: of the text held out (of that trained on, if none is), and of what the
    model was pretrained on.

    The second one rises where what was known is forgotten.
    """

    text_before: float
    text_after: float
    mixture_before: float
    mixture_after: float


@torch.no_grad()
def perplexity(model: Transformer, batches: Sequence[Batch], loss: Callable[[Transformer, Batch], Tensor]) -> float:
    """exp of the weighted mean of −log p over the targets of batches, as they are read to train on."""
    total = sum(float(loss(model, batch)) for batch in batches)
    return math.exp(total / sum(batch.counted for batch in batches))


def of_text(held: Stream, size: int) -> list[Batch]:
    n = max(1, min(LOOKED_AT, held.tokens // size))
    rows = held.rows(0, n, size)
    return [batch_of(rows[i : i + 8]) for i in range(0, n, 8)]


def of_mixture(tokenizer: Tokenizer, size: int) -> list[Batch]:
    """Rows of the synthetic documents that no run reads: those of a negative seed."""
    ids, weights = rows(tokenizer, -1, 0, LOOKED_AT // 4, size - 1)
    return [Batch(torch.from_numpy(ids), torch.from_numpy(weights[:, 1:]))]


def adapt(
    run: Path,
    init: Path,
    texts: Sequence[str],
    *,
    steps: int = 200,
    seed: int = 0,
    lr: float = 5e-4,
    held_out: float = 0.1,
    apart: bool = False,
    tokens_per_step: int = TOKENS_PER_STEP,
    threads: int = 2,
    bf16: bool | None = None,
    quiet: bool = False,
) -> tuple[Transformer, Adapted]:
    """Go on with the pretraining of the checkpoint `init` on texts; the model is saved in the folder `run`.

    A share `held_out` of the text is not trained on and tells what was gained. With `apart`, no token sees another
    document than its own. A stopped run goes on where it was saved; with another start, seed, rate, precision or text
    it is a SetupError. `bf16` is chosen by `promptlab.tiny.precision` where it is not given. Unless quiet, ten lines
    tell the loss. Raises DataError where there is no text, or too little to hold some out.
    """
    torch.set_num_threads(threads)
    texts = documents(texts)
    model, tokenizer, sha256 = load(init)
    read, held = (Stream(some, seed) for some in split(tokenizer.encode_all(texts), held_out, seed))
    run.mkdir(parents=True, exist_ok=True)
    bf16 = precision(run / "adapt.json", bf16)
    origin = {"init": str(init), "sha256": sha256, "text": digest(texts)}
    given = {"seed": seed, "lr": lr, "bf16": bf16, "held_out": held_out, "apart": apart}
    same_run(run / "adapt.json", {**origin, **given})
    if not quiet:
        print(finished(run / "state", steps) or f"{steps * tokens_per_step / 1e6:.1f} M tokens", flush=True)
    size = min(model.config.context, read.tokens)
    loss = next_token_loss_apart if apart else next_token_loss
    shown = held if held_out else read
    looked = (
        (of_text(shown, min(size, shown.tokens)), loss),
        (of_mixture(tokenizer, model.config.context), next_token_loss),
    )
    before = [perplexity(model, *some) for some in looked]

    def batch_at(step: int) -> list[Batch]:
        n, at_once = max(1, tokens_per_step // size), max(1, TOKENS_AT_ONCE // size)
        rows = read.rows(step * n, n, size)
        return [batch_of(rows[i : i + at_once]) for i in range(0, n, at_once)]

    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % max(1, steps // 10) == 0 and not quiet:
            print(f"{step + 1} of {steps}: loss {sum(losses) / len(losses):.3f}", flush=True)
            losses.clear()

    recipe = Recipe(steps, lr=lr, warmup=min(20, steps // 10), bf16=bf16)
    train(model, batch_at, loss, recipe, state=run / "state", save_every=100, on_step=on_step)
    save(run, model, tokenizer)
    after = [perplexity(model, *some) for some in looked]
    return model, Adapted(before[0], after[0], before[1], after[1])
