"""Attention in blocks against PyTorch's own, forward and backward."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.tiny.causal import BLOCK, causal_attention


def passes(attention, q, k, v, dy):
    """What an attention gives, and the gradients of its inputs."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    y = attention(q, k, v)
    y.backward(dy)
    return y.detach(), q.grad, k.grad, v.grad


def sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([1, 2, 31, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]), st.integers(1, 3), st.sampled_from([8, 32])
)
def test_attention_in_blocks_and_its_gradients_are_those_of_pytorch(T, B, D):
    q, k, v, dy = torch.randn(4, B, 2, T, D, generator=torch.Generator().manual_seed(T)).unbind()
    (y, *gradients), (expected, *others) = passes(causal_attention, q, k, v, dy), passes(sdpa, q, k, v, dy)
    torch.testing.assert_close(y, expected, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_in_bf16_the_gradients_are_within_a_hundredth_of_the_exact_ones():
    exact = torch.randn(4, 2, 4, 200, 32, generator=torch.Generator().manual_seed(0)).bfloat16().double().unbind()
    ours = passes(causal_attention, *(x.bfloat16() for x in exact))
    for got, true in zip(ours, passes(sdpa, *exact), strict=True):
        assert got.dtype == torch.bfloat16
        assert (got - true).norm() < 0.01 * true.norm()


def test_inside_autocast_it_stays_in_the_precision_it_was_given():
    q = torch.randn(1, 1, 10, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert causal_attention(q, q, q).dtype == torch.float32
        assert causal_attention(*[q.bfloat16()] * 3).dtype == torch.bfloat16
