"""Gradients written by hand, beside those that PyTorch derives."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.tiny.gradients import Heads, Norm
from promptlab.tiny.model import rotary, rotate


def norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, 1e-5)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from([1, 8, 33]), st.floats(1e-3, 1e3))
def test_the_norm_is_pytorchs_and_so_are_its_gradients(shape, C, size):
    generator = torch.Generator().manual_seed(C)
    x, dy = (torch.randn(*shape, C, generator=generator, dtype=torch.float64) * s for s in (size, 1))
    found, expected = [], []
    for function, into in ((lambda x, w: Norm.apply(x, w, 1e-5), found), (norm, expected)):
        inputs = x.clone().requires_grad_(), torch.linspace(-1, 2, C, dtype=torch.float64).requires_grad_()
        y = function(*inputs)
        y.backward(dy)
        into += [y.detach(), *(each.grad for each in inputs)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_in_bf16_the_mean_square_is_taken_in_float32():
    x = torch.full((1, 4096), 3.0).bfloat16()  # in bf16 a sum of ones stays at 256
    assert Norm.apply(x, torch.ones(4096), 1e-5).tolist()[0] == [1.0] * 4096


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.sampled_from([2, 16]))
def test_heads_are_rotated_as_the_equation_says_and_gradients_turned_back(B, T, H, D):
    generator = torch.Generator().manual_seed(T)
    qkv, dy = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((B, T, 3 * H * D), (3, B, H, T, D)))
    cos, sin = (angles.double() for angles in rotary(torch.arange(T)[None] + 5, D, 100.0))

    def plain(qkv):
        q, k, v = qkv.view(B, T, 3, H, D).permute(2, 0, 3, 1, 4)
        return torch.stack((rotate(q, cos, sin), rotate(k, cos, sin), v))

    found, expected = [], []
    for function, into in ((lambda qkv: Heads.apply(qkv, cos, sin, H), found), (plain, expected)):
        x = qkv.clone().requires_grad_()
        y = function(x)
        y.backward(dy)
        into += [y.detach(), x.grad]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
