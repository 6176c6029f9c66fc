"""A study from a file: read, split, say what to expect, run with a progress bar, print the outcome."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.backends import model as model_named
from promptlab.backends import unasked
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.recorded import FILE, Recorded
from promptlab.backends.wrappers.worst import usd_of
from promptlab.backends.wrappers.wrapper import Inner, Replies, Wrapper
from promptlab.compare.cells import read_lines
from promptlab.compare.data.columns import telling
from promptlab.compare.data.lint import lint
from promptlab.compare.data.tables import examples_from, read_table, text_columns
from promptlab.compare.failures import Failure, failures
from promptlab.compare.on_ray import stays_here
from promptlab.compare.runner import compare, files_changed, read_run
from promptlab.compare.spending import Terms
from promptlab.compare.statistics import smallest_detectable_difference
from promptlab.compare.telling import progress_bar, tell_afterwards, tell_beforehand
from promptlab.errors import BudgetSpent, PromptlabError, SetupError
from promptlab.learners import Learner, arms_named, arms_of_another_model, default_arms
from promptlab.options import name_of
from promptlab.prompt import Prompt
from promptlab.splits import clusters, split
from promptlab.task import Task
from promptlab.types import Backend, Example, Request, Usage

DEFAULT_LABELS = (0, 8, 32, 128)


@dataclass(frozen=True)
class Arguments:
    """All that decides a study's result, as written into run.json and read back by --resume.

    `labels` None means those of DEFAULT_LABELS that there are examples for, `test_items` 0 all. `seed` decides the
    split, and is the first of the `seeds` that examples are drawn with. The arms that prompt are also those of
    `also_models`, each under a name of its own. `budget_usd` and `calls` are the most that the
    model may be asked for, all runs into one folder together.
    """

    file: str
    test: str | None = None
    ood: str | None = None
    general: str | None = None
    text: str = "text"
    label: str = "label"
    group: str | None = None
    subgroup: str | None = None
    test_share: float = 0.3
    test_items: int = 0
    format: str | None = None
    header: bool = True
    instruction: str = ""
    model: str = "tiny"
    arms: list[str] = field(default_factory=list)
    also_models: list[str] = field(default_factory=list)
    labels: list[int] | None = None
    seeds: int = 3
    local_only: bool = False
    seed: int = 0
    budget_usd: float | None = None
    calls: int | None = None

    @classmethod
    def of_run(cls, folder: Path) -> Arguments:
        """The arguments of the run in a folder."""
        run = read_run(folder)
        if run.get("kind", "compare") != "compare":
            raise SetupError(f"{folder} holds a run of `promptlab {run['kind']}`, not of `promptlab compare`.")
        if "arguments" not in run:
            raise SetupError(
                f"{folder} was begun from Python: go on with compare(…, out={str(folder)!r}, resume=True)."
            )
        try:
            return cls(**run["arguments"])
        except TypeError as error:
            raise SetupError(f"{folder} was begun by another version of promptlab: choose another --out.") from error


@dataclass(frozen=True)
class Source:
    """A file as it was read: its examples, what was odd about it, and its hash."""

    examples: tuple[Example, ...]
    warnings: tuple[str, ...]
    file: str
    sha256: str


def read_source(given: Arguments, file: str, *, for_test: bool = False) -> Source:
    """The examples of a file."""
    wanted = (*given.text.split("+"), given.label)
    table = read_table(file, given.format, header=given.header, wanted=wanted)
    subgroup = given.subgroup if for_test or given.test is None else None  # it is the test that is cut by it
    read = examples_from(table, given.text, given.label, given.group, subgroup, for_test=for_test)
    told = () if for_test else telling(table, text_columns(table, given.text), given.label, given.group)
    return Source(tuple(read.examples), (*table.warnings, *read.warnings, *told), Path(file).name, table.sha256)


def task_of(given: Arguments) -> tuple[Task, list[str], dict[str, str]]:
    """The task that the files hold, warnings about them, and their hashes."""
    source = read_source(given, given.file)
    train, warnings, files = source.examples, list(source.warnings), {source.file: source.sha256}
    if given.test is not None:
        held_back = read_source(given, given.test, for_test=True)
        test = held_back.examples
        warnings += [f"{held_back.file}: {warning}" for warning in held_back.warnings]
        files |= {held_back.file if held_back.file not in files else "test: " + held_back.file: held_back.sha256}
    else:
        train, test = map(tuple, split(train, test_share=given.test_share, seed=given.seed))
    if 0 < given.test_items < len(test):
        asked = tuple(split(test, test_size=given.test_items, at_most=True, seed=given.seed).test)
        warnings.append(f"{len(asked)} of {len(test)} test items are asked, drawn by class and whole groups.")
        test = asked
    return Task.classification(Path(given.file).stem, train, test, given.instruction), warnings, files


def elsewhere(given: Arguments, warnings: list[str], files: dict[str, str]) -> tuple[tuple[Example, ...], Task | None]:
    """The items of --ood, and the task of --general; what is odd about both, and their hashes, is added to the rest."""
    given = replace(given, subgroup=None)

    def read(name: str, file: str) -> tuple[Example, ...]:
        source = read_source(given, file, for_test=True)
        warnings.extend(f"{source.file}: {warning}" for warning in source.warnings)
        files[f"{name}: {source.file}"] = source.sha256
        return source.examples

    outside = () if given.ood is None else read("ood", given.ood)
    if given.general is None:
        return outside, None
    examples = read("general", given.general)
    return outside, Task.classification(Path(given.general).stem, examples, examples)


def with_labels(given: Arguments, task: Task) -> tuple[Arguments, list[str]]:
    """With the label budgets that there are examples for, if none are named, and a word on those there are not."""
    if given.labels is not None:
        return given, []
    n = len(task.train)
    dropped = [str(k) for k in DEFAULT_LABELS if k > n]
    said = [f"No budget of {' or '.join(dropped)} labels: only {n} are left to learn from."] if dropped else []
    return replace(given, labels=[k for k in DEFAULT_LABELS if k <= n]), said


def check_local(given: Arguments, name: str, base: Backend) -> None:
    """Raises SetupError for a model that --local-only rules out."""
    if given.local_only and not getattr(base, "local", False):
        raise SetupError(f"--local-only: {name} is not known to stay on this machine (it lacks local = True).")


def base_model(given: Arguments, folder: Path) -> Backend:
    """The model, within the budget that all models of the run share.

    What a hosted one answers is kept in the run's folder, and not paid for twice.
    """
    base = model_named(given.model)
    check_local(given, given.model, base)
    if given.budget_usd is not None and usd_of(base, Usage()) is None:
        raise SetupError(f"--budget-usd: the price of {given.model} is not known; give the most --calls in its place.")
    budget = None
    if given.budget_usd is not None or given.calls is not None:
        budget = Budget(usd=given.budget_usd, calls=given.calls, path=folder / "budget.db")
    cache = folder / FILE if not base.batched and hasattr(base, "identity") else None
    return model_named(given.model, budget=budget, cache=cache) if budget or cache else base


def study_arms(
    given: Arguments, base: Backend, other: Callable[[str], Backend]
) -> tuple[dict[str, Learner], list[str]]:
    """The arms of a study, those of other models at the end, and a line on what those models cannot do."""
    learners, left_out = (arms_named(given.arms, base), []) if given.arms else default_arms(base)
    found = dict(learners)
    for name in given.also_models:
        of_it, more = arms_of_another_model(learners, name, other(name))
        found |= of_it
        left_out += more
    return found, left_out


def run_study(
    given: Arguments,
    folder: Path,
    *,
    jobs: int = 0,
    ray: str | None = None,
    resume: bool = False,
    quiet: bool = False,
    command: str = "",
    terms: Terms | None = None,
) -> list[Failure]:
    """Do the study of `given` into `folder`, or go on with it, telling the person at the terminal what happens.

    Returns the cells in which answers failed.
    """
    if ray is not None and given.local_only and not stays_here(ray):
        raise SetupError(f"--local-only: a Ray cluster at {ray} is not known to stay on this machine; --ray local is.")
    task, warnings, files = task_of(given)
    given, fewer = with_labels(given, task)
    warnings += fewer
    outside, general = elsewhere(given, warnings, files)
    base = base_model(given, folder)
    learners, left_out = study_arms(given, base, lambda name: base_model(replace(given, model=name), folder))
    warnings += left_out + too_long(base, task.prompt, train=task.train, test=task.test)
    findings = lint(task.train, task.test, ood=outside, general=general.test if general else ())
    tell_beforehand(task, smallest_difference(task), warnings, findings, quiet)
    about_run = {
        "arguments": asdict(given),
        "command": command,
        "model": f"{given.model} ({getattr(base, 'description', name_of(base))})",
        "also_models": given.also_models,
        "files": files,
        "warnings": warnings,
        "lint": [asdict(finding) for finding in findings],
    }
    with resumable(folder), progress_bar(quiet) as on_progress:
        results = compare(
            learners,
            task,
            given.labels or [],
            range(given.seed, given.seed + given.seeds),
            outside=outside,
            general=general,
            out=folder,
            jobs=jobs,
            ray=ray,
            resume=resume,
            about_run=about_run,
            terms=terms,
            on_progress=on_progress,
        )
    failed = list(failures(folder))
    tell_afterwards(results, folder, failed, quiet)
    return failed


def replay_study(folder: Path, jobs: int = 0) -> tuple[int, int]:
    """Do the study of a finished run once more, a hosted model being answered from the recording: nothing is sent.

    Returns how many rows came out the same, but for their seconds, and of how many. Raises SetupError where that cannot
    be, for files that have changed or a recording that is not there, and ReplayMiss for a request that is not in it.
    """
    given = Arguments.of_run(folder)
    task, warnings, files = task_of(given)
    outside, general = elsewhere(given, warnings, files)
    if changed := files_changed(read_run(folder), {"files": files}):
        raise SetupError(f"{changed} since {folder} was begun: put back what was, to replay it.")
    base = recorded_model(given, folder)
    learners, _ = study_arms(given, base, lambda name: recorded_model(replace(given, model=name), folder))
    with TemporaryDirectory() as again:
        seeds, there = range(given.seed, given.seed + given.seeds), Path(again) / "run"
        also = {"outside": outside, "general": general}
        compare(learners, task, given.labels or [], seeds, out=there, jobs=jobs, **also)  # type: ignore[arg-type]
        pairs = list(zip_longest(untimed(folder), untimed(Path(again) / "run")))
    return sum(a == b for a, b in pairs), len(pairs)


class Replayed(Wrapper):
    """A model in all but that it is never asked: a recording answers."""

    def __init__(self, backend: Backend, recorded: Recorded) -> None:
        super().__init__(backend)
        self.recorded = recorded

    async def around(self, requests: Sequence[Request], inner: Inner) -> Replies:
        return self.recorded.generate(requests)


def recorded_model(given: Arguments, folder: Path) -> Backend:
    """The model as the run in a folder had it: an engine of this machine, or what a recording answers."""
    base = unasked(given.model)
    if base.batched and getattr(base, "local", False):
        return base
    if (folder / FILE).exists():
        return Replayed(base, Recorded(folder))
    raise SetupError(f"{folder} holds no recording (no {FILE}) of {given.model}, and a replay asks no model anew.")


def untimed(folder: Path) -> Iterator[dict[str, Any]]:
    """A run's rows without what differs from one run to the next."""
    for row in read_lines(folder / "rows.jsonl"):
        yield {name: value for name, value in row.items() if name not in ("seconds", "latency")}


