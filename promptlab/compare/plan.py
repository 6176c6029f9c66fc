"""What a study will do: its cells, its examples, and the hash that a resumed run must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from typing import Any, NamedTuple, SupportsIndex

from promptlab.compare.processes import at_a_time, cores
from promptlab.compare.stable import stable
from promptlab.compare.wording import labels
from promptlab.errors import SetupError
from promptlab.learners.other_model import OfAnotherModel
from promptlab.learners.solver import CHOOSES, Learner, about
from promptlab.splits import clusters, label_budgets
from promptlab.task import Task, in_text
from promptlab.types import Example

LONGEST_NAME = 100  # of an arm, in bytes: it becomes part of a file's name


class Cell(NamedTuple):
    """One arm given one number of labels, drawn with one seed."""

    arm: str
    labels: int
    seed: int

    @property
    def file_name(self) -> str:
        """A path of a model, which an arm may be named after, would be one of folders."""
        return f"{self.arm.replace('/', '%2F')}--{self.labels}--{self.seed}.jsonl"

    def __str__(self) -> str:
        return f"{self.arm} with {labels(self.labels)}, seed {self.seed}"


class Part(NamedTuple):
    """Some of what a cell is asked: "test", "outside", or the general set "before" or "after" tuning."""

    name: str
    items: tuple[Example, ...]


@dataclass(frozen=True)
class Plan:
    """A study, fully determined: who learns from what, and what all are asked."""

    task: Task
    arms: Mapping[str, Learner]
    ks: tuple[int, ...]
    seeds: tuple[int, ...]
    outside: tuple[Example, ...] = ()  # a test from outside the data set, asked of the same solvers
    general: Task | None = None  # whose test is asked of a model before and after it is tuned
    threads: int = 1  # of PyTorch in each process

    def __post_init__(self) -> None:
        for wrong, why in self._problems():
            if wrong:
                raise SetupError(f"This study cannot be run: {why}.")
        if max(self.ks) > len(self.task.train):
            raise SetupError(
                f"A budget of {max(self.ks)} labels was asked for, but only {len(self.task.train)} labelled examples "
                f"are left for training ({len(self.task.test)} are held back for the test). Ask for fewer, or bring "
                "more."
            )
        if not self.cells():
            raise SetupError("Every arm of this study needs labels, but the only budget is 0. Add a larger one.")

    def _problems(self) -> Iterable[tuple[bool, str]]:
        names, ks, seeds = list(self.arms), list(self.ks), list(self.seeds)
        odd = [n for n in names if not n.isprintable() or "%2F" in n or not 0 < len(n.encode()) <= LONGEST_NAME]
        odd += [n for n, learner in self.arms.items() if "/" in n and not isinstance(learner, OfAnotherModel)]
        ids = [e.id for e in (*self.task.test, *self.outside)]
        strange = sorted({str(e.target) for e in self.outside} - {*self.task.labels}) if self.task.labels else []
        twice = next((i for i in ids if ids.count(i) > 1), "") if len(set(ids)) < len(ids) else ""
        targets = [e.target for e in (*self.task.train, *self.task.test)]
        unlike = next((f"a {type(t).__name__}: {t!r}" for t in targets if not isinstance(t, str | int | float)), "")
        choosing = next((name for name, learner in self.arms.items() if getattr(learner, "classifies", False)), "")
        yield not names, "there are no arms to compare"
        yield bool(choosing) and len(self.task.labels) < 2, f"{choosing} {CHOOSES}"
        yield bool(odd), f"arms are called by 1 to {LONGEST_NAME} printable characters without '/', got {odd}"
        known = [about(learner, name)["family"] for name, learner in self.arms.items()]
        yield (
            bool(known) and not {*known} - {"control", "another model"},
            ("its arms are controls or of another model only; add one that they can be compared with"),
        )
        yield not ks or min(ks) < 0, f"label budgets are 0 or more, got {ks}"
        yield len(set(ks)) < len(ks), f"a label budget stands twice in {ks}"
        yield not seeds, "it takes at least one seed"
        yield len(set(seeds)) < len(seeds), f"seeds must differ, got {seeds}"
        yield bool(seeds) and not 0 <= min(seeds) <= max(seeds) < 2**32, f"seeds lie in 0 … 2³² - 1, got {seeds}"
        yield bool(unlike), f"targets are text, numbers, True or False, got {unlike}"
        yield bool(strange), f"its test from outside has labels that the data do not have: {', '.join(strange)}"
        yield bool(twice), f"two test items have the id {twice!r}"

    def cells(self) -> list[Cell]:
        """Every arm at every budget and seed. With no labels: no arm that needs some, once one that draws nothing."""
        return [
            Cell(name, k, seed)
            for name, said in self._said.items()
            for k in self.ks
            if k or not said["needs_labels"]
            for seed in (self.seeds if k or said["draws_without_labels"] else self.seeds[:1])
        ]

    def examples(self, k: int, seed: int) -> tuple[Example, ...]:
        """The k labelled examples that every arm gets with this seed; a larger budget holds the smaller ones."""
        return self._drawn[seed][k]

    def shown(self, k: int, seed: int) -> Task:
        """The task as a learner gets it: its k examples are all the labels in it, those of the test are None."""
        return replace(self.task, train=self.examples(k, seed), test=self._asked)

    @cached_property
    def _said(self) -> dict[str, dict[str, Any]]:
        return {name: about(learner, name) for name, learner in self.arms.items()}

    @cached_property
    def _drawn(self) -> dict[int, dict[int, tuple[Example, ...]]]:
        return {seed: label_budgets(self.task.train, self.ks, seed) for seed in self.seeds}

    @cached_property
    def _asked(self) -> tuple[Example, ...]:
        return tuple(replace(e, target=None) for e in self.task.test)

    @cached_property
    def test_clusters(self) -> list[int]:
        """The number of the cluster of every test item: items that share a text or a group are in one."""
        return clusters(self.task.test)

    def parts(self, cell: Cell) -> list[Part]:
        """All that a cell is asked, in order: the test, the one from outside, the general set before and after."""
        found = [Part("test", self.task.test), Part("outside", self.outside)]
        if self.general is not None and getattr(self.arms[cell.arm], "stays_general", False):
            for when in ("before", "after"):
                items = (replace(e, id=f"{when}:{e.id}") for e in self.general.test)
                found.append(Part(when, tuple(items)))
        return found

    def task_of(self, part: Part) -> Task:
        return self.general if part.name in ("before", "after") and self.general is not None else self.task

    def clusters_of(self, part: Part) -> list[int]:
        return self.test_clusters if part.name == "test" else clusters(part.items)

    def n_asked(self, cell: Cell) -> int:
        return sum(len(part.items) for part in self.parts(cell))

    def told(self) -> dict[str, str]:
        """The data by their hashes, as run.json has them before anything is asked: both sides, and what is drawn."""
        drawn = [[seed, data_sha256(self.examples(self.ks[-1], seed))] for seed in self.seeds]
        return {
            "train_sha256": data_sha256(self.task.train),
            "test_sha256": data_sha256(self.task.test),
            **({"outside_sha256": data_sha256(self.outside)} if self.outside else {}),
            **({"general_sha256": data_sha256(self.general.test)} if self.general else {}),
            "drawn_sha256": hashlib.sha256(json.dumps(drawn).encode()).hexdigest(),
        }

    def absent(self, cell: Cell) -> list[str]:
        """The labels that none of a cell's examples has; without examples that is nothing to tell."""
        there = {str(e.target) for e in self.examples(cell.labels, cell.seed)}
        return [label for label in self.task.labels if label not in there] if cell.labels else []

    def digest(self) -> str:
        """A hash of all that decides the rows: the data, the arms and how they are set up, budgets, seeds."""
        said = {
            "prompt": [self.task.prompt.instruction, list(self.task.labels), stable(self.task.prompt.output)],
            "score": stable(self.task.score),
            "train": [[e.id, e.input, str(e.target), e.group] for e in self.task.train],
            "test": [[e.id, e.input, str(e.target), e.group] for e in self.task.test],
            "arms": [about | {"is": stable(self.arms[name])} for name, about in self._said.items()],
            "ks": list(self.ks),
            "seeds": list(self.seeds),
        }
        if self.outside:
            said["outside"] = data_sha256(self.outside)
        if self.general is not None:
            said["general"] = [self.general.prompt.instruction, data_sha256(self.general.test)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def data_sha256(examples: Iterable[Example]) -> str:
    """A hash of ids, texts, targets and groups, in their order."""
    said = [[e.id, e.input, str(e.target), e.group] for e in examples]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def planned(
    task: Task,
    arms: Mapping[str, Learner],
    ks: Iterable[SupportsIndex],
    seeds: Iterable[SupportsIndex] | SupportsIndex,
    outside: Iterable[Example] = (),
    general: Task | None = None,
) -> Plan:
    """A plan from what a caller gives. A number of seeds means 0, 1, …; test items without an id get one.

    PyTorch has the cores that are left where memory has no room for a process on each.
    """
    if not isinstance(arms, Mapping):
        raise SetupError(f'Arms are a mapping of names to learners, {{"few-shot": in_context(model)}}, got {arms!r}.')
    test = tuple(e if e.id else replace(e, id=f"test:{at + 1}") for at, e in enumerate(task.test))
    chosen = range(index(seeds)) if isinstance(seeds, SupportsIndex) else whole_numbers(seeds, "Seeds")
    beyond = tuple(replace(e, id=f"outside:{e.id or at + 1}") for at, e in enumerate(in_text(outside)))
    if general is not None:
        numbered = tuple(replace(e, id=f"general:{at + 1}") for at, e in enumerate(general.test))
        general = replace(general, test=numbered)
    budgets = tuple(sorted(whole_numbers(ks, "Label budgets")))
    threads = max(1, cores() // at_a_time(arms.values()))
    return Plan(replace(task, test=test), dict(arms), budgets, tuple(chosen), beyond, general, threads)


def whole_numbers(given: Iterable[SupportsIndex], what: str) -> tuple[int, ...]:
    try:
        return tuple(map(index, given))
    except TypeError as error:
        raise SetupError(f"{what} are whole numbers in a list, (0, 8, 32) for instance; got {given!r}.") from error
