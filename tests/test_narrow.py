"""Weights in bfloat16 and int8: what they are rounded to is computed with exactly, and what that costs is told."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waves import request, words

from promptlab import Reply, model
from promptlab.backends.tiny import Tiny, as_kept
from promptlab.errors import SetupError
from promptlab.tiny import checkpoint
from promptlab.tiny.engine import Engine
from promptlab.tiny.engine.compiling import library
from promptlab.tiny.engine.keeping import cost, suited
from promptlab.tiny.engine.narrow import BITS, Kept, packed, rounded
from promptlab.tiny.engine.program import WIDEST, Text, program
from promptlab.tiny.engine.store import Store
from promptlab.tiny.engine.weights import Weights
from promptlab.tiny.model import Config, Transformer

FEWER: list[Kept] = ["bfloat16", "int8"]
needs_compiler = pytest.mark.skipif(library() is None, reason="no C compiler on this machine")


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from(FEWER))
def test_a_number_is_off_by_half_a_step_at_most_and_rounded_once(four, columns, seed, kept):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(4 * four, columns)) * 10.0 ** rng.integers(-9, 9, columns)
    matrix = torch.tensor(numbers * (rng.random(numbers.shape) < 0.9), dtype=torch.float32)  # some are 0
    once = rounded(matrix, kept)
    step = matrix.abs() * 2**-7 if kept == "bfloat16" else matrix.abs().amax(0) / 127 * (1 + 2**-11)
    assert ((once - matrix).abs() <= step / 2 + 1e-38).all()
    assert torch.equal(rounded(once, kept), once)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_whole_numbers_lie_below_each_other_the_first_in_the_lowest_bits(four, columns, seed):
    matrix = rounded(torch.randn(4 * four, columns, generator=torch.Generator().manual_seed(seed)), "int8")
    numbers, scales = packed(matrix, 8)
    assert numbers.shape == (four, columns)
    below = torch.stack([(numbers << (24 - 8 * p)) >> 24 for p in range(4)], dim=1)  # with their signs
    assert torch.equal(below.reshape(4 * four, columns) * scales, matrix)


@pytest.mark.parametrize("kept", FEWER)
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1, 0x7F800001])
def test_what_is_no_number_stays_none(kept, bits):
    matrix = torch.ones(4, 3)
    matrix.view(torch.int32)[2, 1] = bits
    assert rounded(matrix, kept)[2, 1].isnan()
    assert not rounded(matrix, kept)[:, [0, 2]].isnan().any()


@needs_compiler
def test_matrices_too_long_for_the_stack_are_left_to_pytorch():
    wide = Transformer(Config(16, d_model=16, n_layers=1, n_heads=1, d_ff=WIDEST + 16, context=16))
    assert program(Weights(wide, "int8")) is None
    assert program(Weights(wide)) is not None


@needs_compiler
@pytest.mark.parametrize("kept", FEWER)
@pytest.mark.parametrize(
    ("vocab_size", "d_model", "n_heads", "d_ff"), [(259, 32, 2, 48), (65, 96, 2, 80), (1536, 128, 4, 352)]
)
def test_of_any_shape_and_beside_any_others_they_say_what_those_numbers_in_float32_say(
    kept, vocab_size, d_model, n_heads, d_ff
):
    made = Transformer(Config(vocab_size, d_model=d_model, n_layers=2, n_heads=n_heads, d_ff=d_ff, context=16))
    made.initialise(torch.Generator().manual_seed(0))
    fewer, plain = Weights(made, kept), Weights(made, kept)
    plain.kept = "float32"
    fewer.program, plain.program = program(fewer), program(plain)
    rng = np.random.default_rng(0)
    texts = [Text(rng.integers(vocab_size, size=1 + i % 5).tolist(), 0, np.array([i + 1])) for i in range(37)]
    alone = [said(fewer, [text]) for text in texts]
    for n in (*range(1, 12), 18, len(texts)):  # up to 110 tokens
        found = said(fewer, texts[:n])
        assert torch.equal(found, torch.cat(alone[:n]))
        # in the same order, but for int8 and by tiles
        near = 0 if kept == "bfloat16" and not made_for_tiles() else 1e-5
        assert found.numpy() == pytest.approx(said(plain, texts[:n]).numpy(), abs=near)


def made_for_tiles() -> bool:
    compiled = library()
    return compiled is not None and bool(compiled.by_tiles())


def said(weights: Weights, texts: list[Text]) -> torch.Tensor:
    """The scores behind each of their tokens."""
    assert weights.program is not None
    return weights.program.logits(weights.program.forward(Store(weights, 640).blocks, texts))


@pytest.mark.parametrize("kept", FEWER)
@pytest.mark.parametrize("compiled", [True, False])
def test_answers_are_those_of_the_rounded_weights(random_tiny, monkeypatch, kept, compiled):
    """Beside PyTorch's own forward pass of a model that has them."""
    monkeypatch.setenv("PROMPTLAB_COMPILE", str(int(compiled)))
    engine = Engine(random_tiny.model, random_tiny.tokenizer, kept=kept)
    exact = Engine(random_tiny.model, random_tiny.tokenizer)
    wave = [request(words(i, 3 + 11 * i), continuations=("cough", words(i, 9))) for i in range(7)]
    plain = Weights(random_tiny.model, kept)
    for each, reply, other in zip(wave, engine.answer(wave), exact.answer(wave), strict=True):
        assert isinstance(reply, Reply)
        assert isinstance(other, Reply)
        prompt = random_tiny.tokenizer.chat(each.messages)
        for ids, score in zip(random_tiny.tokenizer.encode_all(each.continuations), reply.scores, strict=True):
            assert score == pytest.approx(log_p(plain, prompt, ids), abs=2e-4)
        assert reply.scores != other.scores
        near = 6.0 if kept == "int8" else 1.0  # of a steep model: its weights are 8 times as large as at first
        assert reply.scores == pytest.approx(other.scores, abs=near)


