"""What decides a run of `promptlab optimize`, and what its files hold."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.compare import study
from promptlab.compare.data.textfile import plain_name
from promptlab.compare.runner import read_run
from promptlab.compare.study import Source, read_source
from promptlab.equality import as_text
from promptlab.errors import SetupError
from promptlab.optimizers import OPTIMIZERS
from promptlab.optimizers.found import TooFew
from promptlab.optimizers.optimizer import Optimizer, check_value
from promptlab.optimizers.sections import check_shares
from promptlab.prompt import Prompt
from promptlab.splits import split
from promptlab.strategies import STRATEGIES
from promptlab.task import Task
from promptlab.types import Example

OUTPUTS = ("classification", "text")
SEARCH_CALLS = 2_000  # where no --calls say how many of all there may be
FOR_THE_TEST = 0.25  # of the calls, at most
FOR_TRIES = 0.05  # of the calls, for tries that fail and are repeated
FRAGILITY_CALLS = 500
OWN = {"solve", "calls", "seed", "alpha", "observe"}  # options of a search that are the command's


@dataclass(frozen=True)
class Arguments:
    """All that decides a run's result, as written into run.json and read back by --resume.

    `calls` are the most of all, those for the test, the control and tries that fail among them, but for what a check
    of `fragility` takes; None: as many as SEARCH_CALLS for a search, and what the test takes. `options` are those of
    the method and of the search, by their names.
    """

    file: str
    test: str | None = None
    text: str = "text"
    label: str = "label"
    group: str | None = None
    test_share: float = 0.3
    test_items: int = 0
    format: str | None = None
    header: bool = True
    output: str = "classification"
    instruction: str = ""
    method: str = "ape"
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "tiny"
    proposer: str | None = None
    strategy: str | None = None
    calls: int | None = None
    budget_usd: float | None = None
    alpha: float = 0.05
    control: bool = False
    fragility: bool = False
    local_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in OPTIMIZERS:
            apart = " `promptlab duels` is a command of its own." if self.method == "duels" else ""
            raise SetupError(f"Unknown method {self.method!r}. Known: {', '.join(OPTIMIZERS)}.{apart}")
        if self.output not in OUTPUTS:
            raise SetupError(f"--output is {' or '.join(OUTPUTS)}, got {self.output!r}.")
        if self.strategy is not None and self.strategy not in STRATEGIES:
            raise SetupError(f"Unknown strategy {self.strategy!r}. Known: {', '.join(STRATEGIES)}.")
        self._check_options()

    def _check_options(self) -> None:
        """Before a folder is made: are they the method's, and not the command's own?"""
        parameters = signature(self.optimizer).parameters
        known = set(parameters) - {"prompt", "examples", "score"} - OWN
        if own := sorted(self.options.keys() & OWN):
            raise SetupError(f"--option {own[0]}: the command has its own option for that.")
        if unknown := sorted(self.options.keys() - known):
            raise SetupError(f"{self.method} has no option {unknown[0]}. Its options: {', '.join(sorted(known))}.")
        for name in sorted(known):
            default = parameters[name].default
            if name in self.options:
                check_value(f"--option {name}", self.options[name], default)
            elif default is Parameter.empty:
                raise SetupError(f"{self.method} takes {name}: give --option {name}=…, or {name}=@FILE.")

    @classmethod
    def of_run(cls, folder: Path) -> Arguments:
        """The arguments of the run in a folder."""
        run = read_run(folder)
        if run.get("kind") != "optimize":
            raise SetupError(f"{folder} holds no run of `promptlab optimize`.")
        try:
            return cls(**run["arguments"])
        except TypeError as error:
            raise SetupError(f"{folder} was begun by another version of promptlab: choose another --out.") from error

    @property
    def optimizer(self) -> Optimizer:
        return OPTIMIZERS[self.method]

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the examples: those that proposers read, of the races, and of the last comparison."""
        shares = self.options.get("shares", signature(self.optimizer).parameters["shares"].default)
        check_shares(shares)
        feed, race, confirm = shares
        return feed, race, confirm


class Material(NamedTuple):
    """The task that the files hold, with what is odd about them, and their hashes."""

    task: Task
    warnings: list[str]
    files: dict[str, str]


class Calls(NamedTuple):
    """How the calls are divided: those that the search may make, and its control as many, those for the test, and the
    most of all together."""

    search: int
    test: int
    most: int | None


