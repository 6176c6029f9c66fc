"""Backends by name."""

from __future__ import annotations

import sys

import pytest

from promptlab import model, run
from promptlab.backends.tiny import Tiny
from promptlab.errors import SetupError
from promptlab.program import ask


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


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tinny", 'Unknown model "tinny". Did you mean "tiny"?'),
        ("tinny:folder", 'Unknown model "tinny:folder". Did you mean "tiny"?'),
        ("", "Known: tiny, openai, anthropic, hf, hf-inference, vllm, package.module:Class/name"),
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
