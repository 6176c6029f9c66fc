"""How a search ends: with a prompt and how it was found, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from promptlab.errors import SetupError
from promptlab.optimizers.acceptance import Verdict
from promptlab.optimizers.candidate import Candidate
from promptlab.prompt import Prompt

Event = dict[str, Any]
FEWEST_CONFIRMED = 10  # items of the last comparison, below which a run is refused


class Over(Exception):
    """The search ends here, and the prompt stays as it is: the reason."""


class Spent(Over):
    """What comes next is more than the calls that are left; what was found so far may still be confirmed."""


class TooFew(SetupError):
    """Fewer examples or calls than an honest comparison takes, which is `enough` of them."""

    def __init__(self, what: str, given: int, enough: int) -> None:
        super().__init__(
            f"{given:,} {what} are too few to tell a better prompt from luck: the last comparison alone asks the old "
            f"and the new prompt {FEWEST_CONFIRMED} fresh items each. Give {enough:,} or more."
        )
        self.what, self.enough = what, enough


@dataclass(frozen=True)
class Found:
    """What a search found, and why that is to be believed.

    `accepted` says whether `best` replaced the `seed`; `why` is the reason in words. `verdict` is that of the last
    comparison (None: there was none), `raced` the winner's and the seed's mean scores in the race: chosen by, and so
    flattered. `calls` are all calls, of which `proposals` were the proposer's; `rejected` counts proposals by the
    reason they were not tried. `events` tell all of it in order.
    """

    method: str
    seed: Candidate
    best: Candidate
    accepted: bool
    why: str
    verdict: Verdict | None
    raced: tuple[float, float] | None
    calls: int
    proposals: int
    candidates: tuple[Candidate, ...]
    rejected: Mapping[str, int]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Tuned(Prompt):
    """A prompt, and how it was found: `found`."""

    found: Found | None = field(default=None, compare=False, repr=False)


class TunedPrompts(dict[str, Prompt]):
    """The prompts of a program by their names, and how they were found: `found`."""

    found: Found


def tuned(found: Found) -> Any:
    """The prompt or prompts of the best candidate, as they were given, with how they were found."""
    prompts = found.best.prompts
    if isinstance(prompts, Prompt):
        return Tuned(**{each.name: getattr(prompts, each.name) for each in fields(Prompt)}, found=found)
    several = TunedPrompts(prompts)
    several.found = found
    return several
