"""Backends by name."""

from __future__ import annotations

import json
import sys

import pytest

from promptlab import Example, Reply, Task, ask, compare, in_context, model, replay, run
from promptlab.backends.tiny import Tiny
from promptlab.cli import main
from promptlab.errors import ReplayMiss, SetupError, Unsupported
from promptlab.strategies import self_consistency
from promptlab.testing import FakeServer, no_network


def test_a_checkpoint_is_named_by_its_folder(random_folder):
    found = model(f"tiny:{random_folder}", seed=3)
    assert isinstance(found, Tiny)
    assert (found.seed, found.local) == (3, True)


def test_a_backend_of_ones_own_is_named_by_module_and_class(tmp_path):
    calls = tmp_path / "calls"
    found = model(f"studies:Asked/{calls}", batched=True)
    run(ask("hello"), found)
    assert (type(found).__name__, len(calls.read_text().split())) == ("Asked", 1)
    assert model("promptlab.backends.script:Script").local


@pytest.mark.parametrize(("how", "said"), [("warn", "2 mg or 3"), ("emulate", "2 mg")])
@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_run_without_what_the_model_cannot_do_is_replayed_from_its_file(tmp_path, how, said):
    file, options = tmp_path / "answers.db", {"stop": (" or",)}
    with FakeServer(lambda request: "2 mg or 3") as server:
        for _ in range(2):  # the second time from the file
            backend = model(f"openai:m@{server.url}", api="responses", cache=file, on_unsupported=how)
            assert run(ask("how much?", **options), backend).text == said
        assert len(server.received) == 1
    assert replay(ask("how much?", **options), file).text == said
    assert replay(ask("how much?"), file).text == "2 mg or 3"
    with pytest.raises(ReplayMiss):
        replay(ask("how much?", top_p=0.5), file)


OURS = '''
from promptlab import ModelError, Reply


class Loud:
    """Answers in capitals; what it says of itself is all that promptlab knows of it."""

    batched = True
    can = frozenset({"stop"})

    def __init__(self, mark):
        self.mark = mark

    def generate(self, requests):
        return [Reply(r.messages[-1].content.upper() + self.mark) if r.messages[-1].content else ModelError("nothing")
                for r in requests]
'''


def test_a_backend_in_another_package_needs_no_change_here(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("")
    (tmp_path / "theirs" / "models.py").write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    loud = model("theirs.models:Loud/!")
    assert run(ask("hello"), loud).text == "HELLO!"
    assert run([ask("a"), ask(""), ask("b")], loud)[::2] == [Reply("A!"), Reply("B!")]
    with pytest.raises(Unsupported, match="a seed"):
        run(ask("hello", seed=1), loud)
    emulated = model("theirs.models:Loud/!", on_unsupported="emulate")
    assert run(ask("hello", schema={"type": "object"}), emulated).text.startswith("HELLO")
    task = Task.classification("t", [Example("a", "A!"), Example("b", "B!")], [Example("a", "A!", "1")])
    arms = {"theirs": in_context(loud)}
    compare(arms, task, ks=[0], seeds=1, out=tmp_path / "run", jobs=1)
    assert (tmp_path / "run" / "report.html").exists()
    with pytest.raises(SystemExit) as ended:
        main(["ask", "hello", "--model", "theirs.models:Loud/?"])
    assert (ended.value.code, capsys.readouterr().out.strip()) == (0, "HELLO?")
    with pytest.raises(SystemExit) as ended:
        main(["ask", "hello", "--model", "theirs.models:Loud/?", "--seed", "3"])
    assert (ended.value.code, "cannot take a seed" in capsys.readouterr().err) == (2, True)
    vote = in_context(loud, strategy=self_consistency)
    compare({"vote": vote}, task, ks=[0], seeds=1, out=tmp_path / "votes", jobs=1)
    rows = [json.loads(line) for line in (tmp_path / "votes" / "rows.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows] == [None]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tinny", 'Unknown model "tinny". Did you mean "tiny"?'),
        ("tinny:folder", 'Unknown model "tinny:folder". Did you mean "tiny"?'),
        ("", "Known: tiny, openai, anthropic, hf, hf-nli, hf-mask, hf-inference, vllm, package.module:Class/name"),
        ("tiny:/no/such/folder", "is not a checkpoint"),
        (None, 'model takes a name such as "tiny", got None.'),
        ("studies:Nothing", "studies has no Nothing"),
        ("no_such_package.module:Thing", "the module no_such_package is not installed"),
        ("studies:Slow", "cannot be made: missing a required argument: 'calls'"),
        ("pathlib:PurePath/x", "a PurePosixPath, not a backend: it needs `generate` and `batched`"),
    ],
)
def test_what_is_no_model_says_what_to_write(spec, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError) as caught:
        model(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize("spec", ["openai:m@http://localhost:9", "tiny"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"offline": True}, "give cache="),
        ({"cache": 5}, "cache is the name of a file, got 5"),
        ({"cache": True}, "got True"),
        ({"cache": ""}, "got ''"),
        ({"budget": 5}, r"budget is a Budget\(.*got 5"),
        ({"attempts": "x"}, "whole number, at least 1, got 'x'"),
        ({"attempts": 0}, "at least 1, got 0"),
        ({"attempts": -1}, "at least 1, got -1"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_kept_to_is_refused(spec, option, said, random_folder):
    with pytest.raises(SetupError, match=said):
        model(spec.replace("tiny", f"tiny:{random_folder}"), **option)


def test_offline_needs_neither_a_key_nor_a_socket(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FakeServer(["red"]) as server:
        run(ask("q"), model(f"openai:m@{server.url}", cache=tmp_path / "a.db"))
        url = server.url
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with no_network():
        assert run(ask("q"), model(f"openai:m@{url}", cache=tmp_path / "a.db", offline=True)).text == "red"
        for spec in (f"openai:m@{url}", "openai:other", "anthropic:other"):
            offline = model(spec, cache=tmp_path / "a.db", offline=True)
            with pytest.raises(ReplayMiss):
                run(ask("another"), offline)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def Mine(path):\n    return {}[path]\n", "cannot be made: KeyError: 'abc' (mine.py, line 2)."),
        ("class Mine\n", "SyntaxError: expected ':' (mine.py, line 1)."),
        ("import os\n1 / 0\n", "ZeroDivisionError: division by zero (mine.py, line 2)."),
        ("import os\nos.nothing\n", "AttributeError: module 'os' has no attribute 'nothing' (mine.py, line 2)."),
    ],
)
def test_a_module_of_ones_own_that_breaks_says_where(source, said, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SetupError) as caught:
        model("mine:Mine/abc")
    assert said in str(caught.value)
    sys.modules.pop("mine", None)
