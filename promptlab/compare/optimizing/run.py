"""A run of `promptlab optimize`: planned and told, searched, tested once, and written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from promptlab.backends.wrappers.budget import Budget
from promptlab.compare.cellfile import as_line
from promptlab.compare.data.lint import Finding, lint
from promptlab.compare.opened import keep_keys, opened_elsewhere
from promptlab.compare.optimizing.arguments import (
    FOR_THE_TEST,
    FRAGILITY_CALLS,
    Arguments,
    Calls,
    Material,
    divide,
    material,
    told_of_all,
)
from promptlab.compare.optimizing.fragility import Fragility, fragility
from promptlab.compare.optimizing.models import Models, allowed, described, models_of, search_options, solve_of
from promptlab.compare.optimizing.page import write_page
from promptlab.compare.optimizing.reporter import Tested, affordable, tested
from promptlab.compare.optimizing.results import results_of
from promptlab.compare.optimizing.telling import tell_afterwards, tell_beforehand
from promptlab.compare.provenance import machine, versions
from promptlab.compare.runner import files_changed, finish, locked, now, read_run, write_json
from promptlab.compare.study import resumable
from promptlab.compare.telling import progress_bar
from promptlab.errors import SetupError
from promptlab.optimizers import save_prompt
from promptlab.optimizers.concluding import TOO_MANY_FAILED
from promptlab.optimizers.found import Found
from promptlab.optimizers.optimizer import TERMS
from promptlab.optimizers.search import UNANSWERED, Search
from promptlab.prompt import Prompt
from promptlab.whole import open_text, whole

Observe = Callable[[dict[str, Any]], None]


class Planned(NamedTuple):
    """A run before anything is asked."""

    given: Arguments
    material: Material
    calls: Calls
    plan: dict[str, Any]
    findings: list[Finding]


def planned(given: Arguments) -> Planned:
    """What a run has to work with. Raises SetupError where that is too little for an honest comparison."""
    made = material(given)
    calls = divide(given, len(made.task.test))
    terms = {name: value for name, value in given.options.items() if name in TERMS}
    terms |= {"calls": calls.search, "seed": given.seed, "alpha": given.alpha, "shares": given.shares}
    with told_of_all(given):
        search = Search(given.optimizer.__name__, made.task.prompt, made.task.train, made.task.score, **terms)
    findings = lint(made.task.train, made.task.test)
    if given.output == "text":  # answers differ from row to row
        of_classes = ("classes under", "labels only", "leak", "numbers as labels", "several labels")
        findings = [f for f in findings if not f.kind.startswith(of_classes)]
    return Planned(given, made, calls, search.plan(), findings)


def optimize(
    given: Arguments, folder: Path, *, resume: bool = False, quiet: bool = False, command: str = "", workers: int = 64
) -> dict[str, Any]:
    """Search for a better prompt into `folder`, or go on with that, telling the person at the terminal what happens.

    The search is a program whose every answer is on the disk before it goes on, so it is resumed by doing it again:
    what was answered is answered from there, and it takes the same way. Returns what results.json holds.
    """
    plan = planned(given)
    for spec in dict.fromkeys([given.model, given.proposer or given.model]):
        allowed(given, spec)  # before there is a folder
    tell_beforehand(plan, quiet)
    task = plan.material.task
    with locked(folder), resumable(folder, "optimize"), progress_bar(quiet) as on_progress:
        done = 0

        def on_answers(n: int) -> None:
            nonlocal done
            done += n
            on_progress(done, max(done, plan.calls.most or plan.calls.search + plan.calls.test))

        begin(plan, folder, resume, command)
        models = models_of(given, plan.calls, folder, on_answers, workers)
        note(folder, models={"task": described(given.model, models.task)})
        with ledger(folder / "ledger.jsonl") as observe:
            found, prompt = searched(plan, models, task.train, observe)
        save_prompt(prompt, folder / "prompt.json")
        outcome = open_test(plan, models, found, prompt, folder)
        shuffled = controlled(plan, models) if given.control else None  # when what matters is paid for
        checked = checked_for_fragility(plan, models, found, prompt) if given.fragility else None
        results = results_of(plan, found, outcome, models, shuffled, checked, read_run(folder))
        with whole(folder / "rows.jsonl") as out:
            out.writelines(map(as_line, outcome.rows))
        with whole(folder / "results.json") as out:
            out.write(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        write_page(results, folder)
        finish(folder / "run.json")
    tell_afterwards(results, folder, quiet)
    return results


def begin(plan: Planned, folder: Path, resume: bool, command: str) -> None:
    """Write run.json for a new run, or see that the one there is this one."""
    there = folder / "run.json"
    if not there.exists():
        if resume:
            raise SetupError(f"{folder} holds no run to resume (no run.json).")
        run: dict[str, Any] = {"kind": "optimize", "arguments": asdict(plan.given), "command": command}
        run["plan"] = plan.plan
        run |= {"files": plan.material.files, "warnings": plan.material.warnings}
        run |= {"lint": [asdict(finding) for finding in plan.findings]}
        run |= {"versions": versions(), "machine": machine(), "started": now(), "test_openings": []}
        return write_json(there, run)
    if not resume:
        raise SetupError(f"{folder} holds a run already. Continue it with --resume {folder}, or choose another --out.")
    run = read_run(folder)
    if changed := files_changed(run, {"files": plan.material.files}):
        raise SetupError(f"{changed} since {folder} was begun: put back what was, or choose another --out.")
    if run["versions"].get("promptlab") != versions()["promptlab"]:
        raise SetupError(f"{folder} was begun by another version of promptlab: choose another --out.")
    return None


def note(folder: Path, **more: Any) -> None:
    """Something more in run.json."""
    write_json(folder / "run.json", {**read_run(folder), **more})


def searched(plan: Planned, models: Models, examples: Any, observe: Observe | None) -> tuple[Found, Prompt]:
    """What the optimiser finds with the examples, which are never those of the test."""
    given, task = plan.given, plan.material.task
    options = search_options(given, task, models, plan.calls.search)
    if observe is not None:
        options["observe"] = observe
    program = given.optimizer(task.prompt, examples, task.score, **options)
    part = None if given.budget_usd is None else Budget(usd=(1 - FOR_THE_TEST) * given.budget_usd / (1 + given.control))
    with told_of_all(given):  # an answer may take several calls, which is known only now
        tuned: Any = models.run(program, part)
    plain = {name: getattr(tuned, name) for name in Prompt.__dataclass_fields__}
    return tuned.found, Prompt(**plain)


def controlled(plan: Planned, models: Models) -> Found:
    """The same search with the labels shuffled: there is nothing to find, so what it gains is its optimism."""
    train = plan.material.task.train
    targets = [example.target for example in train]
    Random(f"{plan.given.seed}/control").shuffle(targets)
    shuffled = tuple(replace(example, target=t) for example, t in zip(train, targets, strict=True))
    return searched(plan, models, shuffled, None)[0]


def open_test(plan: Planned, models: Models, found: Found, prompt: Prompt, folder: Path) -> Tested:
    """The test, opened: that is noted before it is asked, so that every look at it stands in run.json."""
    run, task = read_run(folder), plan.material.task
    kind = "again, after the run was finished" if "finished" in run else "after an interruption"
    opening = {"at": now(), "what": kind if run["test_openings"] else "first", "prompt": found.best.key}
    items = affordable(task, plan.calls.test, cost_of_an_answer(found))
    before = {} if run["test_openings"] else opened_elsewhere(folder, items)
    keep_keys(folder, items)
    note(folder, test_openings=[*run["test_openings"], opening], **before)
    return tested(task, items, models.run, task.prompt, prompt, solve_of(plan.given, task, models.task))


def cost_of_an_answer(found: Found) -> float:
    """Calls an answer takes, on average."""
    asked = [event["asked"] for event in found.events if event["event"] == "scored"]
    return sum(asked) / len(asked) if asked else 1.0


def checked_for_fragility(plan: Planned, models: Models, found: Found, prompt: Prompt) -> Fragility | str:
    """How the answers hang on what should not matter, on test items, which choose nothing; or why nobody knows."""
    task = plan.material.task
    solve = solve_of(plan.given, task, models.task)
    calls = int(FRAGILITY_CALLS / max(1.0, cost_of_an_answer(found)))
    program = fragility(
        prompt, task.test, solve=solve, score=task.score, pool=task.train, calls=calls, seed=plan.given.seed
    )
    try:
        return models.run(program)
    except SetupError as error:  # when all else is paid for
        return f"How the answers hang on what should not matter is not known: {error}"


@contextmanager
def ledger(path: Path) -> Iterator[Observe]:
    """A file that every event of the search is appended to as it happens.

    It is no state: a resumed run does the search again, with the answers that are kept, and so writes the same lines
    from the start into a fresh file.
    """
    with open_text(path, "w") as out:

        def observe(event: Mapping[str, Any]) -> None:
            out.write(as_line(event))
            out.flush()

        yield observe


def failed_altogether(results: Mapping[str, Any]) -> bool:
    """Whether so much of the test was not answered that nothing is known, or no proposer ever was there, and nothing
    was found without it."""
    test, proposals = results["test"], results["calls"]["proposals"]
    dead = proposals > 0 and results["rejected"].get(UNANSWERED) == proposals
    return bool(max(test["failed"].values()) > TOO_MANY_FAILED * test["n"] or (dead and not results["accepted"]))
