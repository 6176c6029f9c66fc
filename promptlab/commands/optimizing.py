"""`promptlab optimize`, `duels` and `fragility`: a better prompt that can be believed, and how robust one is."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from promptlab.commands.options import (
    Format,
    Group,
    Header,
    Label,
    LocalOnly,
    ModelName,
    Out,
    Quiet,
    Resume,
    Seed,
    TestFile,
    TestShare,
    Text,
    said,
    typed,
)
from promptlab.errors import SetupError

Proposer = Annotated[str, typer.Option(help="The model that writes proposals; the same as --model if left out.")]
Strategy = Annotated[str, typer.Option(help="How prompts are answered; the cheapest way there is if left out.")]
Instruction = Annotated[
    str, typer.Option(help="What the prompt says now; @FILE reads a file. A {{ text }} in it is the input's place.")
]
Output = Annotated[str, typer.Option(help="classification, or text: free answers, right where their words are equal.")]
FREE = {"resume", "quiet", "local_only", "budget_usd", "dry_run", "export_sft", "export_dpo", "workers"}


def optimize(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="CSV, TSV, JSON, JSONL (also .gz) or label-first text.")] = None,
    text: Text = "text",
    label: Label = "label",
    group: Group = "",
    test: TestFile = None,
    test_share: TestShare = 0.3,
    test_items: Annotated[int, typer.Option(min=0, help="Ask at most so many test items (0: what calls allow).")] = 0,
    format: Format = "",
    header: Header = True,
    output: Output = "classification",
    instruction: Instruction = "",
    method: Annotated[str, typer.Option(help="How to search; `promptlab models` lists the methods.")] = "ape",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the method, several as --option a=1 --option b=2.")
    ] = None,
    model: ModelName = "tiny",
    proposer: Proposer = "",
    strategy: Strategy = "",
    calls: Annotated[
        int | None, typer.Option(min=1, help="The most calls of all, --control's and the test's among them.")
    ] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="The most dollars, resumed runs included.")] = None,
    alpha: Annotated[float, typer.Option(help="How often a prompt that is no better may be accepted.")] = 0.05,
    control: Annotated[
        bool, typer.Option("--control", help="Search once more with the labels shuffled; both get half of the calls.")
    ] = False,
    fragility: Annotated[
        bool, typer.Option("--fragility", help="500 calls more, beside --calls: what changes the answers?")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to win and to spend; ask nothing.")
    ] = False,
    out: Out = None,
    resume: Resume = None,
    export_sft: Annotated[
        Path | None, typer.Option(help="Write the right answers met in a run (--resume) as JSONL for `train sft`.")
    ] = None,
    export_dpo: Annotated[
        Path | None, typer.Option(help="Write right answers beside wrong ones as JSONL for `train dpo`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Requests in flight at a time, of a hosted model.")] = 64,
    local_only: LocalOnly = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Find a better prompt, show on fresh examples that it is better, and test it once."""
    from promptlab.compare.optimizing.arguments import Arguments
    from promptlab.compare.optimizing.run import failed_altogether, planned
    from promptlab.compare.optimizing.run import optimize as run

    if (file is None) == (resume is None):
        raise SetupError("Give either a file of examples or --resume with the folder of a run.")
    if test is not None and typed(ctx, "test_share"):
        raise SetupError("--test-share is held back of the file where there is no --test: leave one of them out.")
    if export_sft or export_dpo:
        export(resume, export_sft, export_dpo, quiet)
        return
    if resume is not None:
        refuse_changes(ctx)
        given = Arguments.of_run(resume)
        given = replace(given, local_only=given.local_only or local_only)
        given = replace(given, budget_usd=given.budget_usd if budget_usd is None else budget_usd)
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
            output=output,
            instruction=said(instruction),
            method=method,
            options=options_of(option or ()),
            model=model,
            proposer=proposer or None,
            strategy=strategy or None,
            calls=calls,
            budget_usd=budget_usd,
            alpha=alpha,
            control=control,
            fragility=fragility,
            local_only=local_only,
            seed=seed,
        )
    if dry_run:
        from promptlab.compare.optimizing.telling import rehearsed

        print(rehearsed(planned(given)))
        return
    folder = resume or out or Path("runs") / f"{file.stem if file else 'run'}-{given.method}"
    command = shlex.join(["promptlab", *ctx.find_root().obj])
    results = run(given, folder, resume=resume is not None, quiet=quiet, command=command, workers=workers)
    if failed_altogether(results):
        raise typer.Exit(1)


