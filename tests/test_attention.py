"""Attention with its weights: the lecture's example, PyTorch's own, and what a model really does."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.tiny.attention import attention_maps, dot_product_attention
from promptlab.tiny.model import rotary


def test_the_lectures_example_comes_out_to_its_decimals():
    q, k = torch.tensor([[0.5, 0.4]]), torch.tensor([[0.2, 0.4], [0.6, 0.8]])
    found = dot_product_attention(q, k, torch.eye(2), scaled=False)
    assert found.scores.tolist()[0] == pytest.approx([0.26, 0.62])
    assert found.weights.tolist()[0] == pytest.approx([0.4110, 0.5890], abs=5e-5)
    assert torch.equal(found.output, found.weights)
    scaled = dot_product_attention(q, k, torch.eye(2))
    torch.testing.assert_close(scaled.scores, found.scores / 2**0.5)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_attention_is_pytorchs(T, S, causal):
    generator = torch.Generator().manual_seed(10 * T + S)
    q = torch.randn(2, 3, T, 8, generator=generator)
    k, v = torch.randn(2, 2, 3, S, 8, generator=generator).unbind()
    may = torch.ones(T, S, dtype=torch.bool).tril(S - T) if causal and S >= T else None
    found = dot_product_attention(q, k, v, causal=may is not None)
    torch.testing.assert_close(found.output, F.scaled_dot_product_attention(q, k, v, may), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, 3, T))


def test_maps_are_what_the_model_attends_by(random_model):
    config = random_model.config
    tokens = torch.randint(10, config.vocab_size, (2, 17), generator=torch.Generator().manual_seed(0))
    maps = attention_maps(random_model, tokens)
    assert maps.shape == (config.n_layers, 2, config.n_heads, 17, 17)
    assert not maps.triu(1).any()
    x, rope = random_model.model.embed_tokens(tokens), rotary(torch.arange(17)[None], config.d_head, config.rope_theta)
    for i, block in enumerate(random_model.model.layers):
        normed = block.input_layernorm(x)
        v = block.self_attn.v_proj(normed).view(2, 17, config.n_heads, config.d_head).transpose(1, 2)
        by_maps = block.self_attn.o_proj((maps[i] @ v).transpose(1, 2).reshape(2, 17, config.d_model))
        torch.testing.assert_close(by_maps, block.self_attn(normed, rope, None, True), atol=1e-5, rtol=1e-5)
        x = block(x, rope, None, True)
