"""A small random model, its tokenizer and a backend of them, for tests of behaviour that no training is needed for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the fixtures import it: tests that use none of them need no torch
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.model import Transformer
    from promptlab.tiny.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    from promptlab.tiny.pretrain import learn_tokenizer

    return learn_tokenizer(seed=0, vocab_size=512, n_documents=300)


@pytest.fixture(scope="session")
def random_model(tiny_tokenizer: Tokenizer) -> Transformer:
    """Larger weights than at initialisation, so that tokens differ in probability and the likeliest is no near tie."""
    import torch

    from promptlab.tiny.model import Config, Transformer

    torch.set_num_threads(1)
    model = Transformer(Config(len(tiny_tokenizer), d_model=32, n_layers=2, n_heads=2, d_ff=64, context=256))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight *= 8.0
    return model.eval()


@pytest.fixture(scope="session")
def random_folder(
    tmp_path_factory: pytest.TempPathFactory, random_model: Transformer, tiny_tokenizer: Tokenizer
) -> Path:
    """The random model as a checkpoint on disk."""
    from promptlab.tiny import checkpoint

    folder = tmp_path_factory.mktemp("random")
    checkpoint.save(folder, random_model, tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def random_tiny(random_folder: Path) -> Tiny:
    from promptlab.backends.tiny import Tiny

    return Tiny(random_folder)
