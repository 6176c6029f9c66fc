"""Another vocabulary for a trained model, so that what it reads next takes fewer tokens and what it knows is kept."""

from __future__ import annotations

from dataclasses import replace

import torch

from promptlab.tiny.model import Transformer
from promptlab.tiny.tokenizer import Tokenizer


@torch.no_grad()
def with_vocabulary(model: Transformer, old: Tokenizer, new: Tokenizer) -> Transformer:
    """The same model for another tokenizer of this kind: every new token is the mean of what it was written with.

    Special tokens and single bytes, which all tokenizers of this kind share, keep their vectors as they are.
    """
    grown = Transformer(replace(model.config, vocab_size=len(new)))
    weights = model.state_dict()
    vectors = weights["model.embed_tokens.weight"]  # (V, C), also the output matrix
    by_token = {token: vectors[i] for token, i in old.bpe.get_vocab().items()}
    rows = torch.empty(len(new), vectors.shape[1])
    for token, i in new.bpe.get_vocab().items():
        known = by_token.get(token)
        rows[i] = vectors[old.encode(new.decode([i]))].mean(0) if known is None else known
    grown.load_state_dict({**weights, "model.embed_tokens.weight": rows})
    return grown
