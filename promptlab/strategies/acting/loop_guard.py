"""Agents that go round in circles, or write what cannot be read, are told so once, and stopped then."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NUDGE = "Note: that is the same action with the same result as before. Do something else, or give your answer."


class Step(NamedTuple):
    """What was done in a turn, and what came of it."""

    action: Hashable
    observed: Hashable


class Verdict(NamedTuple):
    """Whether the model is to be nudged, and the reason to stop, if there is one."""

    nudge: bool = False
    stop: str | None = None


@dataclass(slots=True)
class Guard:
    """Watches the steps of one run. `repeats` and `malformed` are how often running is too often; 0: nothing is.

    The first circle is worth a nudge; the next one, which may be the same going on, ends the run.
    """

    repeats: int = 3
    malformed: int = 3
    nudged: bool = False
    steps: list[Step] = field(default_factory=list)
    unread: int = 0

    def note(self, action: Hashable, observed: Hashable, *, readable: bool = True) -> Verdict:
        self.steps.append(Step(action, observed))
        self.unread = 0 if readable else self.unread + 1
        if self.malformed and self.unread >= self.malformed:
            return Verdict(stop=f"no action that could be carried out, {self.unread} times running")
        circle = circling(self.steps, self.repeats) if self.repeats else None
        if circle is None or self.nudged:
            return Verdict(stop=circle)
        self.nudged = True
        return Verdict(nudge=True)


def circling(steps: Sequence[Step], repeats: int) -> str | None:
    """The circle that steps end in: one of them `repeats` times running, or two in turn (A B A B); None for neither."""
    if len(steps) >= repeats and len(set(steps[-repeats:])) == 1:
        return "the same action had the same result again and again"
    if len(steps) >= 4 and list(steps[-4:-2]) == list(steps[-2:]) and steps[-2] != steps[-1]:
        return "the same two actions took turns, with the same results"
    return None
