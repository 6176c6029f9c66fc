"""`import promptlab` is light and quiet, and its names are what they say."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import promptlab

HEAVY = {"torch", "sklearn", "matplotlib", "openai", "anthropic", "transformers", "jinja2", "typer"}
HEAVY |= {"aiohttp", "scipy", "rich", "tokenizers", "safetensors", "numpy", "pydantic"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)


def test_importing_promptlab_loads_nothing_heavy_and_says_nothing():
    done = python(f"import promptlab, sys\nassert not (found := {HEAVY} & set(sys.modules)), found")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ("promptlab.backends.script:Script", set()),
        ("openai:m", {"openai"}),
        ("anthropic:m", {"anthropic"}),
        ("hf-inference:m", {"openai"}),
        ("tiny", {"torch", "tokenizers", "safetensors", "numpy"}),
        ("hf:{weights}", {"torch", "transformers", "tokenizers", "safetensors", "numpy", "sklearn", "scipy", "jinja2"}),
    ],
)
def test_a_backend_loads_nothing_but_its_own_sdk_and_only_when_made(spec, allowed):
    """`transformers` itself loads scikit-learn where there is one."""
    weights = Path(promptlab.__file__).parent / "tiny" / "weights"
    options = ", key='x'" if spec in ("openai:m", "anthropic:m", "hf-inference:m") else ""
    code = f"""import sys
from promptlab import model
assert not (found := {HEAVY | {"httpx", "httpx2", "peft", "vllm"}} & set(sys.modules)), found
model({spec.format(weights=weights)!r}{options})
assert not (found := ({HEAVY | {"peft", "vllm"}} & set(sys.modules)) - {allowed | {"-"}}), found"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_the_modules_of_the_core_import_alone():
    for module in ("types", "errors", "program", "runners", "tool", "backends.script", "testing"):
        assert python(f"import promptlab.{module}").stderr == ""


@pytest.mark.parametrize("name", promptlab.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(promptlab, name))
    assert name in dir(promptlab)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'asks'"):
        promptlab.asks  # noqa: B018


@pytest.mark.parametrize(
    "first",
    [
        "import promptlab.compare.statistics",
        "from promptlab import compare; import promptlab.compare.statistics",
        "import promptlab.compare",
        "import promptlab.tool, promptlab.runners, promptlab.program",
    ],
)
def test_a_module_never_hides_the_function_of_the_same_name(first):
    code = f"{first}\nfrom promptlab import compare, tool\nassert callable(compare) and tool.__name__ == 'tool'"
    assert python(code).stderr == ""


def test_help_and_editors_are_told_how_a_study_and_an_optimiser_are_called():
    from promptlab.compare.runner import compare
    from promptlab.optimizers import OPTIMIZERS

    assert inspect.signature(promptlab.compare) == inspect.signature(compare)
    told = pydoc.plain(pydoc.render_doc(promptlab.compare))
    assert "compare(arms, task, ks=(0, 8, 32, 128), seeds=5, *, outside=()" in told
    assert "Give every arm the same `ks` labelled examples" in told
    assert {inspect.signature(each).return_annotation for each in OPTIMIZERS.values()} == {
        "Program[Tuned | TunedPrompts]"
    }
