"""Public-health notes against a folder of guidelines: a level for each, the guideline it goes by, a person's approval.

    python tools/triage_agent.py tools/samples/notes.csv --guidelines tools/samples/guidelines --out triage.jsonl
    python tools/triage_agent.py notes.csv --guidelines handbook --model openai:NAME --out triage.jsonl

A guideline is a Markdown file named after its level, with a line "action: …" and what belongs to it; examples.csv
beside them (note, level) holds notes that people judged. The model is shown the passages that fit a note best and
writes the level, the reason and the passage it goes by, as JSON that is checked. The bundled model, which reads no
prose, goes by the examples alone: its level is the likeliest label after them. Every level is approved, changed or
rejected on the terminal; --yes takes them as they are, and says so in each row.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer
from given import check_can_be_written, table_in, text_in
from pydantic import BaseModel, Field, create_model

import promptlab
from promptlab.cli import main as command
from promptlab.errors import DataError, ModelError
from promptlab.options import takes
from promptlab.program import Program, attempt
from promptlab.prompt import Prompt
from promptlab.strategies import structured
from promptlab.strategies.likelihood import likeliest_label
from promptlab.strategies.shots import balanced
from promptlab.tools.documents import Documents
from promptlab.types import Answer, Example

SHOTS = 24
PASSAGES = 6
INSTRUCTION = (
    "You triage notes for a public-health office. From the guidelines shown choose the level of the note, say in one "
    "sentence why, and name the passage you go by as it is shown: source:line."
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


class Guideline(NamedTuple):
    """A level: what to do, and where that is written."""

    level: str
    action: str
    citation: str


class Judged(BaseModel):
    """What a model says of a note. `share` is the level's probability among the levels, where it is known."""

    level: str
    reason: str = Field(max_length=500)
    guideline: str
    share: float | None = None


def guidelines_in(folder: Path) -> dict[str, Guideline]:
    """The guidelines by level. Raises DataError for a folder without any, or one without an action."""
    found = {}
    for file in sorted(folder.glob("*.md")):
        lines = text_in(file).split("\n")
        at = next((i for i, line in enumerate(lines, 1) if line.startswith("action:")), None)
        if at is None:
            raise DataError(f"{file} has no line that begins with “action:”.")
        action = lines[at - 1].removeprefix("action:").strip()
        found[file.stem] = Guideline(file.stem, action, f"{file.name}:{at}")
    if len(found) < 2:
        raise DataError(f"{folder} holds {len(found)} guidelines: there is one Markdown file a level, two at least.")
    return found


def rows_of(path: Path) -> list[dict[str, str | None]]:
    """The rows of a table with a column `note`. Raises DataError, for a row whose note is not whole too."""
    table = table_in(path)
    if "note" not in table.columns:
        raise DataError(f"{path} has no column “note”.")
    if wide := table.too_wide:
        raise DataError(f"{path} has too many cells in line {wide[0]}: put quotes around a note that holds commas.")
    if short := [i for i, row in enumerate(table.rows, 1) if row["note"] is None]:
        raise DataError(f"{path} has no note in row {short[0]}, which has fewer cells than there are columns.")
    return table.rows


async def by_guidelines(note: str, levels: dict[str, Guideline], documents: Documents, native: bool) -> Judged:
    """The level from the passages that fit the note best, and every level's action."""
    passages = [p for p in documents.search(note, PASSAGES) if p.source.endswith(".md")]
    shown = {p.citation: p.text for p in passages} | {g.citation: f"{g.level}: {g.action}" for g in levels.values()}
    guidelines = "\n".join(f"({citation}) {text}" for citation, text in shown.items())
    written: Any = create_model(
        "Triage",
        level=(Literal[tuple(levels)], ...),
        reason=(str, Field(max_length=500)),
        guideline=(Literal[tuple(shown)], ...),  # so that none is made up
    )
    prompt = Prompt(INSTRUCTION, written)
    said = (await structured({"guidelines": guidelines, "note": note}, prompt, native=native)).value
    return Judged(level=said.level, reason=said.reason, guideline=said.guideline)


