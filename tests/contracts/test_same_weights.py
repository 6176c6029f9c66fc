"""One checkpoint through every engine: the same words, the same log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from same_words import (  # noqa: F401  the tests are collected here
    problem,
    test_a_prompt_that_is_too_long_fails_in_its_place,
    test_a_stop_string_ends_a_reply_at_the_same_place,
    test_alone_as_in_company,
    test_chats_of_many_turns_are_read_alike,
    test_draws_differ_and_come_again_with_their_seed,
    test_greedy_replies_are_the_same_words,
    test_nothing_asked_is_nothing_answered_by_any,
    test_odd_texts_are_read_alike,
    test_programs_run_on_it_in_step_or_in_a_loop,
    test_replies_end_at_the_most_tokens,
    test_the_log_probabilities_of_a_reply_are_the_same,
    test_the_order_of_a_batch_is_kept,
    test_what_it_cannot_do_is_refused_at_once,
)

from promptlab import Message, ModelError, Reply, Request, model
from promptlab.backends.tiny import Tiny
from promptlab.errors import ContextOverflow, SetupError
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


@pytest.fixture(scope="module", params=["hf", "openai chat", "openai responses", "openai completions", "anthropic"])
def other(request: pytest.FixtureRequest, tiny: Tiny) -> Iterator[Any]:
    """Another way to the same weights."""
    if request.param == "hf":
        yield request.getfixturevalue("hf")
        return
    provider, _, api = request.param.partition(" ")
    with FakeServer(tiny) as server:
        yield model(f"{provider}:tiny@{server.url}", key="x", **({"api": api} if api else {}))


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
