"""A training run small enough for tests, the same in every process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.train import Batch, Recipe

CONFIG = Config(vocab_size=60, d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64)
RECIPE = Recipe(8, warmup=2)


def fresh(config: Config = CONFIG, seed: int = 0) -> Transformer:
    return Transformer(config).initialise(torch.Generator().manual_seed(seed))


def batch_of(step: int, rows: int = 4, length: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, CONFIG.vocab_size, (rows, length + 1), generator=generator)
    weights = torch.randint(0, 3, (rows, length), generator=generator) / 2
    return Batch(tokens, weights)


def asleep(folder: Path) -> None:
    """A process that leaves its number in a folder and does nothing for long."""
    (folder / str(os.getpid())).touch()
    time.sleep(600)