def fragility(
    prompt: Annotated[Path, typer.Argument(help="The prompt.json of a run.")],
    file: Annotated[Path, typer.Argument(help="Labelled examples that the prompt was not made with.")],
    text: Text = "text",
    label: Label = "label",
    format: Format = "",
    header: Header = True,
    model: ModelName = "tiny",
    proposer: Proposer = "",
    strategy: Strategy = "",
    calls: Annotated[int, typer.Option(min=1, help="The most calls.")] = 500,
    out: Annotated[Path | None, typer.Option(help="A folder for results.json, and for the answers to be kept.")] = None,
    local_only: LocalOnly = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """How a prompt's answers hang on what should not matter: format, order, names, wording, noise in the inputs."""
    from promptlab.compare.optimizing.checking import check, lines_of

    found = check(
        prompt,
        file,
        text=text,
        label=label,
        format=format or None,
        header=header,
        model=model,
        proposer=proposer or None,
        strategy=strategy or None,
        calls=calls,
        out=out,
        local_only=local_only,
        seed=seed,
    )
    for line in lines_of(found, quiet):
        print(line)


def duels(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSON or JSONL (also .gz); labels are not needed.")],
    text: Text = "text",
    labels: Annotated[str, typer.Option(help="What may be answered, separated by commas; anything if left out.")] = "",
    instruction: Instruction = "",
    criterion: Annotated[str, typer.Option(help="What the judge goes by; the instruction if left out.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of promptlab.optimizers.duels, as --option proposals=20.")
    ] = None,
    model: ModelName = "tiny",
    judge: Annotated[str, typer.Option(help="The model that judges; the same as --model if left out.")] = "",
    proposer: Proposer = "",
    calls: Annotated[int, typer.Option(min=1, help="The most calls of all.")] = 2_000,
    alpha: Annotated[float, typer.Option(help="How often a prompt that is no better may be accepted.")] = 0.05,
    out: Annotated[Path | None, typer.Option(help="The folder of the run; the same command goes on in it.")] = None,
    local_only: LocalOnly = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Find a prompt whose answers a judge prefers, where nothing is labelled."""
    from promptlab.compare.optimizing.duelling import duel_it_out, lines_of

    told = duel_it_out(
        file.resolve(),
        out or Path("runs") / f"{file.stem}-duels",
        judge=judge or model,
        labels=tuple(name.strip() for name in labels.split(",") if name.strip()),
        criterion=criterion,
        text=text,
        instruction=said(instruction),
        options=options_of(option or ()),
        model=model,
        proposer=proposer or None,
        calls=calls,
        alpha=alpha,
        local_only=local_only,
        seed=seed,
    )
    for line in lines_of(told, quiet):
        print(line)


def export(folder: Path | None, sft: Path | None, dpo: Path | None, quiet: bool) -> None:
    """Files to train from, of a run that has been made."""
    from promptlab.compare.optimizing.harvest import harvest, write_dpo, write_sft

    if folder is None:
        raise SetupError("--export-sft and --export-dpo take a run's answers: give its folder with --resume.")
    found = harvest(folder)
    for path, write in ((sft, write_sft), (dpo, write_dpo)):
        if path is not None:
            n = write(found, path)
            if not quiet:
                print(f"{path}: {n:,} {'right answers' if path is sft else 'pairs'}")


def options_of(given: Any) -> dict[str, Any]:
    """name=value as options: values are JSON, or else texts; @FILE is the JSON of a .json, or the lines of a text."""
    found: dict[str, Any] = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not name.isidentifier():
            raise SetupError(f"--option takes name=value, got {each!r}.")
        text = said(value, "--option")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text.splitlines() if value.startswith("@") else text
    return found


def refuse_changes(ctx: typer.Context) -> None:
    """A run goes on as it was begun: only how it is done can change."""
    if changed := [f"--{name.replace('_', '-')}" for name in ctx.params if name not in FREE and typed(ctx, name)]:
        raise SetupError(f"--resume goes on with a run as it was begun; leave out {', '.join(changed)}.")


def add_to(app: typer.Typer) -> None:
    """Give these commands to `promptlab`."""
    example = "promptlab optimize notes.csv --text note --label urgency --method ape --instruction @now.txt"
    app.command(epilog=f"Example: `{example}`")(optimize)
    app.command(epilog="Example: `promptlab duels notes.csv --text note --instruction @now.txt`")(duels)
    app.command(epilog="Example: `promptlab fragility runs/notes-ape/prompt.json fresh.csv --text note`")(fragility)
