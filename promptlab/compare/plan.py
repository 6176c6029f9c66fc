"""What a study will do: its cells, its examples, and the hash that a resumed run must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from promptlab.compare.splits import clusters, label_budgets
from promptlab.errors import SetupError
from promptlab.learners.solver import Learner, about
from promptlab.task import Task
from promptlab.types import Example


class Cell(NamedTuple):
    """One arm given one number of labels, drawn with one seed."""

    arm: str
    labels: int
    seed: int

    @property
    def file_name(self) -> str:
        return f"{self.arm}--{self.labels}--{self.seed}.jsonl"


@dataclass(frozen=True)
class Plan:
    """A study, fully determined: who learns from what, and what all are asked."""

    task: Task
    arms: Mapping[str, Learner]
    ks: tuple[int, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        problems = (
            (not self.arms, "no arms to compare"),
            (not self.ks or min(self.ks) < 0, f"label budgets are 0 or more, got {list(self.ks)}"),
            (len(set(self.ks)) < len(self.ks), f"a label budget stands twice in {list(self.ks)}"),
            (not self.seeds or len(set(self.seeds)) < len(self.seeds), f"seeds must differ, got {list(self.seeds)}"),
            (
                any("/" in name or not name for name in self.arms),
                f"arm names may not be empty or hold '/': {list(self.arms)}",
            ),
        )
        for wrong, why in problems:
            if wrong:
                raise SetupError(f"This study cannot be run: {why}.")
        if max(self.ks) > len(self.task.train):
            raise SetupError(
                f"A budget of {max(self.ks)} labels was asked for, but only {len(self.task.train)} labelled examples are "
                f"left for training ({len(self.task.test)} are held back for the test). Ask for fewer, or bring more."
            )

    def cells(self) -> list[Cell]:
        """Every arm at every budget and seed, but no arm that needs labels at none of them."""
        return [
            Cell(name, k, seed)
            for name, learner in self.arms.items()
            for k in self.ks
            for seed in self.seeds
            if k or not about(learner, name)["needs_labels"]
        ]

    def examples(self, k: int, seed: int) -> tuple[Example, ...]:
        """The k labelled examples that every arm gets with this seed; a larger budget holds the smaller ones."""
        return label_budgets(self.task.train, self.ks, seed)[k]

    def digest(self) -> str:
        """A hash of all that decides the answers: the data, the arms and how they are set up, budgets, seeds."""
        return hashlib.sha256(
            json.dumps(
                {
                    "prompt": [self.task.prompt.instruction, list(self.task.labels)],
                    "train": [[e.id, e.input, str(e.target)] for e in self.task.train],
                    "test": [[e.id, e.input] for e in self.task.test],
                    "arms": [about(learner, name) | {"is": described(learner)} for name, learner in self.arms.items()],
                    "ks": list(self.ks),
                    "seeds": list(self.seeds),
                },
                sort_keys=True,
            ).encode()
        ).hexdigest()

    def test_clusters(self) -> list[int]:
        return clusters(self.task.test)


def described(learner: Any) -> str:
    """A learner's own words for its settings, with the hash of the weights it starts from."""
    base = getattr(learner, "base", None)
    weights = getattr(base, "weights_sha256", "")
    settings = {k: getattr(v, "__qualname__", repr(v)) for k, v in vars(learner).items() if k != "base"}
    name = getattr(learner, "__qualname__", type(learner).__qualname__)
    return f"{name} {sorted(settings.items())} {weights}"


def planned(task: Task, arms: Mapping[str, Learner], ks: Iterable[int], seeds: Iterable[int] | int) -> Plan:
    """A plan from what a caller gives; a number of seeds means 0, 1, …"""
    chosen: Sequence[int] = range(seeds) if isinstance(seeds, int) else tuple(seeds)
    return Plan(task, dict(arms), tuple(sorted(ks)), tuple(chosen))
