"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from promptlab.compare.spending import Terms

ModelName = Annotated[str, typer.Option("--model", help="tiny, tiny:FOLDER or package.module:Class/name")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is random.")]
Format = Annotated[
    str, typer.Option(help="csv, tsv, json, jsonl, sections or label-first; read off the name if left out")
]

Queries = Annotated[
    float | None, typer.Option(min=0, help="How many queries a month there will be: then costs decide among equals.")
]
Months = Annotated[float, typer.Option(min=0.01, help="How many months it will be used; learning is paid for once.")]
UsdPerHour = Annotated[
    float | None, typer.Option(min=0, help="What an hour of the machine that learns and answers costs, in dollars.")
]
Watts = Annotated[float | None, typer.Option(min=0, help="What that machine draws while it does: gives joules.")]
UsdPerLabel = Annotated[float | None, typer.Option(min=0, help="What labelling an example costs, in dollars.")]


def terms_of(
    queries: float | None, months: float, usd_per_hour: float | None, watts: float | None, usd_per_label: float | None
) -> Terms | None:
    """What was said of the use; None where nothing was."""
    from promptlab.compare.spending import Terms

    given = Terms(queries, months, usd_per_hour, watts, usd_per_label)
    return None if given == Terms() else given
