"""The command line: thin over the library. Exit codes: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from promptlab.errors import PromptlabError, SetupError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="For my task, should I prompt, reason, optimise the prompt, or fine-tune? Answered with evidence.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train the bundled model.")
app.add_typer(train_app, name="train")

ModelName = Annotated[str, typer.Option("--model", help="tiny, tiny:FOLDER or package.module:Class/name")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
Seed = Annotated[int, typer.Option("--seed", help="Of all that is random.")]
Format = Annotated[
    str, typer.Option(help="csv, tsv, json, jsonl, sections or label-first; read off the name if left out")
]


def numbers(text: str, option: str) -> list[int]:
    """ "0,8,32" as numbers."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SetupError(f"{option} takes numbers separated by commas, got {text!r}.") from error


@app.command(epilog="Example: `promptlab compare notes.csv --text note --label urgency --labels 0,8,32,128`")
def compare(
    file: Annotated[Path | None, typer.Argument(help="CSV, TSV, JSON, JSONL or label-first text.")] = None,
    text: Annotated[str, typer.Option(help="The column to read; several as a+b.")] = "text",
    label: Annotated[str, typer.Option(help="The column to predict.")] = "label",
    group: Annotated[str, typer.Option(help="A column whose equal values must not be split: patient, abstract.")] = "",
    test: Annotated[
        Path | None, typer.Option(help="A file of its own for the test; else a share is held back.")
    ] = None,
    test_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="The share held back.")] = 0.3,
    test_items: Annotated[int, typer.Option(min=0, help="Ask at most so many test items (0: all).")] = 0,
    format: Format = "",
    header: Annotated[bool, typer.Option(help="Whether the first row names the columns.")] = True,
    instruction: Annotated[str, typer.Option(help="What prompts say of the task.")] = "",
    model: ModelName = "tiny",
    arms: Annotated[str, typer.Option(help="Which arms, separated by commas; `promptlab models` lists them.")] = "",
    labels: Annotated[str, typer.Option(help="How many labelled examples each arm gets.")] = "0,8,32,128",
    seeds: Annotated[int, typer.Option(min=1, help="How many times the examples are drawn anew.")] = 3,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time (0: one a core).")] = 0,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse models outside this machine.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Prompt or fine-tune? Both on the same labelled examples, with intervals and one sentence of advice."""
    from promptlab.compare.study import Arguments, run_study

    if (file is None) == (resume is None):
        raise SetupError("Give either a file to study or --resume with the folder of a run.")
    if resume is not None:
        given = Arguments.of_run(resume)
    else:
        assert file is not None
        given = Arguments(
            file=str(file.resolve()),
            test=str(test.resolve()) if test else None,
            text=text,
            label=label,
            group=group or None,
            test_share=test_share,
            test_items=test_items,
            format=format or None,
            header=header,
            instruction=instruction,
            model=model,
            arms=[name.strip() for name in arms.split(",") if name.strip()],
            labels=numbers(labels, "--labels"),
            seeds=seeds,
            local_only=local_only,
            seed=seed,
        )
    folder = resume or out or Path("runs") / (file.stem if file else "run")
    run_study(given, folder, jobs=jobs, resume=resume is not None, quiet=quiet, command=command_line())


def command_line() -> str:
    """The command as typed, for the report."""
    import shlex

    return shlex.join(["promptlab", *sys.argv[1:]])


