"""Questions over a folder of documents, answered with citations that are checked.

    python tools/research_agent.py "How many beds has Lorun?" --folder tools/samples/districts
    python tools/research_agent.py "Which districts are short of nurses?" --folder handbook --model openai:NAME

The agent searches the folder (BM25), and the model cites passages as (source:line). A citation counts if there is such
a passage and the model was shown it. The bundled model does not read prose: for it the folder is one of fact sheets
(lines such as "beds: 214"), which it looks up by name and calculates with; the citations are what it looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import facts as known
import typer

import promptlab
from promptlab.cli import main as command
from promptlab.errors import PromptlabError
from promptlab.options import takes
from promptlab.prompt import Prompt
from promptlab.strategies import react
from promptlab.tools.calculator import calculator
from promptlab.tools.documents import Documents, Passage, searching
from promptlab.types import Answer

BRACKETS = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
CITATION = re.compile(r".*[^\W\d].*:\d+(?:\.\d+)?")  # source:line, and not a time of day
INSTRUCTION = (
    "Answer the question from the documents, which you search. After every statement cite the passage that says so, "
    "as (source:line), exactly as the search shows it. If the documents do not say it, say so."
)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def by_search(question: str, folder: Path, model: Any, max_steps: int) -> tuple[Answer, list[Passage], list[str]]:
    """The answer, the passages that it cites and the model was shown, and citations of none such."""
    documents = Documents(folder)
    answer = promptlab.run(
        react(question, [searching(documents)], Prompt(INSTRUCTION), max_steps, native=takes(model, "tools")), model
    )
    shown = "\n".join(message.content for message in answer.trace or () if message.role in ("tool", "user"))
    cited = list(dict.fromkeys(citations(answer.value or "", shown)))
    found = {each: documents.at(each) if f"({each})" in shown else None for each in cited}
    return answer, [passage for passage in found.values() if passage], [each for each in cited if not found[each]]


def citations(said: str, shown: str) -> Iterator[str]:
    """What stands in brackets as (source:line), one or several of them: (a.md:1; b.md:2)."""
    for inside in BRACKETS.findall(said):
        some = [inside] if f"({inside})" in shown else re.split(r"\s*[;,]\s*", inside)
        yield from (each for each in some if CITATION.fullmatch(each))


def by_lookup(question: str, folder: Path, model: Any, max_steps: int) -> tuple[Answer, list[Passage], list[str]]:
    """The same over fact sheets: what was looked up is what is cited."""
    facts = known.of_sheets(folder)
    answer = promptlab.run(
        react(question, [calculator, facts.lookup], max_steps=max_steps, native=takes(model, "tools"), max_tokens=48),
        model,
    )
    return answer, [Passage(f.source, f.line, f"{f.name}: {f.value}") for f in facts.used], []


@app.command(
    epilog='Example: `python tools/research_agent.py "How many beds has Lorun?" --folder tools/samples/districts`'
)
def research(
    question: str,
    folder: Annotated[Path, typer.Option(help="The documents: text, Markdown, CSV, JSONL.")],
    model: Annotated[str, typer.Option(help="tiny, openai:NAME, …: as for `promptlab ask`.")] = "tiny",
    facts: Annotated[
        bool | None,
        typer.Option(
            "--facts/--search", help="Look up fact sheets by name, or search prose; facts for the bundled model."
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="The most searches and thoughts.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Answer a question from a folder of documents, with citations that are checked to exist."""
    backend = promptlab.model(model)
    ask = by_lookup if (model.startswith("tiny") if facts is None else facts) else by_search
    answer, passages, unfounded = ask(question, folder, backend, max_steps)
    if as_json:
        cited = [{"source": p.source, "line": p.line, "text": p.text} for p in passages]
        told = {"answer": answer.value, "why": answer.why, "citations": cited, "unfounded": unfounded}
        print(json.dumps(told))
    elif answer.value is not None:
        print(answer.value)
        for passage in passages:
            print(f"  ({passage.citation}) {passage.text}")
    if answer.value is None:
        raise PromptlabError(f"No answer: {answer.why}.")
    if unfounded:
        raise PromptlabError(f"Not to be relied on: it cites what it was not shown: {', '.join(unfounded)}.")
    if not passages:
        raise PromptlabError("Not to be relied on: it cites nothing.")


def main(argv: Sequence[str] | None = None) -> None:
    command(argv, app, "research_agent.py")


if __name__ == "__main__":
    main()
