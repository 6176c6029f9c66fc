"""Pretraining of the bundled model: tokenizer, stream, schedule. `promptlab train pretrain RUN` runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from promptlab.errors import SetupError
from promptlab.tiny.checkpoint import load, save
from promptlab.tiny.data.mixture import EARLY, MIXTURE
from promptlab.tiny.data.stream import documents, rows
from promptlab.tiny.data.world import COMMON_WORDS
from promptlab.tiny.model import Config, Transformer, parameter_count
from promptlab.tiny.probe import label_map_accuracy
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import Batch, Recipe, next_token_loss, train

TOKENS_PER_STEP = 8192
TOKENS_AT_ONCE = 2048  # a quarter of a step stays in the processor's cache: a fifth faster than all of it
EARLY_STEPS = 1200
SHORT = 256  # rows are short at first: in-context learning emerges sooner and cheaper there


def learn_tokenizer(seed: int, vocab_size: int = 1536, n_documents: int = 12_000) -> Tokenizer:
    """Byte-level BPE on documents of the stream, with common English words so that ordinary text is not all bytes."""

    def texts() -> Iterator[str]:
        for i in range(n_documents):
            rng = Random(f"tokenizer/{seed}/{i}")
            yield from (m.content for m in next(documents(rng, 512, MIXTURE)))
            if i % 2:
                yield " ".join(rng.sample(COMMON_WORDS, 12))

    return Tokenizer.train(texts(), vocab_size)


def pretraining_batch(tokenizer: Tokenizer, config: Config, seed: int, step: int, long_from: int) -> Sequence[Batch]:
    """The rows of one step, some at a time: short ones before `long_from`, as long as the context from there on."""
    size = SHORT if step < long_from else config.context
    n, at_once = TOKENS_PER_STEP // size, max(1, TOKENS_AT_ONCE // size)
    kind = 0 if size == SHORT else 1  # rows of the two halves are different documents
    ids, weights = rows(tokenizer, 2 * seed + kind, step * n, n, size, EARLY if step < EARLY_STEPS else MIXTURE)
    tokens, targets = torch.from_numpy(ids), torch.from_numpy(weights[:, 1:])
    return [Batch(tokens[i : i + at_once], targets[i : i + at_once]) for i in range(0, n, at_once)]


def same_run(path: Path, given: dict[str, Any]) -> None:
    """Write down what a run is, or see that the run begun here is the same."""
    if not path.exists():
        path.write_text(json.dumps(given) + "\n", encoding="utf-8")
        return
    begun = json.loads(path.read_text(encoding="utf-8"))
    if begun != given:
        raise SetupError(f"{path.parent} was begun with {begun}, not with {given}. Choose another folder.")


def start(run: Path, init: Path | None, seed: int) -> tuple[Transformer, Tokenizer]:
    """The model and the tokenizer a run starts from; the tokenizer is kept with the run from its first step."""
    if init is not None:
        model, tokenizer, _ = load(init)
    else:
        kept = run / "tokenizer.json"
        tokenizer = Tokenizer.load(kept) if kept.exists() else learn_tokenizer(seed, Config().vocab_size)
        model = Transformer(Config()).initialise(torch.Generator().manual_seed(seed))
    tokenizer.save(run / "tokenizer.json")
    return model, tokenizer


def pretrain(
    run: Path,
    *,
    init: Path | None = None,
    steps: int = 3200,
    long_from: int = 1700,
    seed: int = 0,
    lr: float = 2e-3,
    decay: float = 0.4,
    threads: int = 2,
    bf16: bool = True,
    quiet: bool = False,
) -> Transformer:
    """Pretrain from nothing, or go on with the run in the folder `run`; the finished model is saved in it too.

    With `init`, the run starts from the weights and the tokenizer of that checkpoint: continued pretraining. A run that
    is gone on with may be given other `steps`, `decay` and `long_from`, which change only what is yet to come; another
    seed, rate or start is a SetupError. Every 100 steps the state is saved and, unless quiet, the loss and the
    accuracies in context are printed.
    """
    torch.set_num_threads(threads)
    run.mkdir(parents=True, exist_ok=True)
    same_run(run / "pretrain.json", {"seed": seed, "lr": lr, "init": str(init) if init else None, "bf16": bf16})
    model, tokenizer = start(run, init, seed)
    if not quiet:
        print(f"{parameter_count(model):,} parameters, {steps * TOKENS_PER_STEP / 1e6:.0f} M tokens", flush=True)
    started = time.monotonic()
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % 100 == 0 and not quiet:
            model.eval()
            shots = {k: label_map_accuracy(model, tokenizer, n_labels=4, shots=k, n=64, seed=1) for k in (0, 4, 16)}
            model.train()
            probes = " ".join(f"{k}-shot {v:.2f}" for k, v in shots.items())
            seconds = time.monotonic() - started
            print(f"{step + 1} loss {sum(losses[-100:]) / 100:.3f} {probes} {seconds:.0f} s", flush=True)

    recipe = Recipe(steps, lr=lr, decay=decay, bf16=bf16)
    state = run / "state"
    train(
        model,
        lambda step: pretraining_batch(tokenizer, model.config, seed, step, long_from),
        next_token_loss,
        recipe,
        state=state,
        save_every=100,
        on_step=on_step,
    )
    save(run, model, tokenizer)
    return model
