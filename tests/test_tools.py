"""The table of tools: every row is a tool that can be called, and says what is wrong with it."""

from __future__ import annotations

import pytest

from promptlab import Reply, run
from promptlab.errors import SetupError
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools import TOOLS, described, tools_named
from promptlab.types import ToolCall

OF = {"search": "", "files": "", "sql": "/data.csv"}


def made(name, tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    row = TOOLS[name]
    given = "example.org" if name == "fetch" else f"{tmp_path}{OF[name]}" if row.needs else ""
    try:
        return tools_named([f"{name}:{given}" if given else name])
    except SetupError as error:
        if name == "python" or "pip install" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", TOOLS)
def test_a_row_of_the_table_is_tools_with_descriptions(name, tmp_path):
    for tool in made(name, tmp_path):
        assert tool.spec.name.isidentifier()
        assert tool.spec.description.endswith((".", ")", "VARCHAR", "BIGINT)."))
        for parameter in tool.spec.parameters.get("properties", {}).values():
            assert parameter["description"]


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_is_made_of_is_checked(name):
    wrong = f"{name}:x" if TOOLS[name].made_of is None else name if TOOLS[name].needs else f"{name}:no_such_package"
    with pytest.raises(SetupError, match=r"is named as|not installed|There is no way|in a sandbox|isolated by"):
        tools_named([wrong])


def test_an_unknown_tool_is_told_with_those_there_are():
    with pytest.raises(
        SetupError, match=r"There is no tool 'x'. Known: calculator, python\[:PACKAGE,PACKAGE\], search:F"
    ):
        tools_named(["x"])
    assert described("calculator") == "calculator"


def test_tools_of_two_folders_are_both_reached_and_told_apart(tmp_path):
    for name, text in (("a", "Fever in Lorn."), ("b", "Fever in Vask.")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.txt").write_text(text)
    specs = [f"search:{tmp_path}/a", f"search:{tmp_path}/b", "calculator"]
    tools = tools_named(specs)
    assert [tool.spec.name for tool in tools] == ["search", "search_2", "calculator"]
    assert [tool.spec.description.endswith(f" ({spec})") for tool, spec in zip(tools, specs, strict=True)] == [
        True, True, False,
    ]  # fmt: skip
    calls = tuple(ToolCall(name, name, {"query": "fever"}) for name in ("search", "search_2"))
    answer = run(react("Where?", tools), Script([Reply(calls=calls), "Lorn and Vask"]))
    told = [message.content for message in answer.trace if message.role == "tool"]
    assert told == ["(log.txt:1) Fever in Lorn.", "(log.txt:1) Fever in Vask."]
    files = tools_named([f"files:{tmp_path}/{name}" for name in "abb"])
    assert [tool.spec.name for tool in files[::2]] == ["list_files", "list_files_2", "list_files_3"]
