"""Masked pretraining (Devlin et al. 2019, arXiv 1810.04805, section 3.1): guess tokens of a text from both sides.

The blocks are those of the causal model; only the mask over the future is gone, and a rotary position takes the place
of a learnt one. There is no next-sentence task, and tokens are chosen anew each time a row is read (Liu et al. 2019,
arXiv 1907.11692, section 4.1) instead of once and for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptlab.tiny.checkpoint import Checkpoint, load, save
from promptlab.tiny.data.stream import Reading, rows_ahead
from promptlab.tiny.model import Config, Transformer, parameter_count
from promptlab.tiny.precision import precision
from promptlab.tiny.pretrain import learn_tokenizer
from promptlab.tiny.same_run import same_run
from promptlab.tiny.text import Stream, digest, documents, split
from promptlab.tiny.tokenizer import MASK, SPECIAL, Tokenizer
from promptlab.tiny.train import Recipe, finished, train

CHOSEN = 0.15  # of the tokens; of these …
MASKED, RANDOM = 0.8, 0.1  # … so many are hidden and so many replaced by any token; the others stay as they are
TOKENS_PER_STEP, TOKENS_AT_ONCE, SHORT = 8192, 2048, 256
HELD_OUT_ROWS = 64


class Masked(NamedTuple):
    """What a model reads, what stood there, and where it is asked; each (B, T)."""

    inputs: Tensor
    targets: Tensor
    chosen: Tensor

    @property
    def tokens(self) -> Tensor:
        return self.inputs

    @property
    def counted(self) -> float:
        return float(self.chosen.sum())


def hide(tokens: Tensor, vocab_size: int, generator: torch.Generator) -> Masked:
    """Choose 15 % of the tokens (B, T), each by itself: 80 % of these become the mask, 10 % any token, 10 % stay.

    Special tokens are never chosen, and none but the mask is ever put in. A token may by chance be replaced by itself.
    """
    chosen = (torch.rand(tokens.shape, generator=generator) < CHOSEN) & (tokens >= len(SPECIAL))
    fate = torch.rand(tokens.shape, generator=generator)
    others = torch.randint(len(SPECIAL), vocab_size, tokens.shape, generator=generator)
    inputs = torch.where(chosen & (fate < MASKED), MASK, tokens)
    inputs = torch.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), others, inputs)
    return Masked(inputs, tokens, chosen)


def masked_token_loss(model: nn.Module, batch: Masked) -> Tensor:
    """Σ −log p(what stood there | the row as read) over the chosen positions; the others are not looked at."""
    assert isinstance(model, Transformer)
    hidden = model(batch.inputs, causal=False)  # (B, T, C)
    at = batch.chosen.flatten().nonzero().squeeze(1)  # (N,)
    logits = model.logits(hidden.flatten(0, 1).index_select(0, at))  # (N, V)
    return F.cross_entropy(logits.float(), batch.targets.flatten()[at], reduction="sum")


def generator_of(seed: int, step: int) -> torch.Generator:
    """What chooses in a step, as a function of both."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


@torch.no_grad()
def masked_perplexity(model: Transformer, tokens: Tensor, seed: int = 0) -> float:
    """exp of the mean −log p at masked positions of rows (B, T), the same ones each time it is asked."""
    batch = hide(tokens, model.config.vocab_size, generator_of(seed, 0))
    parts = [Masked(*(x[i : i + 8] for x in batch)) for i in range(0, len(tokens), 8)]
    return math.exp(sum(float(masked_token_loss(model, part)) for part in parts) / batch.counted)


