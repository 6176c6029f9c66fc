"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

ModelName = Annotated[str, typer.Option("--model", help="tiny, tiny:FOLDER or package.module:Class/name")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is random.")]
Format = Annotated[
    str, typer.Option(help="csv, tsv, json, jsonl, sections or label-first; read off the name if left out")
]
