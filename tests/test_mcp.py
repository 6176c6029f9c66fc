"""The Model Context Protocol with the real package, both ways."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from promptlab import Reply, run
from promptlab.errors import SetupError, WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.calculator import calculator
from promptlab.tools.mcp import mcp_tools, server_of
from promptlab.types import ToolCall

pytest.importorskip("mcp")

PATIENCE_S = 300.0  # the package alone takes seconds to import, where machines are busy a minute

SERVER = '''
import os
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import BlobResourceContents, EmbeddedResource, ResourceLink, TextResourceContents

server = MCPServer("places")

@server.tool()
def beds(place: str, more: int = 0) -> int:
    """How many beds a place has."""
    if place != "Lorn":
        raise ToolError(f"no such place: {place}")
    return 214 + more

@server.tool()
def environment() -> list[str]:
    """The names in its environment."""
    return sorted(os.environ)

@server.tool(structured_output=False)
def sheet() -> list:
    """A sheet, its picture, and where there is more."""
    text = TextResourceContents(uri="file:///sheet.md", mime_type="text/markdown", text="beds: 214")
    picture = BlobResourceContents(uri="file:///map.png", mime_type="image/png", blob="aGk=")
    more = ResourceLink(type="resource_link", name="more", uri="file:///more.md")
    return [*(EmbeddedResource(type="resource", resource=each) for each in (text, picture)), more]

@server.tool()
def leave() -> str:
    """Ends the server."""
    os._exit(3)

server.run()
'''


@pytest.fixture
def places(tmp_path) -> list[str]:
    """The command of a server written with the reference package."""
    path = tmp_path / "places.py"
    path.write_text(SERVER)
    return [sys.executable, str(path)]


def test_the_tools_of_a_server_are_tools(places, monkeypatch):
    """One session for all: starting a server takes seconds."""
    monkeypatch.setenv("OPENAI_API_KEY", "a secret")
    with mcp_tools(places, PATIENCE_S) as tools:
        beds, environment, sheet, leave = tools
        assert beds.spec.description == "How many beds a place has."
        assert beds.spec.parameters["required"] == ["place"]
        assert beds(place="Lorn", more=1) == "215"
        assert "OPENAI_API_KEY" not in environment()
        told = sheet().splitlines()
        assert told == ["beds: 214", "[resource image/png file:///map.png]", "[resource_link file:///more.md]"]

        model = Script([Reply(calls=(ToolCall("1", "beds", {"place": "Vask"}),)), Reply(text="done")])
        answer = run(react("q", tools), model)
        [told] = [message.content for message in answer.trace if message.role == "tool"]
        assert told.startswith("Error: ")
        assert told.endswith("no such place: Vask")
        model = Script(["Thought: hm.\nAction: leave[]", "Thought: so.\nAction: finish[it has gone]"])
        answer = run(react("q", [leave], native=False), model)
        assert answer.value == "it has gone"
        assert "Observation: Error: " in answer.trace[3].content


def test_our_tools_are_served_on_standard_input_and_output(tmp_path):
    (tmp_path / "notes.txt").write_text("The well of Lorn is dry.")
    command = [sys.executable, "-m", "promptlab", "mcp", "serve", "calculator", f"search:{tmp_path}"]
    with mcp_tools(command, PATIENCE_S) as (calculating, searching):
        assert calculating.spec.parameters["properties"]["expression"]["type"] == "string"
        assert calculating(expression="37 * 84") == "3108"
        assert searching(query="wells") == "(notes.txt:1) The well of Lorn is dry."
        with pytest.raises(WrongCall, match=r"^'1 / 0' divides by zero$"):
            calculating(expression="1 / 0")
        with pytest.raises(WrongCall, match="wrong arguments for calculator: expression"):
            calculating()


def test_our_tools_in_the_same_process():
    async def later(word: str) -> str:
        """A word in capitals."""
        return word.upper()

    with mcp_tools(server_of([calculator, later])) as tools:
        assert [tool.spec.name for tool in tools] == ["calculator", "later"]
        assert tools[1](word="x") == "X"


def test_a_call_that_does_not_end_by_itself_is_cancelled(monkeypatch):
    monkeypatch.setattr("promptlab.tools.mcp.LATE_S", 0.1)
    cancelled = threading.Event()

    async def never(self, *_, **__):
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    monkeypatch.setattr("mcp.Client.call_tool", never)
    with mcp_tools(server_of([calculator]), call_s=0) as [tool]:
        with pytest.raises(TimeoutError):
            tool(expression="1")
        assert cancelled.wait(10)


def test_our_tools_by_http():
    """A port that is free is taken by the system."""
    uvicorn = pytest.importorskip("uvicorn")
    import socket
    import threading
    import time

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(server_of([calculator]).streamable_http_app(), log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.05)
        with mcp_tools(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp") as [tool]:
            assert tool(expression="6 * 7") == "42"
        server.should_exit = True
        thread.join()


def test_a_server_that_does_not_start_is_wrong_set_up(tmp_path):
    with pytest.raises(SetupError, match="cannot be used"), mcp_tools([str(tmp_path / "none")]):
        pass


def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path):
    """It, and the thread that waits for it, would else be there as long as this process."""
    started = tmp_path / "started"
    program = f"import os, pathlib, time; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(900)"
    with pytest.raises(SetupError, match="was not ready in 5 s"), mcp_tools([sys.executable, "-c", program], 5.0):
        pass
    until = time.monotonic() + PATIENCE_S
    while (waits := [each for each in threading.enumerate() if each.name == "mcp"]) and time.monotonic() < until:
        waits[0].join(1)
    assert not waits
    if started.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(started.read_text()), 0)


def test_two_tools_of_one_name_are_not_served():
    with pytest.raises(SetupError, match="Several tools are named calculator"):
        server_of([calculator, calculator])


def test_serving_what_is_no_tool_is_wrong_use():
    command = [sys.executable, "-m", "promptlab", "mcp", "serve", "calclator"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert done.stderr.startswith("There is no tool 'calclator'. Known: calculator, python[:PACKAGE")
    assert done.stdout == ""