def log_p(weights: Weights, prompt: list[int], ids: list[int]) -> float:
    from promptlab.tiny.engine.keeping import predicted

    said = torch.log_softmax(predicted(weights, torch.tensor([prompt + ids])), dim=-1)
    return sum(float(said[len(prompt) + k - 1, token]) for k, token in enumerate(ids))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9), st.sampled_from(FEWER))
@needs_compiler
def test_a_reply_is_the_same_to_the_bit_beside_any_others(random_tiny, seed, kept):
    wave = [
        request(words(seed + i, 4 + 9 * (i % 3)), max_tokens=5, temperature=1.0 * (i % 2), branch=(i,), logprobs=True)
        for i in range(2 + seed)
    ]
    engine = Engine(random_tiny.model, random_tiny.tokenizer, kept=kept)
    together = engine.answer(wave)
    for each, reply in zip(wave, together, strict=True):
        engine.forget()
        assert engine.answer([each]) == [reply]


def test_what_it_costs_is_told_and_less_than_nothing_is_asked_of_float32(random_folder, random_tiny):
    of = {kept: cost(random_tiny.model, random_tiny.tokenizer, Weights(random_tiny.model, kept)) for kept in BITS}
    assert of["float32"].nats == 0
    assert of["float32"].same == 1
    assert 0 < of["bfloat16"].nats < of["int8"].nats < 1
    assert 0.5 < of["int8"].same < of["bfloat16"].same < 1
    assert str(of["int8"]) in Tiny(random_folder, dtype="int8").description
    assert "nats" not in Tiny(random_folder).description


def test_a_cache_does_not_take_one_for_the_other(random_folder):
    of = [Tiny(random_folder, dtype=kept) for kept in BITS]
    assert len({str(tiny.identity) for tiny in of}) == 3
    assert of[0].identity == Tiny(random_folder).identity
    assert pickle.loads(pickle.dumps(of[2])).dtype == "int8"


@pytest.mark.parametrize("tiles", [True, False])
def test_auto_is_what_suits_the_size_and_the_processor(monkeypatch, tiles):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"l2_cache_size": 1 << 20, "amx_bf16": tiles})
    sizes = (16, 1), (256, 24), (1024, 24)
    assert [suited(Config(512, d_model=d, n_layers=n, n_heads=2, d_ff=d)) for d, n in sizes] == [
        "float32",
        "bfloat16",
        "bfloat16" if tiles else "int8",
    ]
    assert model("tiny", dtype="auto").dtype == suited(Tiny().model.config)


def test_a_gpu_computes_in_float32_or_bfloat16():
    config = Config(512, d_model=1024, n_layers=24)
    assert as_kept("auto", config, "cuda") == "bfloat16"
    assert as_kept("float32", config, "cuda") == "float32"
    with pytest.raises(SetupError, match="int8 weights are for a CPU; on a GPU take bfloat16"):
        as_kept("int8", config, "cuda")


def test_what_is_no_dtype_is_refused(tmp_path: Path, tiny_tokenizer):
    with pytest.raises(SetupError, match="float32, bfloat16, int8 or auto, got 'int4'"):
        model("tiny", dtype="int4")
    masked = Transformer(Config(len(tiny_tokenizer), d_model=32, n_layers=1, n_heads=2, d_ff=32, causal=False))
    checkpoint.save(tmp_path, masked, tiny_tokenizer)
    with pytest.raises(SetupError, match="fills gaps in float32, not in int8"):
        Tiny(tmp_path, dtype="int8")
    assert Tiny(tmp_path, dtype="auto").dtype == "float32"