@app.command(
    epilog='Example: `promptlab ask "A jug holds 7 litres. Add 5. How many litres now?" --strategy chain-of-thought`'
)
def ask(
    question: str,
    model: ModelName = "tiny",
    strategy: Annotated[str, typer.Option(help="zero-shot, chain-of-thought or self-consistency")] = "zero-shot",
    n: Annotated[int, typer.Option(min=1, help="Paths to sample, where the strategy samples.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Ask one question with one strategy."""
    import promptlab
    from promptlab import strategies

    known: dict[str, Any] = {
        "zero-shot": strategies.zero_shot,
        "chain-of-thought": strategies.chain_of_thought,
        "self-consistency": strategies.self_consistency,
    }
    if strategy not in known:
        raise SetupError(f"Unknown strategy {strategy!r}. Known: {', '.join(known)}.")
    options = {"n": n} if strategy == "self-consistency" else {}
    answer = promptlab.run(known[strategy](question, seed=seed, **options), promptlab.model(model))
    if as_json:
        votes = None if answer.votes is None else dict(answer.votes)
        said = {"value": answer.value, "text": answer.text, "why": answer.why, "votes": votes, "margin": answer.margin}
        print(json.dumps(said, ensure_ascii=False))
        return
    print(answer.value if answer.value is not None else f"no answer: {answer.why}")
    if not quiet:
        if isinstance(answer.trace, str):
            print(f"  {answer.trace}")
        if answer.votes:
            print("  votes: " + ", ".join(f"{value} × {count}" for value, count in answer.votes.items()))


@app.command(epilog="Example: `promptlab lint notes.csv --text note --label urgency --test held_out.csv`")
def lint(
    file: Path,
    text: Annotated[str, typer.Option(help="The column to read.")] = "text",
    label: Annotated[str, typer.Option(help="The column to predict.")] = "label",
    group: Annotated[str, typer.Option(help="A column whose equal values belong together.")] = "",
    test: Annotated[Path | None, typer.Option(help="The test's own file.")] = None,
    format: Format = "",
    header: Annotated[bool, typer.Option(help="Whether the first row names the columns.")] = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """What is wrong with a data set: duplicates, leaks, label variants, tiny classes."""
    from promptlab.compare.lint import lint as find
    from promptlab.compare.study import read_examples

    train, warnings, _ = read_examples(file, text, label, group or None, format or None, header)
    held_back = read_examples(test, text, label, group or None, format or None, header, for_test=True) if test else None
    for line in [*warnings, *(held_back[1] if held_back else [])]:
        print(line)
    for finding in find(train, held_back[0] if held_back else None):
        print(f"{finding.kind}: {finding.message}")
    if not quiet:
        print(f"{len(train)} examples read.")


@app.command(epilog="Example: `promptlab report runs/notes --open`")
def report(
    folder: Path,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a finished run's results.json and report.html again from its rows."""
    from promptlab.compare.report import write_report
    from promptlab.compare.results import summarise

    if not (folder / "rows.jsonl").exists():
        raise SetupError(
            f"{folder} holds no finished run (no rows.jsonl). Finish it with: promptlab compare --resume {folder}"
        )
    summarise(folder)
    page = write_report(folder)
    print(page)
    if open_it:
        typer.launch(str(page))


@app.command(epilog="Example: `promptlab models`")
def models(seed: Seed = 0, quiet: Quiet = False) -> None:
    """The backends and the arms there are."""
    from promptlab.backends import BACKENDS
    from promptlab.learners import ARMS, DEFAULT_ARMS

    print("models: " + ", ".join([*BACKENDS, "package.module:Class/name"]))
    print("arms:   " + ", ".join(f"{name}{'*' if name in DEFAULT_ARMS else ''}" for name in ARMS) + "   (* by default)")


@train_app.command(epilog="Example: `promptlab train pretrain runs/nano --steps 3000 --threads 2`")
def pretrain(
    run: Annotated[Path, typer.Argument(help="The run's folder; an earlier run there is resumed.")],
    steps: Annotated[int, typer.Option(min=1, help="Of 8,192 tokens each.")] = 3000,
    long_from: Annotated[int, typer.Option(help="First step with rows as long as the context.")] = 2000,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 2e-3,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 2,
    fp32: Annotated[bool, typer.Option("--fp32", help="For processors without bf16 arithmetic.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Pretrain the bundled model from nothing on the synthetic mixture."""
    from promptlab.tiny.pretrain import pretrain as train

    train(run, steps=steps, long_from=long_from, seed=seed, lr=lr, threads=threads, bf16=not fp32, quiet=quiet)


def main() -> None:
    """Run the command line; errors that promptlab raises on purpose are one line."""
    try:
        app()
    except SetupError as error:
        fail(str(error), 2)
    except PromptlabError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("Stopped. What was answered is kept.", 1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fail(f"The disk is full ({error.filename or 'no space left'}). What was answered is kept: free some space.", 1)


def fail(message: str, code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)
