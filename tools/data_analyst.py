"""Questions over a CSV, answered by SQL and Python, with a plot if wanted.

    python tools/data_analyst.py tools/samples/districts.csv "How many beds has Lorun?" --plot beds.png
    python tools/data_analyst.py cases.csv "How did cases grow from week to week?" --model openai:NAME --plot weeks.png

The model writes SELECTs (DuckDB, read only, this file only), Python (in the sandbox, without the file) and asks for a
plot of a SELECT. The bundled model, which writes no SQL, looks up cells by name ("Lorun beds") and calculates; its plot
is of the numbers in the column that it looked at last.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import facts as known
import typer
from given import check_can_be_written

import promptlab
from promptlab.cli import main as command
from promptlab.equality import number_of
from promptlab.errors import PromptlabError, SetupError, WrongCall
from promptlab.options import takes
from promptlab.prompt import Prompt
from promptlab.strategies import react
from promptlab.tool import Tool, tool
from promptlab.tools.calculator import calculator
from promptlab.tools.python import python
from promptlab.tools.sql import Tables, querying
from promptlab.types import Answer

MOST_POINTS = 500
INSTRUCTION = (
    "Answer the question about the data, which you query in SQL. Calculate in SQL or Python, not in your head. "
    "Answer in a sentence or two with the figures."
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def by_queries(question: str, file: Path, plot: Path | None, model: Any, max_steps: int) -> tuple[Answer, bool]:
    tables = Tables([file])
    tools, plotted = [querying(tables)], [""][:0]
    try:
        tools.append(python())
    except SetupError as error:  # SQL can do without
        print(f"Without Python: {error}", file=sys.stderr)
    if plot is not None:
        tools.append(plotting(tables, plot, plotted))
    wanted = INSTRUCTION + (" Make the plot that shows the answer." if plot is not None else "")
    program = react(question, tools, Prompt(wanted), max_steps, native=takes(model, "tools"))
    return promptlab.run(program, model), bool(plotted)


def by_lookup(question: str, file: Path, plot: Path | None, model: Any, max_steps: int) -> tuple[Answer, bool]:
    facts = known.of_table(file)
    answer = promptlab.run(
        react(question, [calculator, facts.lookup], max_steps=max_steps, native=takes(model, "tools"), max_tokens=48),
        model,
    )
    if plot is None or not facts.used:
        return answer, False
    column = facts.used[-1].what
    cells = [(cell.of, number_of(cell.value)) for cell in facts.by_name.values() if cell.what == column]
    points = [(of, float(number)) for of, number in cells if number is not None]
    if points:
        draw(plot, "bar", [of for of, _ in points], [number for _, number in points], column)
    return answer, bool(points)


def plotting(tables: Tables, to: Path, plotted: list[str]) -> Tool:
    """A tool that draws what a SELECT yields, and notes the titles."""

    def plot(query: str, kind: Literal["bar", "line"], title: str) -> str:
        """Plots a SELECT of two columns: the first along the bottom, the second, numbers, upwards.

        Args:
            query: the SELECT
            kind: bar for categories, line for what goes on
            title: what the plot shows
        """
        columns, rows = tables.query(query, MOST_POINTS)
        if (
            len(columns) != 2
            or not rows
            or not all(isinstance(y, int | float) or hasattr(y, "as_tuple") for _, y in rows)
        ):
            raise WrongCall("a plot is of two columns, the second of numbers, and at least one row")
        draw(to, kind, [str(x) for x, _ in rows], [float(y) for _, y in rows], title)
        plotted.append(title)
        return f"Plotted {len(rows)} points."

    return tool(plot)


def draw(to: Path, kind: str, xs: Sequence[str], ys: Sequence[float], title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    (axes.bar if kind == "bar" else axes.plot)(list(xs), list(ys))
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=45 if len(xs) > 6 else 0)
    figure.savefig(to)


@app.command(
    epilog='Example: `python tools/data_analyst.py tools/samples/districts.csv "How many beds has Lorun?" --plot x.png`'
)
def analyse(
    file: Annotated[Path, typer.Argument(help="A CSV; for a model that writes SQL Parquet or JSONL too.")],
    question: str,
    plot: Annotated[Path | None, typer.Option(help="Where a plot goes: .png, .svg or .pdf.")] = None,
    model: Annotated[str, typer.Option(help="tiny, openai:NAME, …: as for `promptlab ask`.")] = "tiny",
    cells: Annotated[
        bool | None,
        typer.Option("--cells/--sql", help="Look up cells by name, or query; cells for the bundled model."),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="The most queries and thoughts.")] = 10,
) -> None:
    """Answer a question about a table."""
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"--plot ends in .png, .svg or .pdf, got {plot}")
    if plot is not None:
        check_can_be_written(plot, "--plot")
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {file}")
    backend = promptlab.model(model)
    ask = by_lookup if (model.startswith("tiny") if cells is None else cells) else by_queries
    answer, plotted = ask(question, file, plot, backend, max_steps)
    if answer.value is None:
        raise PromptlabError(f"No answer: {answer.why}.")
    print(answer.value)
    if plot is not None:
        print(f"  plot: {plot}" if plotted else "  no plot was made")


def main(argv: Sequence[str] | None = None) -> None:
    command(argv, app, "data_analyst.py")


if __name__ == "__main__":
    main()
