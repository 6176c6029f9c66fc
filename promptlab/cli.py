"""The command line: thin over the library. Exit codes: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from promptlab.commands.mcp import app as mcp_app
from promptlab.commands.optimizing import add_to as add_optimizing
from promptlab.commands.options import (
    Format,
    Group,
    Header,
    Instruction,
    Label,
    LocalOnly,
    ModelName,
    Months,
    Out,
    Queries,
    Quiet,
    Resume,
    Seed,
    TestFile,
    TestShare,
    Text,
    UsdPerHour,
    UsdPerLabel,
    Watts,
    said,
    terms_of,
    typed,
)
from promptlab.commands.train import app as train_app
from promptlab.errors import PromptlabError, ReplayMiss, SetupError, reason

# typer brings a copy of click of its own in some versions: this is the class of wrong usage in either.
UsageError: Any = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:  # here, since typer would make its own exit code of it
            raise PromptlabError("Stopped.") from stop


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables
    rich_markup_mode="markdown",
    help="For my task, should I prompt, reason, optimise the prompt, or fine-tune? Answered with evidence.",
)
app.add_typer(train_app, name="train", epilog="Example: `promptlab train pretrain runs/nano`")
add_optimizing(app)
app.add_typer(mcp_app, name="mcp", epilog="Example: `promptlab mcp serve calculator`")


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"promptlab {version('promptlab')}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def numbers(text: str, option: str) -> list[int]:
    """ "0,8,32" as numbers."""
    with suppress(ValueError):
        if found := [int(part) for part in text.split(",") if part.strip()]:
            return found
    raise SetupError(f"{option} takes numbers separated by commas, got {text!r}.")


@app.command(epilog="Example: `promptlab compare notes.csv --text note --label urgency --labels 0,8,32,128`")
def compare(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="CSV, TSV, JSON, JSONL or label-first text; or a log, with another after it.")
    ] = None,
    other: Annotated[
        Path | None,
        typer.Argument(
            help="A second log: then both are compared item by item, and nothing is run. A log is a run's "
            "folder, lm_eval's --log_samples, or inspect's .eval or .json; LOG:SERIES where it holds several."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="Of two logs: the score to compare; IN_A,IN_B if named apart.")] = "",
    id: Annotated[str, typer.Option("--id", help="Of two logs: the field of an item that matches it.")] = "",
    export: Annotated[
        tuple[str, Path],
        typer.Option(help="Of two logs: csv, markdown, lm-eval or inspect, and where to write it.", show_default=False),
    ] = ("", Path()),
    judge: Annotated[
        str, typer.Option(help="Of two logs: a model that reads both answers, both ways round, and says who wins.")
    ] = "",
    criterion: Annotated[str, typer.Option(help="What the judge goes by: what a good answer is.")] = "",
    people: Annotated[
        Path | None, typer.Option(help="A table of item and preferred (A, B, tie): is the judge of people's opinion?")
    ] = None,
    text: Text = "text",
    label: Label = "label",
    group: Group = "",
    subgroup: Annotated[str, typer.Option(help="A column whose values get scores of their own: sex, clinic.")] = "",
    test: TestFile = None,
    ood: Annotated[
        Path | None, typer.Option(help="A test from elsewhere, asked too; the decision does not rest on it.")
    ] = None,
    general: Annotated[
        Path | None, typer.Option(help="A general labelled file, asked before and after a model is tuned.")
    ] = None,
    test_share: TestShare = 0.3,
    test_items: Annotated[int, typer.Option(min=0, help="Ask at most so many test items (0: all).")] = 0,
    format: Format = "",
    header: Header = True,
    instruction: Instruction = "",
    model: ModelName = "tiny",
    arms: Annotated[
        str,
        typer.Option(
            help="Which arms, separated by commas; `promptlab models` lists them. With options: ape:calls=500."
        ),
    ] = "",
    also_model: Annotated[
        list[str] | None,
        typer.Option(help="Another model for the arms that prompt, as arms of its own; several as --also-model A."),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="How many labelled examples each arm gets; 0,8,32,128 as far as they go if left out.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many times the examples are drawn anew.")] = 3,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="The most dollars that the model may cost, resumed runs included.")
    ] = None,
    calls: Annotated[int | None, typer.Option(min=0, help="The most calls of the model, likewise.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many calls, tokens and dollars it would take; ask nothing.")
    ] = False,
    out: Out = None,
    resume: Resume = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time (0: one a core, as memory allows).")] = 0,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Do the cells on a Ray cluster; `local` starts one here.")
    ] = None,
    local_only: LocalOnly = False,
    queries: Queries = None,
    months: Months = 12.0,
    usd_per_hour: UsdPerHour = None,
    watts: Watts = None,
    usd_per_label: UsdPerLabel = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Prompt or fine-tune? Both on the same labelled examples, with intervals and one sentence of advice.

    With two logs instead of a file of data: which of them scores higher, item by item; with --judge, whose answers a
    model prefers.
    """
    if file is not None and other is not None:
        refuse_options(ctx, OF_LOGS | (OF_JUDGES if judge else set()), "compares two logs, and runs nothing")
        from promptlab.commands.logs import Judge, compare_two
        from promptlab.compare.study import Arguments, base_model

        judging = None
        if judge:
            if metric:
                raise SetupError("--judge scores the answers itself: leave out --metric.")
            asked = Arguments("", model=judge, local_only=local_only, budget_usd=budget_usd, calls=calls)
            there = out or Path("runs") / f"{file.stem}-{other.stem}-judged"
            judging = Judge(partial(base_model, asked), judge, criterion, people, there)
        exported = export if typed(ctx, "export") else None
        compare_two(str(file), str(other), metric, id, group, exported, quiet, judging)
        return
    refuse_options(ctx, set(ctx.params) - ONLY_OF_LOGS, "with one file is a study; these are of two logs")
    from promptlab.compare.study import Arguments, run_study

    if (file is None) == (resume is None):
        raise SetupError("Give either a file to study or --resume with the folder of a run.")
    if test is not None and typed(ctx, "test_share"):
        raise SetupError("--test-share is held back of the file where there is no --test: leave one of them out.")
    if resume is not None:
        refuse_changes(ctx)
        given = Arguments.of_run(resume)
        given = replace(given, local_only=given.local_only or local_only)
        given = replace(given, budget_usd=given.budget_usd if budget_usd is None else budget_usd)
        given = replace(given, calls=given.calls if calls is None else calls)
    else:
        assert file is not None
        given = Arguments(
            file=str(file.resolve()),
            test=str(test.resolve()) if test else None,
            ood=str(ood.resolve()) if ood else None,
            general=str(general.resolve()) if general else None,
            text=text,
            label=label,
            group=group or None,
            subgroup=subgroup or None,
            test_share=test_share,
            test_items=test_items,
            format=format or None,
            header=header,
            instruction=said(instruction),
            model=model,
            arms=[name.strip() for name in arms.split(",") if name.strip()],
            also_models=list(dict.fromkeys(also_model or ())),
            labels=numbers(labels, "--labels") if typed(ctx, "labels") else None,
            seeds=seeds,
            local_only=local_only,
            seed=seed,
            budget_usd=budget_usd,
            calls=calls,
        )
    if dry_run:
        from promptlab.compare.rehearsal import rehearse

        print(rehearse(given, quiet, resume))
        return
    folder = resume or out or Path("runs") / (file.stem if file else "run")
    command = shlex.join(["promptlab", *ctx.find_root().obj])
    terms = terms_of(ctx, folder)
    going_on = resume is not None
    failed = run_study(given, folder, jobs=jobs, ray=ray, resume=going_on, quiet=quiet, command=command, terms=terms)
    if any(failure.whole for failure in failed):
        raise typer.Exit(1)


