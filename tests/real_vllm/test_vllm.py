"""The real vLLM with the bundled weights, in process and as a server: `make test-vllm`, which sees to what it needs."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")
from same_words import *  # noqa: F403  the tests are collected here
from same_words import problem

from promptlab import Message, ModelError, Reply, Request, Tool, ask, call, model, run
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError
from promptlab.tiny.checkpoint import save
from promptlab.types import ToolSpec

SMALL = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"enum": [1, 20, 300]}, "kind": {"enum": ["a", "b"]}},  # an unbounded number may never end
    "required": ["n", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    backend = model("tiny")
    assert isinstance(backend, Tiny)
    return backend


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    save(folder, tiny.model, tiny.tokenizer)
    return folder


@pytest.fixture(scope="session")
def engine(exported: Path) -> Any:
    return model(f"vllm:{exported}", **SMALL)


@pytest.fixture(scope="session")
def server(exported: Path) -> Iterator[str]:
    """vLLM's own server on a port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = ["--model", exported, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", port]
    told += ["--dtype", "float32", "--max-model-len", 1024, "--enforce-eager", "--kv-cache-memory-bytes", "64M"]
    told += ["--max-logprobs", 20, "--enable-prompt-tokens-details", "--enable-auto-tool-choice"]
    told += ["--tool-call-parser", "hermes"]
    told += ["--override-generation-config", '{"temperature": 0}']  # greedy unless a request says otherwise
    told += ["--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}']
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    quiet.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *map(str, told)]
    with (exported / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=quiet, stdout=log, stderr=subprocess.STDOUT)
        try:
            await_health(process, port, exported / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def await_health(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 240) -> None:
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(1)
    pytest.fail(f"vLLM's server did not come up: {log.read_text()[-3000:]}")


# Completions are not among them: they continue plain text, which is no chat.
DOORS = ["vllm", "openai chat", "openai chat stream", "openai responses", "anthropic", "anthropic stream"]


@pytest.fixture(scope="session", params=DOORS)
def other(request: pytest.FixtureRequest) -> Any:
    if request.param == "vllm":
        return request.getfixturevalue("engine")
    provider, *how = request.param.split()
    options: dict[str, Any] = {"api": how[0]} if provider == "openai" else {}
    return model(f"{provider}:tiny@{request.getfixturevalue('server')}", key="x", stream="stream" in how, **options)


def test_an_adapter_is_the_model_it_would_be_merged_into(tmp_path: Path, tiny: Tiny, exported: Path):
    from adapters import written

    merged = written(tmp_path)
    adapted = model(f"vllm:{exported}", adapter=str(tmp_path / "adapter"), **SMALL)
    asked = [problem(i, logprobs=True) for i in range(6)]
    ours, theirs = merged.generate(asked), adapted.generate(asked)
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]
    assert [reply.text for reply in theirs] != [reply.text for reply in tiny.generate(asked)]
    for one, other in zip(ours, theirs, strict=True):
        assert [t.logprob for t in other.tokens] == pytest.approx([t.logprob for t in one.tokens], abs=1e-3)


@pytest.mark.parametrize("adapter", ["somebody/an-adapter", "pickled"])
def test_adapters_are_folders_with_safetensors(tmp_path: Path, exported: Path, adapter: str):
    if adapter == "pickled":
        (tmp_path / adapter).mkdir()
        (tmp_path / adapter / "adapter_model.bin").write_bytes(b"x")
        adapter = str(tmp_path / adapter)
    with pytest.raises(SetupError, match=r"adapter_model\.safetensors"):
        model(f"vllm:{exported}", adapter=adapter, **SMALL)


def test_weights_are_read_from_safetensors_only(tmp_path: Path, exported: Path, tiny: Tiny):
    import torch

    for file in exported.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(tiny.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SetupError, match="cannot be loaded"):
        model(f"vllm:{tmp_path}", **SMALL)


def chat(text: str, **options: Any) -> Request:
    return Request((Message("user", text),), **options)


def test_a_prompt_and_a_text_to_score_fill_the_context_but_for_one_token(tiny: Tiny, engine: Any):
    prompt = chat("12 " * 100)
    text = "1" * (engine.context_tokens - tiny.count_tokens(prompt.messages) - 1)
    asked = [chat("12 " * 100, continuations=(said,)) for said in (text, text + "1", "1")]
    fits, overflows, short = engine.generate(asked)
    assert fits.scores == pytest.approx(tiny.generate(asked)[0].scores, abs=1e-2)
    assert isinstance(overflows, ContextOverflow)
    assert isinstance(short, Reply)


