"""`promptlab duels`: a better prompt for inputs that nobody has labelled, by a judge's preferences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from promptlab.backends.routed import Routed
from promptlab.characters import whole_text
from promptlab.compare.data.tables import read_table, text_columns
from promptlab.compare.optimizing.arguments import Arguments, Calls, placed
from promptlab.compare.optimizing.models import described, models_of, solve_of
from promptlab.compare.optimizing.run import ledger
from promptlab.compare.provenance import machine, versions
from promptlab.compare.runner import locked, now, write_json
from promptlab.compare.wording import share
from promptlab.errors import DataError, SetupError
from promptlab.optimizers import duels, position_bias, save_prompt
from promptlab.options import takes
from promptlab.prompt import Prompt
from promptlab.runners import run
from promptlab.task import Task
from promptlab.types import Example
from promptlab.whole import whole

Json = dict[str, Any]


def duel_it_out(
    file: Path, folder: Path, *, judge: str, labels: tuple[str, ...], criterion: str, text: str, **given: Any
) -> Json:
    """Have candidates fight on a file's inputs, into `folder`. The same command goes on where it was interrupted.

    Returns what results.json holds: there is no test, as nothing is labelled, so the sentence says who was preferred.
    """
    table = read_table(file, wanted=text.split("+"))
    columns = text_columns(table, text)
    joined = ("\n".join((row[column] or "").strip() for column in columns).strip() for row in table.rows)
    inputs = list(dict.fromkeys(whole_text(each) for each in joined if each))
    if not inputs:
        raise DataError(f"{file.name} has no texts in {text!r}.")
    arguments = Arguments(str(file), text=text, output="text", **given)
    instruction, frame = placed(arguments.instruction, text)
    prompt = Prompt(instruction, _of(labels), frame=frame)
    task = Task(file.stem, prompt, tuple(Example(each, "") for each in inputs), (Example("", ""),))
    with locked(folder):
        begin(
            folder, {**asdict(arguments), "judge": judge, "labels": list(labels), "criterion": criterion}, table.sha256
        )
        models = models_of(arguments, Calls(0, 0, arguments.calls), folder)
        judging = models.also(judge)
        options: Json = {"calls": arguments.calls or 2_000, "seed": arguments.seed, "alpha": arguments.alpha}
        options |= arguments.options
        if not takes(models.proposer, "temperature"):
            options.setdefault("temperature", None)
        solve = solve_of(arguments, task, models.task)
        with ledger(folder / "ledger.jsonl") as observe:
            program = duels(prompt, inputs, criterion=criterion, solve=solve, observe=observe, **options)
            try:
                tuned = run(program, Routed(models.task, proposer=models.proposer, judge=judging))
            except SetupError:
                if not models.budget.spent.calls:  # refused before anything was asked: the folder is free again
                    (folder / "run.json").unlink()
                raise
        save_prompt(tuned, folder / "prompt.json")
        found, bias = tuned.found, position_bias(tuned.found)
        told: Json = {
            "sentence": f"{'Take the new prompt' if found.accepted else 'Keep the prompt you have'}: {found.why}.",
            "accepted": found.accepted,
            "instruction": tuned.instruction,
            "verdict": None if found.verdict is None else found.verdict._asdict(),
            "bias": bias._asdict(),
            "calls": found.calls,
            "candidates": len(found.candidates),
            "rejected": dict(found.rejected),
            "spent": {"task": models.task.told, "proposer": models.proposer.told, "judge": judging.told},
            "judge": described(judge, judging),
        }
        with whole(folder / "results.json") as out:
            out.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return told


def _of(labels: tuple[str, ...]) -> Any:
    from typing import Literal

    if len(labels) == 1:
        raise SetupError(f"--labels takes two or more names, separated by commas; got {labels[0]!r}.")
    return Literal[labels] if labels else str


def begin(folder: Path, arguments: Mapping[str, Any], sha256: str) -> None:
    """Write run.json, or see that the one there is of the same command on the same file."""
    there = folder / "run.json"
    same = {"kind": "duels", "arguments": dict(arguments), "sha256": sha256}
    if there.exists():
        before = json.loads(there.read_text(encoding="utf-8"))
        if {name: before.get(name) for name in same} != same:
            raise SetupError(f"{folder} holds another run: choose another --out.")
        return
    write_json(there, {**same, "versions": versions(), "machine": machine(), "started": now()})


def lines_of(told: Mapping[str, Any], quiet: bool) -> Iterator[str]:
    """What the terminal shows: how the judge took to places, and the sentence."""
    bias = told["bias"]
    if not quiet:
        if told["accepted"]:
            yield f"Instruction: {told['instruction']}"
        if bias["judged"]:
            yield (
                f"{told['judge']} judged {bias['judged']:,} duels both ways round, contradicted itself in "
                f"{share(bias['contradicted'] / bias['judged'])}, and gave {share(bias['first'])} of its preferences "
                "to the answer it read first (50 % is fair)."
            )
        yield "There were no labels: the judge's taste decided, which is not the same as being right."
    yield told["sentence"]
