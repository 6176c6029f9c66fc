"""Backends by name."""

from __future__ import annotations

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
        ("", "Known: tiny, package.module:Class/name"),
        ("tiny:/no/such/folder", "is not a checkpoint"),
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
