"""Pretraining through its one function."""

from pathlib import Path

import numpy as np
import pytest
import torch

from promptlab.errors import SetupError
from promptlab.tiny.checkpoint import load
from promptlab.tiny.model import Config
from promptlab.tiny.pretrain import TOKENS_PER_STEP, pretrain, pretraining_batch
from promptlab.tiny.tokenizer import Tokenizer


def test_a_run_can_be_continued_from_another_ones_weights(tmp_path: Path) -> None:
    pretrain(tmp_path / "first", steps=1, long_from=1, bf16=False, threads=1, quiet=True)
    first, tokenizer, _ = load(tmp_path / "first")
    pretrain(tmp_path / "second", init=tmp_path / "first", steps=0, bf16=False, threads=1, quiet=True)
    second, same_tokenizer, _ = load(tmp_path / "second")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert tokenizer.bpe.to_str() == same_tokenizer.bpe.to_str()
    with pytest.raises(SetupError, match="begun with"):
        pretrain(tmp_path / "first", steps=2, seed=1, bf16=False, threads=1, quiet=True)


def test_rows_are_short_at_first_and_then_as_long_as_the_context(tiny_tokenizer: Tokenizer) -> None:
    for step, size in ((0, 256), (1, 256), (2, 1024)):
        batches = pretraining_batch(tiny_tokenizer, Config(context=1024), 0, step, long_from=2)
        tokens = np.concatenate([batch.tokens for batch in batches])
        assert tokens.shape == (TOKENS_PER_STEP // size, size + 1)
        assert len(np.unique(tokens, axis=0)) == len(tokens)
        assert sum(len(batch.weights) for batch in batches) == len(tokens)
        assert {batch.weights.shape[1] for batch in batches} == {size}