OF_LOGS = {"file", "other", "metric", "id", "export", "group", "judge", "seed", "quiet"}
OF_JUDGES = {"criterion", "people", "local_only", "budget_usd", "calls", "out"}
ONLY_OF_LOGS = {"metric", "id", "export", "judge", "criterion", "people"}
OF_SEARCHES = {"folder", "open_it", "seed", "quiet"}  # of `promptlab report`


def refuse_options(ctx: typer.Context, known: set[str], why: str) -> None:
    if odd := [each.opts[0] for each in ctx.command.params if each.name not in known and typed(ctx, each.name)]:
        raise SetupError(f"`{ctx.command_path}` {why}: leave out {', '.join(odd)}.")


def refuse_changes(ctx: typer.Context) -> None:
    """A run goes on as it was begun: only how it is done can change."""
    free = {"resume", "jobs", "quiet", "local_only", "budget_usd", "calls", "dry_run", "ray"}
    free |= {"queries", "months", "usd_per_hour", "watts", "usd_per_label"}
    if changed := [f"--{name.replace('_', '-')}" for name in ctx.params if name not in free and typed(ctx, name)]:
        raise SetupError(f"--resume goes on with a run as it was begun; leave out {', '.join(changed)}.")


@app.command(
    epilog='Example: `promptlab ask "A jug holds 7 litres. Add 5. How many litres now?" --strategy chain-of-thought`'
)
def ask(
    ctx: typer.Context,
    question: str,
    model: ModelName = "tiny",
    strategy: Annotated[str, typer.Option(help="How to ask; `promptlab models` lists them.")] = "zero-shot",
    n: Annotated[int, typer.Option(min=1, help="Paths to sample, where the strategy samples.")] = 10,
    tool: Annotated[
        list[str] | None,
        typer.Option(help="A tool for react, several as --tool A --tool B: a shipped one, or package.module:function."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="What a search is to solve: game24, countdown, 8-puzzle, crosswords; else it drafts.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open a page of how the answer came about.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where that page goes; runs/answer.html if left out.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Ask one question with one strategy."""
    import promptlab
    from promptlab.commands.answers import lines_of, write_page
    from promptlab.commands.tooling import tools_for
    from promptlab.options import takes
    from promptlab.strategies import SEARCHES, STRATEGIES, sampling_on
    from promptlab.strategies.puzzles import puzzle_for

    if not question.strip():
        raise SetupError("The question is empty: write one.")
    known = {**STRATEGIES, **SEARCHES}
    if strategy not in known:
        raise SetupError(f"Unknown strategy {strategy!r}. Known: {', '.join(known)}.")
    if strategy in SEARCHES and not task:
        raise SetupError(f"{strategy} searches for the solution of a task: give one, as --task countdown.")
    chosen = known[strategy]
    samples = "n" in signature(chosen).parameters
    if typed(ctx, "n") and not samples:
        raise SetupError(f"--n is how many paths are sampled, and {strategy} samples none: leave it out.")
    backend = promptlab.model(model)
    options = sampling_on(backend, chosen, seed) | ({"n": n} if samples else {})
    if "native" in signature(chosen).parameters:
        options |= {"tools": tools_for(tool or ()), "native": takes(backend, "tools")}
    elif tool:
        raise SetupError(f"--tool is for strategies that act, such as react; {strategy} calls none: leave it out.")
    if task:
        if "task" not in signature(chosen).parameters:
            raise SetupError(f"--task is for strategies that search; {strategy} does not: leave it out.")
        options["task"] = puzzle_for(backend, task)
    if typed(ctx, "seed"):
        options["seed"] = seed
    try:
        answer, exchanges = promptlab.run(promptlab.traced(chosen(question, **options)), backend)
    except PromptlabError:
        raise
    except Exception as error:  # the backend may be somebody else's
        raise PromptlabError(f"{model} failed: {reason(error)}") from error
    if open_it or out:
        path = write_page(out or Path("runs/answer.html"), question, answer, model, exchanges)
        if not quiet:
            print(path, file=sys.stderr)
        if open_it:
            typer.launch(str(path))
    if as_json:
        votes = None if answer.votes is None else dict(answer.votes)
        said = {"value": answer.value, "text": answer.text, "why": answer.why, "found": answer.found, "votes": votes}
        said |= {"share": answer.share, "margin": answer.margin, "entropy": answer.entropy, "tied": answer.tied}
        if isinstance(answer.trace, dict):
            said["trace"] = answer.trace
        print(json.dumps(said))  # in ASCII, which is JSON in any encoding of the terminal
        return
    print(answer.value if answer.value is not None else f"no answer: {answer.why}")
    if not quiet:
        for line in lines_of(answer.trace):
            print(f"  {line}")
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
    header: Header = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """What is wrong with a data set: duplicates, leaks, label variants, tiny classes."""
    from promptlab.compare.data.lint import lint as find
    from promptlab.compare.study import Arguments, read_source

    given = Arguments(str(file), text=text, label=label, group=group or None, format=format or None, header=header)
    train = read_source(given, str(file))
    held_back = read_source(given, str(test), for_test=True) if test else None
    for source in (train, held_back) if held_back else (train,):
        for warning in source.warnings:
            print(f"{source.file}: {warning}" if held_back else warning)
    for finding in find(train.examples, held_back.examples if held_back else None):
        print(f"{finding.kind}: {finding.message}")
    if not quiet:
        print(f"{len(train.examples)} examples read.")


@app.command(epilog="Example: `promptlab report runs/notes --open`")
def report(
    ctx: typer.Context,
    folder: Path,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the run's tables there as Markdown too.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a line for each arm and labels there too.")] = None,
    export: Annotated[
        tuple[str, Path],
        typer.Option(help="lm-eval or inspect, and the folder for a log of each arm in it.", show_default=False),
    ] = ("", Path()),
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Log the cells as runs of MLflow: sqlite:///mlflow.db, a server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON, not the page's path.")] = False,
    queries: Queries = None,
    months: Months = 12.0,
    usd_per_hour: UsdPerHour = None,
    watts: Watts = None,
    usd_per_label: UsdPerLabel = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a finished run's results.json and report.html again from its rows; of a search, the page."""
    from promptlab.commands.logs import export_run, write_tables
    from promptlab.compare.cells import read_json
    from promptlab.compare.optimizing.page import holds_a_search, rewritten
    from promptlab.compare.report import write_report

    if not folder.is_dir():
        raise SetupError(f"There is no folder {folder}. Give that of a finished `promptlab compare` run.")
    if holds_a_search(folder):
        refuse_options(ctx, OF_SEARCHES, "of a search writes its page; the rest is of studies")
        page = rewritten(folder)
    elif not (folder / "run.json").exists():
        raise SetupError(f"{folder} holds no run (no run.json). Give that of a finished `promptlab compare` run.")
    elif (kind := read_json(folder / "run.json").get("kind", "compare")) != "compare":
        raise SetupError(f"{folder} holds a run of `promptlab {kind}`, which has no page: see its results.json.")
    elif not (folder / "rows.jsonl").exists():
        raise SetupError(
            f"{folder} holds no finished run (no rows.jsonl). Finish it with: promptlab compare --resume {folder}"
        )
    else:
        page = write_report(folder, terms=terms_of(ctx, folder))
        write_tables(folder, markdown, csv)
        if export[0]:
            export_run(folder, *export)
        if mlflow is not None:
            from promptlab.compare.report.mlflow import log_run

            log_run(folder, mlflow)
    if as_json:
        print(json.dumps(read_json(folder / "results.json")["decision"]))
    else:
        print(page)
    if open_it:
        typer.launch(str(page))


@app.command(epilog="Example: `promptlab replay runs/notes`")
def replay(
    folder: Annotated[Path, typer.Argument(help="That of a finished run.")],
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time (0: one a core, as memory allows).")] = 0,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Do a finished study again, a hosted model being answered from the recording; nothing is sent to anybody."""
    from promptlab.compare.study import replay_study

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nor are the weights of an engine asked for anywhere
    same, total = replay_study(folder, jobs)
    print(f"{same:,} of {total:,} rows came out the same.")
    if same < total:
        raise typer.Exit(1)


@app.command(epilog="Example: `promptlab trace runs/notes --open`")
def trace(
    file: Annotated[Path, typer.Argument(help="The file that calls are noted in, or the folder of a run.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; beside the file if left out.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Show at most so many calls; totals are of all.")] = 1_000,
    redact: Annotated[bool, typer.Option(help="Cut off what looks like a key.")] = True,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write a page of all calls that were made: what they cost, and each program's as a tree."""
    from promptlab.trace.rendering import file_of, page
    from promptlab.whole import whole

    html = page(file, redact=redact, most_calls=calls)
    found = file_of(file)
    path = out or found.with_name("trace.html" if file.is_dir() else f"{found.stem}.trace.html")
    try:
        with whole(path) as written:
            written.write(html)
    except OSError as error:
        raise PromptlabError(
            f"{path} cannot be written ({error.strerror}): choose another place with --out."
        ) from error
    print(path)
    if open_it:
        typer.launch(str(path))


@app.command(epilog="Example: `promptlab models`")
def models(seed: Seed = 0, quiet: Quiet = False) -> None:
    """The backends and what they can do, the strategies, tools and arms there are."""
    from promptlab.backends.capabilities import table
    from promptlab.learners import ARMS, DEFAULT_ARMS
    from promptlab.optimizers import OPTIMIZERS
    from promptlab.strategies import SEARCHES, STRATEGIES
    from promptlab.tools import TOOLS, described

    for i, (name, can) in enumerate(table()):
        print(f"{'models:' if i == 0 else '':11} {name:22} {', '.join(sorted(can))}")
    print(f"{'':11} package.module:Class/name")
    print("optimizers: " + ", ".join(OPTIMIZERS) + "   (`promptlab optimize --method NAME`)")
    print("strategies: " + ", ".join([*STRATEGIES, *SEARCHES]) + "   (`promptlab card NAME` tells of one)")
    print("tools:      " + ", ".join(map(described, TOOLS)))
    starred = [f"{name}*" if name in DEFAULT_ARMS else name for name in ARMS]
    print(f"arms:       {', '.join(starred)}   (* by default; of searches with options, ape:calls=500:alpha=0.1)")


@app.command(epilog="Example: `promptlab card self-consistency`")
def card(
    name: Annotated[str, typer.Argument(help="A strategy of the library: self-consistency, few-shot, react, …")],
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """A strategy on a page: source, prompt, stop, parse, ties, cost, what pins it, and what it takes."""
    from promptlab.strategies import every
    from promptlab.strategies.cards import card as made

    strategies = every()
    if name not in strategies:
        raise SetupError(f"Unknown strategy {name!r}. Known: {', '.join(strategies)}.")
    print(made(name, strategies[name]))


@app.command(epilog="Example: `promptlab export --to hf runs/exported`")
def export(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    to: Annotated[str, typer.Option(help="hf: config.json, model.safetensors, tokenizer and chat template.")] = "hf",
    model: ModelName = "tiny",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write the bundled model, or one trained from it, as transformers, vLLM and any other loader of Llamas read it."""
    from promptlab.backends import model as model_named
    from promptlab.backends.tiny import Tiny
    from promptlab.tiny.checkpoint import save

    if to != "hf":
        raise SetupError(f"--to is hf, got {to!r}.")
    backend = model_named(model)
    if not isinstance(backend, Tiny):
        raise SetupError(f"{model} is not the bundled model, nor made from it; those can be exported.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} exists and is no empty folder: choose another one.")
    save(folder, backend.model, backend.tokenizer)
    if not quiet:
        print(folder)


def main(argv: Sequence[str] | None = None, app: typer.Typer = app, name: str = "promptlab") -> NoReturn:
    """Run the command line, or that of a script; errors raised on purpose, and wrong usage, are one line."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that --model finds a module of the user's own
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a sign is no reason to fail
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(given, prog_name=name, standalone_mode=False, obj=given)
        sys.stdout.flush()
    except UsageError as error:
        refuse(error, name)
    except typer.Abort:  # Ctrl-C in a script, and a person who has had enough
        fail("Stopped.", 1, at_once=True)
    except SetupError as error:
        fail(str(error), 2)
    except ReplayMiss as error:  # it shows what differs, line by line
        print(error, file=sys.stderr)
        sys.exit(1)
    except PromptlabError as error:
        fail(str(error), 1, at_once=isinstance(error.__cause__, KeyboardInterrupt))
    except BrokenPipeError:  # the reader has seen enough, `| head` for instance
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    sys.exit(code or 0)


def refuse(error: Any, name: str) -> NoReturn:
    """Wrong usage in a line; where no command was given at all, the help has been shown instead."""
    said = error.format_message().strip()
    if not said or "\n" in said:
        print(said, end="", file=sys.stderr)
        sys.exit(2)
    command = error.ctx.command_path if error.ctx else name
    fail(f"{said}{'' if said.endswith(('.', '?')) else '.'} See {command} --help.", 2)


def fail(message: str, code: int, *, at_once: bool = False) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    if at_once:  # an interrupted run does not wait for threads that are still asking a server
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