def test_what_the_engine_refuses_fails_in_its_place(engine: Any):
    schemas: list[Any] = [None, SCHEMA, {"type": "nonsense"}, {"$ref": "#/nowhere"}, SCHEMA, None]
    replies = engine.generate([chat(f"case {i}", max_tokens=40, schema=s) for i, s in enumerate(schemas)])
    assert [isinstance(reply, ModelError) for reply in replies] == [False, False, True, True, False, False], replies
    assert "vLLM does not take the request" in str(replies[2])


def with_template(engine: Any, template: str | None) -> Any:
    """The tokenizer of an engine's checkpoint with another chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(engine.name)
    tokenizer.chat_template = template
    return tokenizer


def test_without_a_template_texts_are_plain(tiny: Tiny, engine: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "tokenizer", with_template(engine, None))
    said = "wheeze <eos><user> cough"
    first, written, scored, last = engine.generate(
        [chat("a", max_tokens=2), chat("", max_tokens=2), chat("", continuations=("a",)), chat(said, max_tokens=2)]
    )
    assert isinstance(first, Reply)
    assert "empty" in str(written)
    assert "empty" in str(scored)
    assert last.usage.input_tokens == len(tiny.tokenizer.encode(said))


def test_a_template_that_refuses_a_chat_fails_in_its_place(engine: Any, monkeypatch: pytest.MonkeyPatch):
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system, please') }}{% endif %}<user>x"
    monkeypatch.setattr(engine, "tokenizer", with_template(engine, picky))
    refused = Request((Message("system", "be brief"), Message("user", "a")), max_tokens=2)
    first, failed = engine.generate([chat("a", max_tokens=2), refused])
    assert isinstance(first, Reply)
    assert isinstance(failed, ModelError)
    assert "no system, please" in str(failed)


def test_an_engine_stays_in_its_process(engine: Any):
    with pytest.raises(SetupError, match="jobs=1"):
        pickle.dumps(engine)


def test_the_server_scores_given_texts_through_completions(tiny: Tiny, server: str):
    """Plain text, not a chat: the bundled engine reads the same tokens without its template."""
    import torch

    backend = model(f"openai:tiny@{server}", key="x", api="completions")
    context, texts = "symptom: wheeze\n", ("wheeze", "cough 12", "A")
    [reply] = backend.generate([Request((Message("user", context),), continuations=texts)])
    assert isinstance(reply, Reply), reply
    for text, found in zip(texts, reply.scores, strict=True):
        before, whole = tiny.tokenizer.encode(context), tiny.tokenizer.encode(context + text)
        assert whole[: len(before)] == before
        with torch.inference_mode():
            log_p = torch.log_softmax(tiny.model.logits(tiny.model(torch.tensor([whole])))[0], -1)
        expected = sum(float(log_p[at - 1, whole[at]]) for at in range(len(before), len(whole)))
        assert found == pytest.approx(expected, abs=1e-3)


def test_what_was_read_before_is_told_as_cached(server: str):
    backend = model(f"openai:tiny@{server}", key="x")
    long = Request((Message("user", "wheeze and cough " * 60),), max_tokens=2)
    backend.generate([long])
    [again] = backend.generate([long])
    assert isinstance(again, Reply)
    assert 0 < again.usage.cached_tokens < again.usage.input_tokens


def test_a_schema_is_kept_to(other: Any):
    if "schema" not in other.can:
        pytest.skip("declares that it takes no schema")
    if getattr(other, "api", "") == "responses":
        pytest.skip("vLLM's responses do not hold to text.format")
    replies = other.generate([Request((Message("user", f"case {i}"),), max_tokens=60, schema=SCHEMA) for i in range(4)])
    for reply in replies:
        assert isinstance(reply, Reply), reply
        assert set(json.loads(reply.text)) == {"n", "kind"}


def add(x: int, y: int) -> int:
    """Adds two numbers."""
    return x + y


def test_tool_results_are_taken(server: str):
    spec = ToolSpec(
        "add", "Adds.", {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    )
    for name in ("openai", "anthropic"):
        backend = model(f"{name}:tiny@{server}", key="x")

        async def agent() -> str:
            from promptlab.types import ToolCall

            wish = Message("assistant", "", (ToolCall("call_1", "add", {"x": 2, "y": 3}),))
            chat = [Message("user", "2 + 3?"), wish, *await call(wish.calls, [Tool(spec, add)])]
            return (await ask(chat, tools=[spec], max_tokens=8)).text

        assert isinstance(run(agent(), backend), str)
