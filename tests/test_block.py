"""The compiled block of the model: what PyTorch's operations give, forward and backward, whatever the shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptlab.tiny.block import fits, library
from promptlab.tiny.lora import LoRA, add_lora
from promptlab.tiny.model import Config, Transformer

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler on this machine")

SMALL = Config(vocab_size=50, d_model=64, n_layers=2, n_heads=2, d_ff=96, context=256)


def random(config: Config, seed: int = 0) -> Transformer:
    """A model with numbers large enough that all of its parts matter."""
    model = Transformer(config).initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight *= 4.0
            else:
                weight += torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    return model


def trained_through(
    model: Transformer, tokens: Tensor, positions: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Hidden states, and the gradients of some function of them."""
    model.zero_grad()
    hidden = model(tokens, positions)
    (hidden * torch.sin(torch.arange(hidden.numel()) * 0.7).view_as(hidden)).sum().backward()
    return hidden.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def by_pytorch(monkeypatch):
    def ask(*asked):
        with monkeypatch.context() as patch:
            patch.setenv("PROMPTLAB_COMPILE", "0")
            assert not fits(torch.zeros(1, 1, 32), 32)
            return trained_through(*asked)

    return ask


def check(ours: tuple[Tensor, dict[str, Tensor]], theirs: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    most = max(gradient.norm() for gradient in theirs[1].values())  # of some that are 0 only rounding is left
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-5 * gradient.norm() + 5e-7 * most, name


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_hidden_states_and_every_gradient_are_those_of_pytorch(data):
    d_head = data.draw(st.sampled_from([16, 32, 48]))
    n_heads, d_ff, B, T = (data.draw(st.integers(1, most)) for most in (3, 90, 5, 150))
    causal, moved = data.draw(st.booleans()), data.draw(st.booleans())
    config = Config(50, d_head * n_heads, 2, n_heads, d_ff, causal=causal)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    tokens = torch.randint(50, (B, T), generator=generator)
    positions = torch.randint(300, (B, T), generator=generator) if moved else None
    model = random(config)
    assert fits(torch.zeros(B, T, config.d_model), d_head)
    ours = trained_through(model, tokens, positions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTLAB_COMPILE", "0")
        check(ours, trained_through(model, tokens, positions))


def test_neither_threads_nor_what_is_beside_a_row_change_a_bit():
    model, tokens = random(SMALL), torch.randint(50, (7, 83), generator=torch.Generator().manual_seed(0))
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(trained_through(model, tokens))
    finally:
        torch.set_num_threads(before)
    for hidden, gradients in found[1:]:
        assert torch.equal(hidden, found[0][0])
        assert all(torch.equal(gradients[name], g) for name, g in found[0][1].items())
    with torch.no_grad():
        assert torch.equal(torch.cat([model(row[None]) for row in tokens]), found[0][0])


def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own(by_pytorch):
    model = random(SMALL).requires_grad_(False)
    block = model.model.layers[1]
    for weight in (block.self_attn.k_proj.weight, block.mlp.down_proj.weight, block.input_layernorm.weight):
        weight.requires_grad_(True)
    tokens = torch.randint(50, (3, 20))
    ours = trained_through(model, tokens)
    assert len(ours[1]) == 3
    check(ours, by_pytorch(model, tokens))


def test_adapters_are_trained_through_it(by_pytorch):
    model = add_lora(random(SMALL), LoRA(rank=3))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".B"):
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(50, (3, 20))
    ours = trained_through(model, tokens)
    assert all(name.endswith((".A", ".B")) for name in ours[1])
    assert len(ours[1]) == 28
    check(ours, by_pytorch(model, tokens))


def test_a_loss_can_be_trained_through_twice_if_asked_to():
    model, tokens = random(SMALL), torch.randint(50, (2, 9))
    hidden = model(tokens).sum()
    hidden.backward(retain_graph=True)
    once = [p.grad.clone() for p in model.parameters()]
    hidden.backward()
    assert all(torch.equal(p.grad, 2 * g) for p, g in zip(model.parameters(), once, strict=True))


def test_weights_changed_on_the_way_are_refused():
    model = random(SMALL)
    loss = model(torch.randint(50, (2, 9))).sum()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_nan_spoils_its_own_row_only():
    model, tokens = random(SMALL), torch.ones(3, 40, dtype=torch.long)
    tokens[1, 20] = 49
    with torch.no_grad():
        model.model.embed_tokens.weight[49] = float("nan")
        hidden = model(tokens)
    assert hidden[[0, 2]].isfinite().all()
    assert hidden[1, 20:].isnan().all()


@pytest.mark.parametrize("model", [random(SMALL).double(), random(replace(SMALL, d_model=48, n_heads=2))])
def test_what_there_is_no_code_for_is_pytorchs(model):
    config = model.config
    assert not fits(torch.zeros(1, 1, config.d_model, dtype=model.dtype), config.d_head)
    assert len(trained_through(model, torch.randint(50, (2, 7)))[1]) == len(list(model.parameters()))


def test_in_bf16_it_is_pytorchs():
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits(torch.zeros(1, 1, 64), 32)