def same_text(answer: Any, target: Any) -> float:
    """1 for the target but for case, articles and punctuation, numbers as numbers; else 0."""
    return float(answer is not None and as_text(answer) == as_text(target))


def material(given: Arguments) -> Material:
    """What the files hold, the test split off before anything else happens; it is the reporter's alone."""
    free = given.output == "text"
    source = source_of(given, given.file, free)
    warnings, files = list(source.warnings), {source.file: source.sha256}
    if given.test is not None:
        held_back = source_of(given, given.test, True)
        warnings += [f"{held_back.file}: {warning}" for warning in held_back.warnings]
        files |= {held_back.file if held_back.file not in files else "test: " + held_back.file: held_back.sha256}
        train, test = source.examples, held_back.examples
    else:
        train, test = divided(source.examples, free, test_share=given.test_share, seed=given.seed)
    most = min(given.test_items or len(test), max(1, divide(given, len(test)).test // 2))
    if most < len(test):
        _, asked = divided(test, free, test_size=most, at_most=True, seed=given.seed)
        warnings.append(f"{len(asked)} of {len(test)} test items are asked, drawn by class and whole groups.")
        test = asked
    name, (instruction, frame) = plain_name(Path(given.file)).stem, placed(given.instruction, given.text)
    if free:
        return Material(Task(name, Prompt(instruction, str, frame=frame), train, test, same_text), warnings, files)
    task = Task.classification(name, train, test, instruction)
    return Material(replace(task, prompt=replace(task.prompt, frame=frame)), warnings, files)


def placed(template: str, column: str) -> tuple[str, tuple[str, str]]:
    """An instruction, and what stands around an input, of a text with {{ text }} or {{ column }} in the input's place.

    What comes before the line of that place is the instruction; a text without such a place is nothing else. Raises
    SetupError for several.
    """
    places = re.findall(rf"\{{\{{\s*(?:text|{re.escape(column)})\s*\}}\}}", template)
    if not places:
        return template, ("", "")
    if len(places) > 1:
        raise SetupError(f"An instruction has one place for the input, got {len(places)}: {', '.join(places)}.")
    before, after = template.split(places[0])
    instruction, _, line = before.rpartition("\n")
    return instruction.strip(), (line, after.rstrip())


def source_of(given: Arguments, file: str, for_test: bool) -> Source:
    """A file's examples. Free answers differ from row to row, as only a test's may."""
    shared = {name: getattr(given, name) for name in ("text", "label", "group", "format", "header")}
    return read_source(study.Arguments(file, **shared), file, for_test=for_test)


def divided(examples: tuple[Example, ...], free: bool, **how: Any) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The two sides of a split. Free answers are no classes, of which each side should have some."""
    numbered = [replace(e, id=str(i), target="" if free else e.target) for i, e in enumerate(examples)]
    train, test = (tuple(examples[int(e.id)] for e in side) for side in split(numbered, **how))
    return train, test


@contextmanager
def told_of_all(given: Arguments) -> Iterator[None]:
    """In it, what is too few for a search is told as what the command takes in all, the test's part among it."""
    try:
        yield
    except TooFew as few:
        if few.what == "calls" and given.calls is not None:
            asked = [divide(replace(given, calls=n), int(FOR_THE_TEST * n) // 2) for n in range(4 * few.enough + 10)]
            enough = 1 + max(n for n, each in enumerate(asked) if each.search < few.enough)  # more is not always better
            said = (
                f"{given.calls:,} --calls are too few for an honest comparison and a test: give {enough:,} or more, or "
                f"{3 * enough:,}, as most methods need for proposals and races, too."
            )
        elif few.what != "calls" and given.test is None:
            enough = next(n for n in itertools.count() if n - round(n * given.test_share) >= few.enough)
            said = f"{few} With those kept for the test that is {enough:,} in all."
        else:
            raise
        raise SetupError(said) from few


def divide(given: Arguments, n_test: int) -> Calls:
    """The calls of a run: the test has to be affordable, whatever the search does."""
    wanted = 2 * n_test
    if given.calls is None:
        return Calls(SEARCH_CALLS, wanted, None)
    test = min(wanted, int(FOR_THE_TEST * given.calls))
    search = (given.calls - test - int(FOR_TRIES * given.calls)) // (1 + given.control)
    return Calls(search, test, given.calls + FRAGILITY_CALLS * given.fragility)
