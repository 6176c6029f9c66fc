"""The Model Context Protocol, both ways: any server's tools as promptlab's, and promptlab's tools as a server.

By the reference package `mcp` (2.x), whose sessions live in one event loop: here a loop in a thread of its own, so that
the tools are plain functions under every runner.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from promptlab.errors import SetupError, WrongCall
from promptlab.runners.acting import act_async
from promptlab.tool import Tool, as_tools, bound, observing
from promptlab.types import Message, ToolCall, ToolSpec

if TYPE_CHECKING:
    from mcp import Client
    from mcp.server import Server

LATE_S = 5.0  # that a call's end by its own time limit may take
WRONG = "Error: "  # begins what `observing` tells of a call that failed
MISSING = "MCP is spoken by the package mcp: pip install 'promptlab[mcp]'"


class Connection(NamedTuple):
    """A session, and the loop that it lives in."""

    client: Client
    tools: list[Any]
    loop: asyncio.AbstractEventLoop


@contextmanager
def mcp_tools(server: Any, start_s: float = 60.0, call_s: float = 120.0) -> Iterator[list[Tool]]:
    """The tools of an MCP server, for as long as the block lasts.

    `server` is its address ("http://localhost:8000/mcp"), the command that starts it (["python", "server.py"]; it is
    given no environment but the harmless part of this one), or whatever else `mcp.Client` takes. A call that fails or
    takes longer than `call_s` is an observation. Raises SetupError for a server that is not there within `start_s`,
    which is ended then.
    """
    started: Future[Connection] = Future()
    over: Future[None] = Future()
    thread = threading.Thread(target=_hold, args=(server, started, over), daemon=True, name="mcp")
    thread.start()
    try:
        connection = _connected(server, started, start_s)
        yield [_as_tool(each, connection, call_s) for each in connection.tools]
    finally:
        over.set_result(None)
        thread.join(start_s)


def _connected(server: Any, started: Future[Connection], start_s: float) -> Connection:
    try:
        return started.result(start_s)
    except SetupError:
        raise
    except TimeoutError:
        raise SetupError(f"The MCP server {server!r} was not ready in {start_s:g} s.") from None
    except Exception as error:  # the server is somebody else's, and whatever went wrong with it is the reason
        raise SetupError(f"The MCP server {server!r} cannot be used: {_innermost(error)}") from None


def _hold(server: Any, started: Future[Connection], over: Future[None]) -> None:
    try:
        asyncio.run(_session(server, started, over))
    except BaseException as error:  # of another thread's: told to the one that waits
        if not started.done():
            started.set_exception(error)


async def _session(server: Any, started: Future[Connection], over: Future[None]) -> None:
    """Lasts until it is `over`, and is then cancelled: that ends a server too that does not even answer."""
    loop, session = asyncio.get_running_loop(), asyncio.current_task()
    assert session is not None

    def end(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended by itself
            loop.call_soon_threadsafe(session.cancel)

    over.add_done_callback(end)
    try:
        from mcp import Client, StdioServerParameters
    except ImportError:
        raise SetupError(MISSING) from None
    if isinstance(server, list | tuple):
        server = StdioServerParameters(command=server[0], args=list(server[1:]))
    async with Client(server) as client:
        listed = await client.list_tools()
        tools = list(listed.tools)
        while listed.next_cursor:
            listed = await client.list_tools(cursor=listed.next_cursor)
            tools += listed.tools
        started.set_result(Connection(client, tools, loop))
        await asyncio.Event().wait()


def _as_tool(theirs: Any, connection: Connection, call_s: float) -> Tool:
    def function(**arguments: Any) -> str:
        asked = connection.client.call_tool(theirs.name, arguments, read_timeout_seconds=call_s)
        answer = asyncio.run_coroutine_threadsafe(asked, connection.loop)
        try:
            result = answer.result(call_s + LATE_S)
        finally:
            answer.cancel()  # nobody waits for it any more, if it is not there
        text = "\n".join(_told(part) for part in result.content)
        if result.is_error:
            raise WrongCall(text or f"{theirs.name} failed and did not say why")
        return text or "Done; no output."

    return Tool(ToolSpec(theirs.name, theirs.description or theirs.name, theirs.input_schema), function)


def _told(part: Any) -> str:
    """A part of a result as text, which an embedded resource may be; of what is none, its kind, type and address."""
    held = getattr(part, "resource", part)
    if (text := getattr(held, "text", None)) is not None:
        return str(text)
    about = (part.type, getattr(held, "mime_type", None), getattr(held, "uri", None))
    return f"[{' '.join(str(each) for each in about if each)}]"


def _innermost(error: BaseException) -> str:
    """The reason in a group of exceptions of one."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def server_of(tools: Sequence[Tool | Callable[..., Any]], name: str = "promptlab") -> Server:
    """An MCP server of these tools, as the package has it.

    Raises SetupError without the package, and for two tools of one name.
    """
    try:
        from mcp import types
        from mcp.server import Server
    except ImportError:
        raise SetupError(MISSING) from None
    made = as_tools(tools)

    async def listed(_: Any, __: Any) -> types.ListToolsResult:
        specs = [each.spec for each in made]
        return types.ListToolsResult(
            tools=[types.Tool(name=s.name, description=s.description, input_schema=dict(s.parameters)) for s in specs]
        )

    async def called(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        text = await _observed(ToolCall("1", asked.name, asked.arguments or {}), made)
        told = types.TextContent(type="text", text=text.removeprefix(WRONG))
        return types.CallToolResult(content=[told], is_error=text.startswith(WRONG))

    return Server(name, version=version("promptlab"), on_list_tools=listed, on_call_tool=called)


async def _observed(call: ToolCall, tools: tuple[Tool, ...]) -> str:
    messages: list[Message] = []
    with observing(call, messages) as tell:
        tell(await act_async(bound(call, tools)))
    return messages[0].content


def serve(tools: Sequence[Tool | Callable[..., Any]], port: int | None = None) -> None:
    """Serves tools over MCP until the client leaves: on standard input and output, or by HTTP on a port here."""
    server = server_of(tools)
    if port is None:
        asyncio.run(_serve_on_stdio(server))
        return
    import uvicorn

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")


async def _serve_on_stdio(server: Server) -> None:
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())
