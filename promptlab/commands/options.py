"""Options that several commands have."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptlab.errors import SetupError, reason

if TYPE_CHECKING:
    from promptlab.compare.spending import Terms

ModelName = Annotated[str, typer.Option("--model", help="tiny, tiny:FOLDER or package.module:Class/name")]


def hushed(quiet: bool) -> bool:
    """Hugging Face's libraries draw no progress bars then, in processes that are begun from here neither."""
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=hushed, help="Print results only.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is random.")]
Format = Annotated[
    str, typer.Option(help="csv, tsv, json, jsonl, sections or label-first; read off the name if left out")
]

# Of labelled data, and what of it is held back.
Text = Annotated[str, typer.Option("--text", help="The column to read; several as a+b.")]
Label = Annotated[str, typer.Option("--label", help="The column that holds the right answer.")]
Group = Annotated[
    str, typer.Option("--group", help="A column whose equal values must not be split: patient, abstract.")
]
Instruction = Annotated[str, typer.Option("--instruction", help="What prompts say of the task; @FILE reads a file.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Whether the first row names the columns.")]
TestFile = Annotated[Path | None, typer.Option("--test", help="A file of its own for the test; else a share is kept.")]
TestShare = Annotated[float, typer.Option("--test-share", min=0.01, max=0.9, help="The share kept for the test.")]

# Of a run in a folder.
Out = Annotated[Path | None, typer.Option("--out", help="The folder of the run.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on with the run in this folder.")]
LocalOnly = Annotated[bool, typer.Option("--local-only", help="Refuse models outside this machine.")]

# Of what its answers will be used for.
Queries = Annotated[
    float | None, typer.Option(min=0, help="How many queries a month there will be: then costs decide among equals.")
]
Months = Annotated[float, typer.Option(min=0.01, help="How many months it will be used; learning is paid for once.")]
UsdPerHour = Annotated[
    float | None, typer.Option(min=0, help="What an hour of the machine that learns and answers costs, in dollars.")
]
Watts = Annotated[float | None, typer.Option(min=0, help="What that machine draws while it does: gives joules.")]
UsdPerLabel = Annotated[float | None, typer.Option(min=0, help="What labelling an example costs, in dollars.")]


def positive(value: float | None) -> float | None:
    """A number above 0, if it was given."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not above 0.")
    return value


def said(text: str, option: str = "--instruction") -> str:
    """A text, or what the file named by @FILE says."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise SetupError(f"{option} {text}: {text[1:]} cannot be read ({reason(error)}).") from error


def typed(ctx: typer.Context, name: str) -> bool:
    """Whether an option was given, rather than left at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def terms_of(ctx: typer.Context, folder: Path) -> Terms | None:
    """What was typed of the use, and the rest as the run in the folder has it; None where nothing was typed."""
    from promptlab.compare.cells import read_json
    from promptlab.compare.spending import Terms

    given = {field.name: ctx.params[field.name] for field in fields(Terms) if typed(ctx, field.name)}
    there = folder / "run.json"
    return replace(Terms.of(read_json(there).get("terms") if there.exists() else None), **given) if given else None