async def by_examples(note: str, levels: dict[str, Guideline], shots: Sequence[Example]) -> Judged:
    """The likeliest level after the examples."""
    prompt = Prompt(output=Literal[tuple(levels)], shots=tuple(shots))
    answer: Answer = await likeliest_label(note, prompt)
    assert answer.scores is not None
    share = 1 / sum(math.exp(each - answer.scores[answer.value]) for each in answer.scores.values())
    reason = f"likeliest after {len(shots)} examples, {share:.0%} among the levels"
    return Judged(level=answer.value, reason=reason, guideline=levels[answer.value].citation, share=round(share, 4))


def approved(judged: Judged, levels: dict[str, Guideline], yes: bool) -> tuple[str | None, str]:
    """The level that stands (None: rejected), and by whom. Raises typer.Abort where the person stops."""
    if yes:
        return judged.level, "nobody (--yes)"
    names = "/".join(levels)
    named = {level.casefold(): level for level in levels}
    while True:
        said = typer.prompt(f"  enter: approve; {names}: change; r: reject; q: stop", default="", show_default=False)
        match said.strip().casefold():
            case "":
                return judged.level, "a person"
            case "r":
                return None, "a person"
            case "q":
                raise typer.Abort
            case name if name in named:
                return named[name], "a person"
        print(f"  {said!r} is none of these.")


@app.command(
    epilog="Example: `python tools/triage_agent.py tools/samples/notes.csv --guidelines tools/samples/guidelines --yes`"
)
def triage(
    notes: Annotated[Path, typer.Argument(help="A CSV with a column “note”.")],
    guidelines: Annotated[Path, typer.Option(help="The folder: a Markdown file a level, and examples.csv.")],
    out: Annotated[Path | None, typer.Option(help="Write the outcomes to this new file, a JSON object a line.")] = None,
    model: Annotated[str, typer.Option(help="tiny, openai:NAME, …: as for `promptlab ask`.")] = "tiny",
    examples: Annotated[
        bool | None,
        typer.Option("--examples/--prose", help="Go by examples.csv, or by the text; examples for the bundled model."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nobody: take every level as it is.")] = False,
    seed: Annotated[int, typer.Option(help="Of the choice of examples.")] = 0,
) -> None:
    """Triage notes by guidelines, with a person's approval."""
    if out is not None and out.is_file():
        raise DataError(f"{out} is there already, with what was decided before: give another --out, or move it away.")
    if out is not None:
        check_can_be_written(out, "--out")
    levels = guidelines_in(guidelines)
    texts = [str(row["note"]) for row in rows_of(notes)]
    backend = promptlab.model(model)
    programs: Iterator[Program[Judged]]
    if model.startswith("tiny") if examples is None else examples:
        shots = balanced(examples_in(guidelines / "examples.csv", levels), seed)("")[:SHOTS]
        programs = (by_examples(note, levels, shots) for note in texts)
    else:
        documents = Documents(guidelines)
        programs = (by_guidelines(note, levels, documents, takes(backend, "schema")) for note in texts)
    judged = promptlab.run([attempt(program) for program in programs], backend)
    failed = 0
    with (out or Path(os.devnull)).open("w", encoding="utf-8") as file:
        for note, found in zip(texts, judged, strict=True):
            row: dict[str, Any] = {"note": note}
            if isinstance(found, ModelError):
                failed += 1
                row |= {"level": None, "why": str(found)}
                print(f"{note}\n  no level: {found}")
            else:
                print(f"{note}\n  {found.level}: {levels[found.level].action} ({found.guideline}; {found.reason})")
                level, by = approved(found, levels, yes)
                row |= {"level": level, "proposed": found.level, "approved_by": by}
                row |= {"action": levels[level].action if level else None, **found.model_dump(exclude={"level"})}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()  # what a person decided is kept, whatever comes
    if failed:
        raise typer.Exit(1)


def examples_in(path: Path, levels: dict[str, Guideline]) -> list[Example]:
    """The notes that people judged. Raises DataError for a level without a guideline."""
    found = [Example(str(row["note"]), row.get("level")) for row in rows_of(path)]
    if strange := {each.target for each in found} - set(levels):
        raise DataError(f"{path} has levels without a guideline: {', '.join(sorted(map(str, strange)))}.")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    command(argv, app, "triage_agent.py")


if __name__ == "__main__":
    main()
