"""The transformer: equal to its reference, causal, and the same with a cache as without."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import nn

from promptlab.errors import SetupError
from promptlab.tiny import checkpoint
from promptlab.tiny.engine.weights import attention, merged
from promptlab.tiny.model import (
    Attention,
    Config,
    Transformer,
    parameter_count,
    rotary,
    rotate,
)
from promptlab.tiny.tokenizer import SPECIAL, Tokenizer
from promptlab.types import Message


@pytest.fixture(scope="module")
def hf_model(random_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def hf_tokenizer(random_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")
    return transformers.AutoTokenizer.from_pretrained(random_folder)


def some_tokens(model: Transformer, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(10, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


# ---- against transformers


def test_logits_are_those_of_transformers(random_model, hf_model):
    tokens = some_tokens(random_model, 3, 200)
    with torch.no_grad():
        ours, theirs = random_model.logits(random_model(tokens)), hf_model(tokens).logits
    assert ours.std() > 0.5  # not equal for want of anything to differ in
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_gradients_are_those_of_transformers(random_model, hf_model):
    tokens = some_tokens(random_model, 2, 200)  # two blocks of attention
    random_model.zero_grad()
    hf_model.zero_grad()
    F.cross_entropy(random_model.logits(random_model(tokens[:, :-1])).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    hf_model(tokens, labels=tokens).loss.backward()
    theirs = dict(hf_model.named_parameters())
    for name, weight in random_model.named_parameters():
        difference = (weight.grad - theirs[name].grad).norm() / theirs[name].grad.norm()
        assert difference < 1e-5, name
    random_model.zero_grad(set_to_none=True)


def test_greedy_replies_are_those_of_transformers(random_model, hf_model):
    prompt = some_tokens(random_model, 1, 20, seed=1)
    theirs = hf_model.generate(prompt, max_new_tokens=32, do_sample=False, eos_token_id=None)[0, 20:]
    ours = prompt
    with torch.no_grad():
        for _ in range(32):
            ours = torch.cat((ours, random_model.logits(random_model(ours))[:, -1:].argmax(-1)), dim=1)
    assert ours[0, 20:].tolist() == theirs.tolist()
    assert len(set(theirs.tolist())) > 3


def test_transformers_reads_the_shape_and_the_rotary_base_from_our_config(tmp_path, tiny_tokenizer):
    transformers = pytest.importorskip("transformers", reason="transformers, the reference, is not installed")
    config = Config(len(tiny_tokenizer), d_model=48, n_layers=1, n_heads=3, d_ff=40, context=77, rope_theta=1234.0)
    checkpoint.save(tmp_path, Transformer(config).initialise(torch.Generator()), tiny_tokenizer)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.rope_parameters == {"rope_type": "default", "rope_theta": 1234.0}
    assert (theirs.head_dim, theirs.num_key_value_heads, theirs.max_position_embeddings) == (16, 3, 77)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    assert theirs.tie_word_embeddings
    assert checkpoint.load(tmp_path).model.config == config


CHATS = [
    [Message("user", "A jug holds 12 litres.\nAdd 7. How many now?")],
    [
        Message("system", "Answer with one of: red, blue."),
        Message("user", "naïve  café ☕"),
        Message("assistant", "red"),
    ],
    [Message("user", "a"), Message("assistant", "b"), Message("user", ""), Message("assistant", " c ")],
    [Message("user", "a"), Message("assistant", "b"), Message("tool", "42"), Message("user", "d")],
]


@pytest.mark.parametrize("chat", CHATS)
def test_the_chat_template_gives_transformers_the_same_ids(chat, hf_tokenizer, tiny_tokenizer):
    turns = [{"role": m.role, "content": m.content} for m in chat]
    if chat[-1].role == "assistant":
        theirs = hf_tokenizer.apply_chat_template(turns, continue_final_message=True, return_dict=False)
        closed = hf_tokenizer.apply_chat_template(turns, return_dict=False)
        assert closed == [*theirs, 2]
    else:
        theirs = hf_tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert theirs == tiny_tokenizer.chat(chat)


def test_transformers_decodes_as_we_do(hf_tokenizer, tiny_tokenizer):
    text = "a , b . c  ' d 12\n é"
    assert hf_tokenizer.decode(tiny_tokenizer.encode(text), skip_special_tokens=True) == text


# ---- checkpoints


def test_a_checkpoint_comes_back_as_it_was(random_folder, random_model, tiny_tokenizer):
    loaded = checkpoint.load(random_folder)
    assert loaded.model.config == random_model.config
    for name, weight in random_model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight), name
    assert loaded.tokenizer.encode("cough 12") == tiny_tokenizer.encode("cough 12")
    assert loaded.sha256 == checkpoint.sha256_of(random_folder / "model.safetensors")


def test_half_precision_weights_are_computed_with_in_float32(tmp_path, random_model, tiny_tokenizer):
    checkpoint.save(tmp_path, random_model, tiny_tokenizer, torch.float16)
    loaded = checkpoint.load(tmp_path).model
    assert loaded.dtype == torch.float32
    weight = random_model.model.norm.weight
    torch.testing.assert_close(loaded.model.norm.weight, weight, atol=1e-3, rtol=1e-3)


def rewritten(folder: Path, to: Path, **changes: Any) -> Path:
    """The checkpoint with its config changed; None takes a key away."""
    to.mkdir(exist_ok=True)
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text()) | changes
    (to / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return to


@pytest.mark.parametrize("spelling", [{"rope_theta": None}, {"rope_parameters": None}])
def test_either_spelling_of_the_rotary_base_is_read(spelling, random_folder, tmp_path):
    assert checkpoint.load(rewritten(random_folder, tmp_path, **spelling)).model.config.rope_theta == 10_000.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"tie_word_embeddings": False}, "untied"),
        ({"num_key_value_heads": 1}, "grouped"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "the activation gelu"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "rotary"),
        ({"rope_parameters": None, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rotary"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary"),
    ],
)
def test_a_model_of_another_kind_is_refused_in_words(changes, words, random_folder, tmp_path):
    with pytest.raises(SetupError, match=words):
        checkpoint.load(rewritten(random_folder, tmp_path, **changes))


def test_an_incomplete_folder_says_what_it_lacks(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match=r"lacks model\.safetensors, tokenizer\.json"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 64}, r"of another shape \(model\.embed_tokens\.weight is \(512, 32\) instead of \(512, 64\)"),
        ({"num_hidden_layers": 3}, r"it lacks 9 weights \(model\.layers\.2"),
        ({"num_hidden_layers": 1}, r"it has 9 others \(model\.layers\.1"),
    ],
)
def test_weights_of_another_model_are_told_by_name(changes, words, random_folder, tmp_path):
    with pytest.raises(SetupError, match=f"holds another model: .*{words}"):
        checkpoint.load(rewritten(random_folder, tmp_path, **changes))


@pytest.mark.parametrize(
    ("special", "alphabet"), [(("<unk>", "<s>", "</s>"), ByteLevel.alphabet()), (SPECIAL, ())], ids=["ids", "bytes"]
)
def test_a_tokenizer_of_another_kind_is_refused(special, alphabet, random_folder, tmp_path):
    folder = rewritten(random_folder, tmp_path)
    foreign = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=special[0]))
    trainer = BpeTrainer(vocab_size=400, special_tokens=list(special), initial_alphabet=list(alphabet))
    foreign.train_from_iterator(["some words of a text"], trainer)
    foreign.save(str(folder / "tokenizer.json"))
    with pytest.raises(SetupError, match=r"tokenizer\.json is not of the bundled kind; load the folder with hf:"):
        checkpoint.load(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_half_a_file_is_named(file, random_folder, tmp_path):
    folder = rewritten(random_folder, tmp_path)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SetupError, match=file):
        checkpoint.load(folder)


def test_the_bundled_checkpoint_loads():
    model, tokenizer, _ = checkpoint.load()
    assert model.config.vocab_size == len(tokenizer)
    assert isinstance(tokenizer, Tokenizer)
    assert 1e6 < parameter_count(model) < 1e7


# ---- the equations


def test_attention_is_softmax_of_qk_over_root_d_times_v():
    config = Config(vocab_size=16, d_model=24, n_layers=1, n_heads=3, d_ff=8)
    torch.manual_seed(0)
    attention = Attention(config).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    rope = rotary(torch.arange(7)[None], 8, config.rope_theta)
    rope = (rope[0].double(), rope[1].double())

    def heads(projection: nn.Linear) -> torch.Tensor:
        return projection(x).view(2, 7, 3, 8).transpose(1, 2)  # (B, H, T, D)

    q, k, v = rotate(heads(attention.q_proj), *rope), rotate(heads(attention.k_proj), *rope), heads(attention.v_proj)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    weights = torch.softmax((q @ k.mT / math.sqrt(8)).masked_fill(future, -math.inf), dim=-1)
    expected = attention.o_proj((weights @ v).transpose(1, 2).reshape(2, 7, 24))
    torch.testing.assert_close(attention(x, rope, None, True), expected, atol=1e-12, rtol=0)


def packed(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (1, T) and mask (1, 1, T, T) of documents put one behind the other, none of which sees another."""
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    blocks = torch.block_diag(*[torch.ones(n, n).tril() for n in lengths])
    return positions, blocks.log()[None, None]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 99))
