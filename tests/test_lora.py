"""LoRA: the same numbers as PEFT's, on one model in both of their hands, and files that go back and forth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_train import assert_equal, chats_of, weights_of

from promptlab.backends.tiny import Tiny
from promptlab.errors import Diverged, SetupError
from promptlab.tiny.lora import (
    ATTENTION,
    EMBEDDING,
    LINEAR,
    LoRA,
    adapters,
    add_lora,
    load_adapter,
    merge,
    save_adapter,
    unmerge,
)
from promptlab.tiny.model import Transformer, parameter_count
from promptlab.tiny.sft import sft
from promptlab.tiny.train import Recipe
from promptlab.types import Request

ALL = (*LINEAR, EMBEDDING)


def filled(base: Transformer, lora: LoRA, seed: int = 0) -> Transformer:
    """Adapters as after training: no matrix is 0."""
    model = add_lora(base, lora)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, adapter in adapters(model):
            adapter.A.normal_(0.0, 0.1, generator=generator)
            adapter.B.normal_(0.0, 0.1, generator=generator)
    return model


def some_tokens(model: Transformer) -> torch.Tensor:
    return torch.randint(10, model.config.vocab_size, (3, 30), generator=torch.Generator().manual_seed(1))


def logits_of(model: Transformer) -> torch.Tensor:
    return model.logits(model(some_tokens(model)))


def peft_of(folder: Path, adapter: Path):
    """The exported base model with an adapter of ours, in PEFT's hands, its matrices trainable."""
    peft = pytest.importorskip("peft", reason="peft, the reference, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(theirs, adapter, is_trainable=True).eval()


# ---- what an adapter does


def test_a_model_starts_as_it_was(random_model):
    model = add_lora(random_model, LoRA(targets=ALL))
    assert torch.equal(logits_of(model), logits_of(random_model))


def test_an_adapted_weight_is_w_plus_scale_times_b_a(random_model):
    model = filled(random_model, LoRA(rank=4, alpha=12, targets=("v_proj",)))
    name, adapter = next(adapters(model))
    assert name == "model.layers.0.self_attn.v_proj"
    expected = random_model.get_submodule(name).weight + 12 / 4 * adapter.B @ adapter.A
    torch.testing.assert_close(model.get_submodule(name).weight, expected)
    assert LoRA(rank=4, alpha=12, rslora=True).scale == 12 / 2


def test_only_the_adapters_train(random_model, tiny_tokenizer):
    before = weights_of(random_model)
    model = add_lora(random_model, LoRA(rank=2))
    assert parameter_count(model) == 2 * 2 * (4 * (32 + 32) + 3 * (32 + 64))  # layers, rank, in + out of each
    tuned = sft(model, tiny_tokenizer, chats_of(8), recipe=Recipe(3, lr=1e-2, warmup=1))
    assert_equal(weights_of(unmerge(tuned)), before)
    assert_equal(weights_of(random_model), before)
    assert all(bool(adapter.B.any()) for _, adapter in adapters(tuned))
    assert not any(bool(adapter.B.any()) for _, adapter in adapters(model))  # sft trained a copy


def test_an_adapted_model_learns_by_heart(random_model, tiny_tokenizer):
    model = add_lora(random_model, LoRA(rank=16, targets=ALL))
    tuned = sft(model, tiny_tokenizer, chats_of(4), recipe=Recipe(150, lr=2e-2, warmup=5, weight_decay=0.0))
    for model in (tuned, merge(tuned)):
        replies = Tiny.of(model, tiny_tokenizer).generate([Request(tuple(prompt)) for *prompt, _ in chats_of(4)])
        assert [r.text for r in replies] == [said.content for *_, said in chats_of(4)]


@pytest.mark.parametrize("targets", [ATTENTION, LINEAR, ALL])
def test_merging_changes_rounding_only_and_unmerging_nothing(random_model, targets):
    model = filled(random_model, LoRA(targets=targets))
    merged = merge(model)
    assert weights_of(merged).keys() == weights_of(random_model).keys()
    torch.testing.assert_close(logits_of(merged), logits_of(model), atol=1e-5, rtol=0)
    assert not torch.allclose(logits_of(merged), logits_of(random_model), atol=0.1)
    assert_equal(weights_of(unmerge(model)), weights_of(random_model))


def test_what_is_adapted_must_be_known_and_adapted_once(random_model):
    with pytest.raises(SetupError, match="lm_head named; known are q_proj"):
        LoRA(targets=("q_proj", "lm_head"))
    with pytest.raises(SetupError, match="rank must be at least 1"):
        LoRA(rank=0)
    with pytest.raises(SetupError, match="merge them"):
        add_lora(add_lora(random_model))


# ---- beside PEFT


CASES = [LoRA(4, 8.0), LoRA(4, 8.0, ATTENTION, rslora=True), LoRA(2, 6.0, ALL)]


@pytest.mark.parametrize("lora", CASES, ids=["linear", "attention", "embedding"])
def test_outputs_and_gradients_are_pefts(random_model, random_folder, tmp_path, lora):
    ours = filled(random_model, lora)
    save_adapter(tmp_path, ours)
    theirs = peft_of(random_folder, tmp_path)
    tokens = some_tokens(random_model)
    expected = theirs(tokens).logits
    got = logits_of(ours)
    assert (got - expected).norm() < 1e-6 * expected.norm()
    for logits in (got, expected):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    compared = 0
    named = dict(theirs.named_parameters())
    for name, adapter in adapters(ours):
        path = f"base_model.model.{name}"
        if name.endswith(EMBEDDING):  # the tied side's gradients are of other parameters there, and add up
            head = "base_model.model.lm_head"
            a = named[f"{path}.lora_embedding_B.default"].grad.T + named[f"{head}.lora_A.default.weight"].grad
            b = named[f"{path}.lora_embedding_A.default"].grad.T + named[f"{head}.lora_B.default.weight"].grad
        else:
            a, b = named[f"{path}.lora_A.default.weight"].grad, named[f"{path}.lora_B.default.weight"].grad
        torch.testing.assert_close(adapter.A.grad, a, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(adapter.B.grad, b, atol=1e-6, rtol=1e-5)
        assert float(a.abs().max()) > 1e-3
        compared += 1
    assert compared == 2 * len([t for t in lora.targets if t != EMBEDDING]) + (EMBEDDING in lora.targets)


@pytest.mark.parametrize("lora", CASES[:2], ids=["linear", "attention"])  # a tied weight it adds to twice
def test_peft_merges_to_what_we_merge_to(random_model, random_folder, tmp_path, lora):
    ours = filled(random_model, lora)
    save_adapter(tmp_path, ours)
    theirs = peft_of(random_folder, tmp_path).merge_and_unload()
    for name, weight in weights_of(merge(ours)).items():
        torch.testing.assert_close(weight, theirs.state_dict()[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lora", CASES, ids=["linear", "attention", "embedding"])
def test_an_adapter_that_peft_saved_loads_here(random_model, random_folder, tmp_path, lora):
    ours = filled(random_model, lora)
    save_adapter(tmp_path / "ours", ours)
    theirs = peft_of(random_folder, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=EMBEDDING in lora.targets)
    again = load_adapter(random_model, tmp_path / "theirs")
    for (name, one), (same, other) in zip(adapters(ours), adapters(again), strict=True):
        assert name == same
        assert torch.equal(one.A, other.A)
        assert torch.equal(one.B, other.B)
        assert one.lora.scale == other.lora.scale


def test_an_adapter_begun_in_peft_loads_here(random_model, random_folder, tmp_path):
    peft = pytest.importorskip("peft", reason="peft, the reference, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float32)
    config = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    theirs = peft.get_peft_model(theirs, config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_adapter(random_model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(ours), theirs(some_tokens(random_model)).logits, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("way", ["pissa", "olora"])
def test_an_adapter_that_stands_on_other_weights_is_refused(random_model, random_folder, tmp_path, way):
    """PEFT takes it out of the weights beforehand: on those of the checkpoint it would be another model."""
    peft = pytest.importorskip("peft", reason="peft, the reference, is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float32)
    config = peft.LoraConfig(r=3, target_modules="all-linear", init_lora_weights=way, task_type="CAUSAL_LM")
    peft.get_peft_model(theirs, config).save_pretrained(tmp_path)
    with pytest.raises(SetupError, match=f"was begun by '{way}'"):
        load_adapter(random_model, tmp_path)


# ---- files


def test_a_sum_that_is_no_finite_number_is_not_merged(random_model):
    model = filled(random_model, LoRA())
    with torch.no_grad():
        for _, adapter in adapters(model):
            adapter.A *= 1e30
            adapter.B *= 1e30
    with pytest.raises(Diverged, match="not finite numbers"):
        merge(model)


def test_an_adapter_loads_as_it_was_saved(random_model, tmp_path):
    ours = filled(random_model, LoRA(targets=ALL))
    save_adapter(tmp_path, ours)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert torch.equal(logits_of(load_adapter(random_model, tmp_path)), logits_of(ours))


def test_what_is_no_adapter_of_this_model_is_refused(random_model, tmp_path):
    with pytest.raises(SetupError, match="no readable LoRA adapter"):
        load_adapter(random_model, tmp_path)
    with pytest.raises(SetupError, match="no LoRA adapters to save"):
        save_adapter(tmp_path, random_model)
    save_adapter(tmp_path, filled(random_model, LoRA(targets=ATTENTION)))
    other = Transformer(type(random_model.config)(512, d_model=64, n_layers=2, n_heads=2, d_ff=64, context=64))
    with pytest.raises(SetupError, match="of another model"):
        load_adapter(other, tmp_path)
    shallow = Transformer(type(random_model.config)(512, d_model=32, n_layers=1, n_heads=2, d_ff=64, context=64))
    with pytest.raises(SetupError, match=r"has no .*layers\.1"):
        load_adapter(shallow, tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"bias": "none"', '"bias": "all"'))
    with pytest.raises(SetupError, match="trains biases"):
        load_adapter(random_model, tmp_path)
    config.write_text('{"peft_type": "LORA"}')
    with pytest.raises(SetupError, match="lacks r or lora_alpha"):
        load_adapter(random_model, tmp_path)
    config.write_text("[]")
    with pytest.raises(SetupError, match="no readable LoRA adapter"):
        load_adapter(random_model, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(SetupError, match="no readable LoRA adapter"):
        load_adapter(random_model, tmp_path)


def test_an_adapter_of_one_side_of_the_embedding_is_refused(random_model, tmp_path):
    save_adapter(tmp_path, filled(random_model, LoRA(targets=(EMBEDDING,))))
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"ensure_weight_tying": true', '"ensure_weight_tying": false'))
    with pytest.raises(SetupError, match="both of its sides"):
        load_adapter(random_model, tmp_path)