def start(
    run: Path, init: Checkpoint | None, config: Config, texts: Sequence[str], seed: int
) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer of a run: those of `init`, or a new model and words of the texts read, or of ours."""
    kept = run / "tokenizer.json"
    if init is not None:
        tokenizer = init.tokenizer
        model = Transformer(replace(init.model.config, causal=False))  # it may be causal or masked
        model.load_state_dict(init.model.state_dict())
    else:
        if kept.exists():
            tokenizer = Tokenizer.load(kept)
        elif texts:
            tokenizer = Tokenizer.train(texts, config.vocab_size)
        else:
            tokenizer = learn_tokenizer(seed, config.vocab_size)
        model = Transformer(replace(config, vocab_size=len(tokenizer), causal=False))
        model.initialise(torch.Generator().manual_seed(seed))
    return model, tokenizer


def pretrain_masked(
    run: Path,
    *,
    init: Path | None = None,
    texts: Sequence[str] = (),
    config: Config | None = None,
    steps: int = 3200,
    long_from: int | None = None,
    seed: int = 0,
    lr: float = 2e-3,
    decay: float = 0.4,
    tokens_per_step: int = TOKENS_PER_STEP,
    held_out: float = 0.1,
    threads: int = 2,
    bf16: bool | None = None,
    quiet: bool = False,
) -> Transformer:
    """Pretrain a masked model, or go on with the run in the folder `run`; it is saved there as a checkpoint too.

    It reads the user's `texts` or, without any, the synthetic mixture of the bundled model. With `init` it starts from
    that checkpoint, which may be causal. Rows have 256 tokens, and from step `long_from` on (by default the last tenth,
    as Devlin et al., A.2) as many as the context; the rate warms up in the first tenth, at most 100 steps. Of the texts
    a share `held_out` is not read, nor are words learnt from it, and it tells at the end how well gaps are filled. A
    run that is gone on with may be given other `steps`, `long_from` and `decay`; another seed, rate, precision, start,
    shape or text is a SetupError. `bf16` is chosen by `promptlab.tiny.precision` where it is not given.
    """
    torch.set_num_threads(threads)
    texts = documents(texts) if texts else []
    config = config or Config()
    origin = None if init is None else load(init)
    read_texts, held_texts = split(texts, held_out, seed) if texts else ([], [])
    model, tokenizer = start(run, origin, config, read_texts, seed)
    read, held = (Stream(tokenizer.encode_all(some), seed) if some else None for some in (read_texts, held_texts))
    run.mkdir(parents=True, exist_ok=True)
    bf16 = precision(run / "mlm.json", bf16)
    given = {"seed": seed, "lr": lr, "bf16": bf16, "tokens_per_step": tokens_per_step}
    begun = {"init": str(init), "sha256": origin.sha256} if origin else {"config": asdict(config)}
    read_from = {"text": digest(read_texts), "held_out": held_out} if texts else {}
    same_run(run / "mlm.json", {**given, **begun, **read_from})
    tokenizer.save(run / "tokenizer.json")
    if not quiet:
        read_in_all = f"{parameter_count(model):,} parameters, {steps * tokens_per_step / 1e6:.1f} M tokens"
        print(finished(run / "state", steps) or read_in_all, flush=True)
    context = model.config.context
    reading = Reading(seed, context, steps * 9 // 10 if long_from is None else long_from, 0, tokens_per_step)
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % 100 == 0 and not quiet:
            print(f"{step + 1} loss {sum(losses[-100:]) / len(losses[-100:]):.3f}", flush=True)

    with ExitStack() as stack:
        tokens_at: Callable[[int], Tensor]  # of a step, (rows, tokens)
        if read is not None:

            def tokens_at(step: int) -> Tensor:
                size = min(reading.size(step), read.tokens)
                n = max(1, tokens_per_step // size)
                return read.rows(step * n, n, size, overlap=0)
        else:
            made = stack.enter_context(rows_ahead(reading, run / "tokenizer.json"))

            def tokens_at(step: int) -> Tensor:
                return torch.from_numpy(made(step)[0][:, 1:])

        def batch_at(step: int) -> Sequence[Masked]:
            batch = hide(tokens_at(step), model.config.vocab_size, generator_of(seed, step))
            n = max(1, TOKENS_AT_ONCE // batch.inputs.shape[1])
            return [Masked(*(x[i : i + n] for x in batch)) for i in range(0, len(batch.inputs), n)]

        recipe = Recipe(steps, lr=lr, warmup=min(100, steps // 10), decay=decay, bf16=bf16)
        train(model, batch_at, masked_token_loss, recipe, state=run / "state", save_every=100, on_step=on_step)
    save(run, model, tokenizer)
    if held is not None and not quiet:
        size = min(SHORT, context, held.tokens)
        n = max(SHORT // size, min(HELD_OUT_ROWS, held.tokens // SHORT))  # of a few tokens none may be chosen
        rows = held.rows(0, n, size, 0)
        print(f"masked perplexity of the text held out {masked_perplexity(model, rows):.1f}", flush=True)
    return model
