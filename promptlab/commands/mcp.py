"""`promptlab mcp …`: the tools, over the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from promptlab.commands.options import Quiet, Seed

app = typer.Typer(no_args_is_help=True, help="Tools over the Model Context Protocol.")


@app.callback()
def root() -> None:
    pass


@app.command(epilog="Example: `promptlab mcp serve calculator search:handbook`")
def serve(
    tools: Annotated[
        list[str],
        typer.Argument(help="calculator, python[:PACKAGES], search:FOLDER, sql:FILE, files:FOLDER, fetch:HOSTS"),
    ],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve by HTTP on this port of this machine, at /mcp.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Serve tools to any MCP client: on standard input and output, or by HTTP."""
    from promptlab.tools import tools_named
    from promptlab.tools.mcp import serve as serve_tools

    serve_tools(tools_named(tools), port)
