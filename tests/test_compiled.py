"""The engine's compiled arithmetic says what PyTorch says, draws what it should, and is done without where it must."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waves import request, words

from promptlab import Reply
from promptlab.backends.tiny import Tiny
from promptlab.tiny import block, compiling
from promptlab.tiny.compiling import compiled
from promptlab.tiny.engine import Engine
from promptlab.tiny.engine import compiling as engine
from promptlab.tiny.engine.compiling import library
from promptlab.tiny.engine.drawing import Drawing
from promptlab.tiny.engine.program import Program, program
from promptlab.tiny.engine.row import Row
from promptlab.tiny.engine.weights import Weights
from promptlab.tiny.model import Config, Transformer
from promptlab.tiny.tokenizer import Tokenizer

needs_compiler = pytest.mark.skipif(library() is None, reason="no C compiler on this machine")


def random(tokenizer: Tokenizer, seed: int = 0, **shape: int) -> Transformer:
    """A model with numbers large enough that all of its parts matter."""
    model = Transformer(Config(len(tokenizer), context=256, **shape))
    with torch.no_grad():
        for weight in model.initialise(torch.Generator().manual_seed(seed)).parameters():
            weight *= 4.0 if weight.dim() == 2 else 1.3
    return model.eval()


def program_of(model: Transformer) -> Program:
    made = program(Weights(model))
    assert made is not None
    return made


@needs_compiler
@pytest.mark.parametrize(
    ("d_model", "n_heads", "d_ff"), [(16, 1, 16), (32, 2, 48), (96, 2, 80), (128, 4, 352), (192, 3, 128)]
)
def test_models_of_any_shape_score_as_the_plain_model_does(tiny_tokenizer, d_model, n_heads, d_ff):
    model = random(tiny_tokenizer, n_layers=2, d_model=d_model, n_heads=n_heads, d_ff=d_ff)
    assert program(Weights(model)) is not None
    wave = [request(words(i, 3 + 11 * i), continuations=("cough", words(i, 9), "the fever")) for i in range(7)]
    for each, reply in zip(wave, Engine(model, tiny_tokenizer).answer(wave), strict=True):
        prompt = tiny_tokenizer.chat(each.messages)
        assert isinstance(reply, Reply)
        for ids, score in zip(tiny_tokenizer.encode_all(each.continuations), reply.scores, strict=True):
            with torch.no_grad():
                log_p = torch.log_softmax(model.logits(model(torch.tensor([prompt + ids])))[0], dim=-1)
            told = sum(float(log_p[len(prompt) + k - 1, token]) for k, token in enumerate(ids))
            assert score == pytest.approx(told, abs=2e-4)


@pytest.mark.parametrize("vocab_size", [259, 1, 16, 65])
@needs_compiler
def test_what_is_left_over_of_a_vector_is_drawn_from_as_well(tiny_tokenizer, vocab_size):
    model = Transformer(Config(vocab_size, d_model=32, n_heads=2, n_layers=1, d_ff=32))
    model.initialise(torch.Generator().manual_seed(0))
    hidden = torch.randn(9, 32)
    logits = program_of(model).logits(hidden)
    assert logits == pytest.approx(Weights(model).logits(hidden).numpy(), abs=1e-5)
    last = torch.full_like(logits, -20.0)
    last[:, -1] = 0.0
    asked = [Row((1,), request("", temperature=0.0), np.array([0.5])) for _ in range(9)]
    assert [tokens for tokens, _ in program_of(model).draw(last, asked)] == [[vocab_size - 1]] * 9


class Some:
    """What a schema would allow: these tokens."""

    def __init__(self, tokens: list[int], of: int):
        self.may = np.zeros(of, dtype=np.bool_)
        self.may[tokens] = True

    def allowed(self) -> np.ndarray:
        return self.may


@needs_compiler
@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    st.sampled_from([1.0, 0.99, 0.6, 0.01]),
    st.floats(0.0, 0.9999),  # next to 1 PyTorch, in float32, has no token that is less likely
    st.sampled_from([None, [3], [7, 8, 250], list(range(100))]),
)
def test_tokens_are_drawn_as_pytorch_draws_them(random_tiny, seed, temperature, top_p, u, allowed):
    """The same token, unless u is within a rounding of where two meet."""
    vocab_size = random_tiny.model.config.vocab_size
    logits = torch.randn(1, vocab_size, generator=torch.Generator().manual_seed(seed)) * 3
    held = None if allowed is None else Some(allowed, vocab_size)
    row = Row((1,), request("", temperature=temperature, top_p=top_p), np.array([u]), held)  # type: ignore[arg-type]
    [([token], [log_p])] = random_tiny.engine.weights.program.draw(logits.clone(), [row])
    assert log_p == pytest.approx(float(torch.log_softmax(logits, -1)[0, token]), abs=1e-5)
    assert held is None or held.may[token]
    how = [(temperature, top_p, np.array([max(0.0, min(u + by, 1 - 1e-12))])) for by in (-1e-5, 0.0, 1e-5)]
    allowed_here, weights = {} if held is None else {0: held.may}, random_tiny.engine.weights
    theirs = [Drawing([each], allowed_here, weights).next(logits).tolist() for each in how]
    if top_p == 1.0 or temperature == 0.0:  # PyTorch draws from the likeliest first, and so another one by the same u
        assert [token] in theirs
    else:
        p = torch.softmax(torch.where(torch.tensor(held.may if held else True), logits[0], -1e9) / temperature, -1)
        more = float(p[p > p[token]].sum())
        assert more < top_p + 1e-5


@needs_compiler
def test_samples_come_as_often_as_they_should(random_tiny):
    """Of 4,000 draws each token's share is within five standard errors of its probability, with top-p and without."""
    logits = torch.linspace(-3, 3, random_tiny.model.config.vocab_size)[None].repeat(4000, 1)
    for top_p in (1.0, 0.5):
        u = np.random.default_rng(0).random(4000)
        rows = [Row((1,), request("", temperature=1.0, top_p=top_p), np.array([each])) for each in u]
        drawn = [tokens[0] for tokens, _ in random_tiny.engine.weights.program.draw(logits.clone(), rows)]
        p = torch.softmax(logits[0].double(), -1).numpy()
        inside = np.cumsum(p[::-1])[::-1] - p < top_p
        p = np.where(inside, p, 0) / p[inside].sum()
        shares = np.bincount(drawn, minlength=len(p)) / 4000
        assert (np.abs(shares - p) <= 5 * np.sqrt(p * (1 - p) / 4000) + 1e-12).all()