def too_long(base: Backend, prompt: Prompt, **sides: Sequence[Example]) -> list[str]:
    """A warning where texts alone have more tokens than a local model reads, which counts them itself."""
    context, count = getattr(base, "context_tokens", None), getattr(base, "count_tokens", None)
    if not base.batched or context is None or count is None:
        return []

    def over_it(example: Example) -> bool:
        chat = prompt.render(example.input)
        # a character takes four tokens at most, so that most texts need not be counted
        return 4 * sum(len(message.content) for message in chat) > context // 2 and bool(count(chat) >= context)

    over = {side: sum(map(over_it, examples)) for side, examples in sides.items()}
    told = [f"{n:,} of {len(sides[side]):,} {side} texts" for side, n in over.items() if n]
    return [
        f"{' and '.join(told)} are longer than the {context:,} tokens that the model reads: asked about, they fail and "
        "count as wrong; what is fine-tuned reads the end of each."
    ] * bool(told)


def smallest_difference(task: Task) -> float:
    return smallest_detectable_difference(len(set(clusters(task.test))))


@contextmanager
def resumable(folder: Path, command: str = "compare") -> Iterator[None]:
    """Whatever ends a run early is one line that says how to go on."""
    again = f"What was answered is kept; go on with: promptlab {command} --resume {shlex.quote(str(folder))}"
    try:
        yield
    except KeyboardInterrupt as stop:
        begun = (folder / "run.json").exists()
        raise PromptlabError(f"Stopped. {again}" if begun else "Stopped before anything was asked.") from stop
    except SetupError:
        raise
    except BudgetSpent as error:
        raise PromptlabError(f"{error} {again}{larger(error)}") from error
    except PromptlabError as error:
        raise PromptlabError(f"{error} {again}") from error
    except OSError as error:
        raise PromptlabError(f"{folder} cannot be written ({error.strerror or error}). {again}") from error


def larger(spent: BudgetSpent) -> str:
    """The option of twice what the next request takes in all, to be typed after the command that goes on."""
    match spent.reason.least:
        case "calls", least:
            return f" --calls {2 * least:.0f}"
        case "usd", least:
            return f" --budget-usd {math.ceil(200 * least) / 100:.2f}"
    return ""
