"""`promptlab ask --strategy react --tool …`, in this process."""

from __future__ import annotations

import sys
import types

import pytest

from promptlab.cli import main

MINE = '''
from promptlab import Reply
from promptlab.testing import Script
from promptlab.types import ToolCall

number = 3


def lookup(name: str) -> int:
    """Looks it up."""
    return {"Lorn": 214}[name]


class Acting(Script):
    """A model that looks one thing up, in whichever form it is asked."""

    def __init__(self, name):
        texts = ["Thought: I look.\\nAction: lookup[Lorn]", "Thought: so.\\nAction: finish[214]"]
        calls = [Reply("I look.", (ToolCall("1", "lookup", {"name": "Lorn"}),)), Reply("214")]
        super().__init__(calls if name == "native" else texts)
        self.can = frozenset({"tools" if name == "native" else "stop"})
'''


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_tools.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_tools", raising=False)
    shipped = types.ModuleType("promptlab.tools")
    shipped.TOOLS = {}
    monkeypatch.setitem(sys.modules, "promptlab.tools", shipped)
    yield
    sys.modules.pop("my_tools", None)


def asked(capsys, *options: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["ask", "How many beds has Lorn?", *options])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


@pytest.mark.parametrize("form", ["native", "text"])
def test_an_agent_is_asked_with_a_tool_of_ones_own_and_what_it_did_is_shown(capsys, form):
    code, out, _ = asked(
        capsys, "--model", f"my_tools:Acting/{form}", "--strategy", "react", "--tool", "my_tools:lookup"
    )
    assert code == 0
    assert out.splitlines()[0] == "214"
    assert "I look." in out
    assert 'lookup({"name": "Lorn"})' in out or "Action: lookup[Lorn]" in out
    code, out, _ = asked(
        capsys, "--model", f"my_tools:Acting/{form}", "--strategy", "react", "--tool", "my_tools:lookup", "--quiet"
    )
    assert out == "214\n"


def test_two_tools_of_one_name_are_told_apart(capsys):
    twice = ["--tool", "my_tools:lookup"] * 2
    code, out, _ = asked(capsys, "--model", "my_tools:Acting/text", "--strategy", "react", *twice, "--quiet")
    assert (code, out) == (0, "214\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--strategy", "react", "--tool", "my_tools:nothing"], "There is no tool my_tools:nothing"),
        (["--strategy", "react", "--tool", "no_such_module:lookup"], "There is no tool no_such_module:lookup"),
        (["--strategy", "react", "--tool", "my_tools:number"], "a Tool or a typed function"),
        (["--tool", "my_tools:lookup"], "--tool is for strategies that act, such as react"),
    ],
)
def test_wrong_tools_are_wrong_use(capsys, options, told):
    code, out, err = asked(capsys, "--model", "my_tools:Acting/text", *options)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