@needs_compiler
def test_threads_change_no_bit(random_tiny):
    wave = [
        request(words(i, 30 + i % 7), max_tokens=12, temperature=0.8, branch=(i,), logprobs=True) for i in range(90)
    ]
    wave += [request(words(i, 25), continuations=("cough", words(i, 7))) for i in range(40)]
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            found.append(Engine(random_tiny.model, random_tiny.tokenizer).answer(wave))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


# ---- where there is none


def test_a_model_it_has_no_code_for_is_answered_by_pytorch(tiny_tokenizer):
    for model in (random(tiny_tokenizer, n_layers=1, d_model=24, n_heads=3, d_ff=32), random(tiny_tokenizer).double()):
        one = Engine(model, tiny_tokenizer)
        assert one.weights.program is None
        assert isinstance(one.answer([request("cough", max_tokens=3)])[0], Reply)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "cc -no-such-flag", "'cc"])
def test_without_a_compiler_that_works_pytorch_answers(random_folder, monkeypatch, caplog, compiler):
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING):
        tiny = Tiny(random_folder)
        assert isinstance(tiny.generate([request("cough", max_tokens=3)])[0], Reply)
    assert tiny.engine.weights.program is None
    assert ("PyTorch is used" in caplog.text) == (compiler != "no-such-compiler")


CC = (os.environ.get("CC") or "cc").split()[0]
needs_cc = pytest.mark.skipif(shutil.which(CC) is None, reason="no C compiler on this machine")
PROCESSORS = ["x86-64", "haswell", "skylake-avx512", "icelake-server", "sapphirerapids"]


@needs_cc
@pytest.mark.skipif(os.environ.get("PROMPTLAB_COMPILE") == "0", reason="PROMPTLAB_COMPILE=0")
@pytest.mark.parametrize("source", [engine.SOURCE, block.SOURCE], ids=lambda path: path.name)
def test_where_there_is_a_compiler_it_is_compiled(source):
    assert compiling.library(source) is not None


@needs_cc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="a compiler of another machine")
@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("source", [engine.SOURCE, block.SOURCE], ids=lambda path: path.name)
def test_it_is_sound_for_processors_that_are_not_at_hand(source, processor):
    said = subprocess.run(
        [CC, "-fsyntax-only", "-Wall", f"-march={processor}", str(source)], capture_output=True, text=True
    )
    if "unknown value" in said.stderr or "bad value" in said.stderr:
        pytest.skip(f"{CC} does not know {processor}")
    assert said.stderr == ""


@needs_compiler
def test_it_is_compiled_once(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_clear()
    assert library() is not None
    [made] = (tmp_path / "promptlab").iterdir()
    assert (tmp_path / "promptlab").stat().st_mode & 0o077 == 0
    before = made.stat().st_mtime_ns
    compiled.cache_clear()
    assert library() is not None
    assert [each.stat().st_mtime_ns for each in (tmp_path / "promptlab").iterdir()] == [before]
    compiled.cache_clear()


@needs_compiler
def test_a_folder_that_cannot_be_written_to_is_told_of(tmp_path, monkeypatch, caplog):
    (tmp_path / "promptlab").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert library() is None
    assert "PyTorch is used" in caplog.text
    compiled.cache_clear()


@needs_compiler
def test_what_is_drawn_is_the_same_without_a_compiler(random_tiny, monkeypatch):
    how = [{"temperature": 0.8}, {"temperature": 0.8, "top_p": 0.7}, {"temperature": 1.5, "top_p": 0.95}]
    wave = [request(words(i, 5), max_tokens=12, branch=(i,), **how[i % 3]) for i in range(30)]
    compiled_one = Engine(random_tiny.model, random_tiny.tokenizer).answer(wave)
    monkeypatch.setenv("PROMPTLAB_COMPILE", "0")
    by_pytorch = Engine(random_tiny.model, random_tiny.tokenizer).answer(wave)
    assert [reply.text for reply in compiled_one] == [reply.text for reply in by_pytorch]