def test_attention_is_that_of_pytorch_also_of_packed_documents(lengths, seed):
    q, k, v = torch.randn(3, 2, 2, sum(lengths), 16, generator=torch.Generator().manual_seed(seed)).unbind()
    _, mask = packed(lengths)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.isfinite())
    torch.testing.assert_close(attention(q / 4, k, v, mask.expand(2, -1, -1, -1))[0], expected, atol=1e-6, rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_attention_over_two_stretches_is_that_over_both(shared, own, T, seed):
    """All rows look at one first stretch; of the second each has its own, with padding."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(3, 2, n, 16, generator=generator) for n in (T, shared + own, shared + own))
    seen = torch.rand(3, 1, 1, shared + own, generator=generator) < 0.7
    seen[..., : shared + 1] = True
    k[:, :, :shared], v[:, :, :shared] = k[:1, :, :shared], v[:1, :, :shared]
    mask = seen[..., shared:].float().log().expand(-1, -1, T, -1)
    first = attention(q / 4, k[:1, :, :shared], v[:1, :, :shared], None)
    second = attention(q / 4, k[:, :, shared:], v[:, :, shared:], mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(merged(first, second), expected, atol=1e-6, rtol=1e-6)


def test_packed_documents_are_read_as_each_alone(random_model):
    lengths = [30, 1, 150, 40]
    positions, mask = packed(lengths)
    tokens = some_tokens(random_model, 1, sum(lengths))
    with torch.no_grad():
        whole = random_model.logits(random_model(tokens, positions, mask))
        alone = [random_model.logits(random_model(each)) for each in tokens.split(lengths, dim=1)]
    torch.testing.assert_close(whole, torch.cat(alone, dim=1), atol=1e-5, rtol=0)
    changed = tokens.clone()
    changed[:, :31] = (tokens[:, :31] + 1) % random_model.config.vocab_size  # the two documents before
    with torch.no_grad():
        assert torch.equal(
            random_model(changed, positions, mask)[:, 31:], random_model(tokens, positions, mask)[:, 31:]
        )


def test_rotation_makes_products_depend_on_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(at_q: int, at_k: int) -> float:
        turned = [rotate(x, *rotary(torch.tensor([[p]]), 8, 10_000.0)) for x, p in ((q, at_q), (k, at_k))]
        return float((turned[0] * turned[1]).sum())

    assert product(9, 4) == pytest.approx(product(105, 100), abs=1e-4)
    assert product(9, 4) != pytest.approx(product(9, 5), abs=1e-3)
    assert product(0, 0) == pytest.approx(float((q * k).sum()), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 39), st.integers(0, 10))
def test_a_later_token_changes_no_earlier_logit(random_model, at, seed):
    tokens = some_tokens(random_model, 1, 40, seed)
    changed = tokens.clone()
    changed[0, at] = (tokens[0, at] + 1) % random_model.config.vocab_size
    with torch.no_grad():
        before, after = random_model.logits(random_model(tokens)), random_model.logits(random_model(changed))
    torch.testing.assert_close(before[:, :at], after[:, :at], atol=1e-5, rtol=0)
    assert (before[:, at:] - after[:, at:]).abs().max() > 1e-3


def test_without_causality_every_position_sees_every_other(random_model):
    tokens = some_tokens(random_model, 1, 20)
    changed = tokens.clone()
    changed[0, -1] = 11
    with torch.no_grad():
        before, after = random_model(tokens, causal=False), random_model(changed, causal=False)
    assert (before[0, 0] - after[0, 0]).abs().max() > 1e-3


def test_initialisation_is_a_function_of_the_seed():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        model = Transformer(Config(vocab_size=300, d_model=64, n_layers=8, n_heads=2, d_ff=128))
        return model.initialise(torch.Generator().manual_seed(seed)).state_dict()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert one["model.layers.0.mlp.up_proj.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert one["model.layers.0.mlp.down_proj.weight"].std() == pytest.approx(0.02 / 4, rel=0.05)  # sqrt(2·8) = 4
