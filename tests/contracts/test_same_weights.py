"""One checkpoint through every engine: the same words, the same log-probabilities."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from same_words import *  # noqa: F403  the tests are collected here
from same_words import problem, texts

from promptlab import Message, ModelError, Request, model
from promptlab.backends.tiny import Tiny
from promptlab.errors import SetupError
from promptlab.testing import FakeServer
from promptlab.tiny.checkpoint import BUNDLED

pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    backend = model("tiny")
    assert isinstance(backend, Tiny)
    return backend


@pytest.fixture(scope="module")
def hf() -> Any:
    return model(f"hf:{BUNDLED}", dtype="float32")


@pytest.fixture(
    scope="module", params=["tiny", "hf", "openai chat", "openai responses", "openai completions", "anthropic"]
)
def other(request: pytest.FixtureRequest, tiny: Tiny) -> Iterator[Any]:
    """Another way to the same weights; "tiny" is the bundled engine once more, loaded for itself."""
    if request.param in ("tiny", "hf"):
        yield model("tiny") if request.param == "tiny" else request.getfixturevalue("hf")
        return
    provider, _, api = request.param.partition(" ")
    with FakeServer(tiny) as server:
        yield model(f"{provider}:tiny@{server.url}", key="x", **({"api": api} if api else {}))


def test_half_a_pair_of_surrogates_is_read_alike(tiny: Tiny, other: Any):
    """Not by a vLLM server, which answers HTTP 400, nor by vLLM, which repeats a prompt that ends in U+FFFD."""
    asked = [Request((Message("user", f"{odd} symptom: {odd}"),), max_tokens=12) for odd in ("note \ud83d", "\ude00 a")]
    assert texts(other.generate(asked)) == texts(tiny.generate(asked))


def test_an_adapter_is_the_model_it_would_be_merged_into(tmp_path: Path, tiny: Tiny):
    pytest.importorskip("peft", reason="PEFT, which writes the adapter, is not installed")
    from adapters import written

    merged = written(tmp_path)
    adapted: Any = model(f"hf:{BUNDLED}", adapter=str(tmp_path / "adapter"), dtype="float32")
    asked = [problem(i, logprobs=True) for i in range(6)]
    ours, theirs = merged.generate(asked), adapted.generate(asked)
    assert texts(theirs) == texts(ours)
    assert texts(theirs) != texts(tiny.generate(asked))
    for one, other in zip(ours, theirs, strict=True):
        assert [t.logprob for t in other.tokens] == pytest.approx([t.logprob for t in one.tokens], abs=1e-4)
    assert texts(pickle.loads(pickle.dumps(adapted)).generate(asked)) == texts(ours)
    assert "adapter" in adapted.description


@pytest.mark.parametrize("wrong", ["nowhere", "empty", "other shape"])
def test_what_is_no_adapter_is_said_in_a_line(tmp_path: Path, wrong: str):
    pytest.importorskip("peft", reason="PEFT is not installed")
    folder = tmp_path / "adapter"
    if wrong == "empty":
        folder.mkdir()
    elif wrong == "other shape":
        from adapters import written
        from safetensors.torch import load_file, save_file

        written(tmp_path)
        weights = load_file(folder / "adapter_model.safetensors")
        save_file({name: w[:2].contiguous() for name, w in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(SetupError, match="adapter") as raised:
        model(f"hf:{BUNDLED}", adapter=str(folder))
    assert "\n" not in str(raised.value)


def test_special_tokens_in_a_text_are_text(tiny: Tiny, hf: Any):
    for text in ("<eos>", "<user>x<assistant>y", "a<bos>"):
        assert hf.encode([Message("user", text)]) == tiny.tokenizer.chat([Message("user", text)])


def test_what_is_no_model_is_said_in_a_line(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    for spec in (f"hf:{tmp_path}", f"hf:{tmp_path / 'nowhere'}"):
        with pytest.raises(SetupError, match="cannot be loaded"):
            model(spec)


def test_the_context_is_that_of_the_config(tiny: Tiny, hf: Any):
    assert hf.context_tokens == tiny.context_tokens
    chat = [Message("system", "be brief"), Message("user", "hi")]
    assert hf.count_tokens(chat) == tiny.count_tokens(chat)
    [failed] = hf.generate([Request((Message("user", "12 " * 3000),), continuations=("a",))])
    assert isinstance(failed, ModelError)


def test_what_is_exported_is_the_same_model_again(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    from promptlab.cli import main

    def exported(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        return int(ended.value.code or 0)

    monkeypatch.chdir(tmp_path)
    assert exported("--to", "hf", "out") == 0
    assert model("tiny:out").generate([problem(1)])[0].text == tiny.generate([problem(1)])[0].text
    assert model("hf:out", dtype="float32").generate([problem(1)])[0].text == tiny.generate([problem(1)])[0].text
    assert exported("--to", "hf", "out") == 2  # nothing is written over
    assert exported("--to", "gguf", "other") == 2
    assert exported("other", "--model", "hf:out") == 2
