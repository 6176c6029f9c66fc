"""One checkpoint through every engine: the same words, the same log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from promptlab import Message, ModelError, Reply, Request, model
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError, Unsupported
from promptlab.testing import FakeServer
from promptlab.tiny.checkpoint import BUNDLED
from promptlab.tiny.data.families import word_problem

pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    backend = model("tiny")
    assert isinstance(backend, Tiny)
    return backend


@pytest.fixture(scope="module")
def hf() -> Any:
    return model(f"hf:{BUNDLED}", dtype="float32")


@pytest.fixture(scope="module", params=["hf", "openai chat", "openai responses", "openai completions", "anthropic"])
def other(request: pytest.FixtureRequest, tiny: Tiny) -> Iterator[Any]:
    """Another way to the same weights."""
    if request.param == "hf":
        yield request.getfixturevalue("hf")
        return
    provider, _, api = request.param.partition(" ")
    with FakeServer(tiny) as server:
        yield model(f"{provider}:tiny@{server.url}", key="x", **({"api": api} if api else {}))


def problem(i: int, **options: Any) -> Request:
    text = word_problem(Random(f"same/{i}"), 1 + i % 5)[0]
    return Request((Message("user", f"{text}\nLet's think step by step."),), **{"max_tokens": 64, **options})


def test_greedy_replies_are_the_same_words(tiny: Tiny, other: Any):
    problems = [problem(i) for i in range(20)]
    ours, theirs = tiny.generate(problems), other.generate(problems)
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]
    assert [reply.finish for reply in theirs] == [reply.finish for reply in ours]
    assert [reply.usage.output_tokens for reply in theirs] == [reply.usage.output_tokens for reply in ours]


def test_a_stop_string_ends_a_reply_at_the_same_place(tiny: Tiny, other: Any):
    problems = [problem(i, stop=("=", "The")) for i in range(6)]
    if "stop" not in other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    assert [r.text for r in other.generate(problems)] == [r.text for r in tiny.generate(problems)]


def test_the_log_probabilities_of_a_reply_are_the_same(tiny: Tiny, other: Any):
    problems = [problem(i, logprobs=True) for i in range(6)]
    if "logprobs" not in other.can:
        with pytest.raises(Unsupported):
            other.generate(problems)
        return
    for ours, theirs in zip(tiny.generate(problems), other.generate(problems), strict=True):
        assert [t.text for t in theirs.tokens] == [t.text for t in ours.tokens]
        assert [t.logprob for t in theirs.tokens] == pytest.approx([t.logprob for t in ours.tokens], abs=1e-4)


def test_samples_depend_on_seed_and_branch_not_on_the_batch(hf: Any):
    drawn = [problem(3, temperature=1.5, seed=1, branch=(i,)) for i in range(8)]
    together = [reply.text for reply in hf.generate(drawn)]
    assert [hf.generate([one])[0].text for one in drawn[::3]] == together[::3]
    assert len(set(together)) > 1
    assert hf.generate([problem(3, temperature=1.5, seed=2)])[0].text != together[0] or len(set(together)) == 8


def test_top_p_near_nothing_is_greedy(hf: Any):
    [greedy] = hf.generate([problem(4)])
    [nucleus] = hf.generate([problem(4, temperature=1.0, top_p=1e-6, seed=9)])
    assert nucleus.text == greedy.text


def test_given_texts_score_the_same(tiny: Tiny, hf: Any):
    asked = [
        Request((Message("user", f"symptom {i}: wheeze"),), continuations=("wheeze", "12 cough", "", "A", "é"))
        for i in range(4)
    ]
    for ours, theirs in zip(tiny.generate(asked), hf.generate(asked), strict=True):
        assert theirs.scores == pytest.approx(ours.scores, abs=1e-4)
        assert theirs.usage == ours.usage


def test_requests_of_every_kind_may_come_together(hf: Any, tiny: Tiny):
    mixed = [
        problem(0),
        Request((Message("user", "x"),), continuations=("a", "b")),
        Request((Message("user", "12 " * 3000),)),
        problem(1, max_tokens=0),
        problem(2, max_tokens=3),
    ]
    ours, theirs = tiny.generate(mixed), hf.generate(mixed)
    assert isinstance(theirs[2], ContextOverflow)
    assert [(r.text, r.finish, r.usage) for r in theirs if isinstance(r, Reply)] == [
        (r.text, r.finish, r.usage) for r in ours if isinstance(r, Reply)
    ]
    assert hf.generate([]) == []


def test_special_tokens_in_a_text_are_text(tiny: Tiny, hf: Any):
    for text in ("<eos>", "<user>x<assistant>y", "a<bos>"):
        assert hf.encode([Message("user", text)]) == tiny.tokenizer.chat([Message("user", text)])


def test_what_is_no_model_is_said_in_a_line(tmp_path: Any):
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


def test_what_is_exported_is_the_same_model_again(tmp_path: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
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
