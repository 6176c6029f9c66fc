"""What a search's events say of its candidates: scores by item, race after race, and how they descend."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from promptlab.optimizers.found import Found

Event = Mapping[str, Any]


class Look(NamedTuple):
    """A candidate beside the seed on the items that both were asked; `n` of them."""

    n: int
    candidate: float
    seed: float

    @property
    def gain(self) -> float:
        return self.candidate - self.seed


class Scores:
    """The mean score over repeats of each candidate on each item where an answer was to be had, and which items were of
    the last comparison."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = tuple(events)
        told: dict[tuple[str, int], list[float]] = defaultdict(list)
        for event in self.events:
            if event["event"] == "scored" and not event["lost"]:
                told[event["candidate"], event["item"]].append(event["score"])
        self.on = {key: math.fsum(scores) / len(scores) for key, scores in told.items()}
        last = next((e for e in self.events if e["event"] == "confirmed"), None)
        self.challenger: str | None = last["candidate"] if last else None
        self.confirmed = frozenset(last["items"] if last else ())

    def items(self, candidate: str) -> dict[int, float]:
        return {item: score for (key, item), score in self.on.items() if key == candidate}

    def look(self, candidate: str, seed: str, confirmed: bool) -> Look | None:
        """Both on the items of the last comparison that were answered, or on all others; None where there are none."""
        one, other = self.items(candidate), self.items(seed)
        both = [item for item in one if item in other and (item in self.confirmed) == confirmed]
        if not both:
            return None
        return Look(
            len(both), math.fsum(one[i] for i in both) / len(both), math.fsum(other[i] for i in both) / len(both)
        )

    def mean(self, candidate: str) -> tuple[int, float | None]:
        """How many items a candidate answered in the search, and its mean there: chosen by, and so flattered."""
        scores = [score for item, score in self.items(candidate).items() if item not in self.confirmed]
        return len(scores), math.fsum(scores) / len(scores) if scores else None


def candidates_of(found: Found, scores: Scores) -> list[dict[str, Any]]:
    """Every candidate, in the order they came, with what it comes from and how it did."""
    told = []
    for each in found.candidates:
        n, mean = scores.mean(each.key)
        prompt = each.slot()
        about = {"key": each.key, "op": each.op, "parents": list(each.parents), "n": n, "mean": mean}
        told.append({**about, "instruction": prompt.instruction, "shots": len(prompt.shots), "length": each.length})
    return told


def races_of(events: Sequence[Event], seed: str) -> list[dict[str, Any]]:
    """Each round of each race: how many were in it, on how many items, and the best, middle and seed's means."""
    told = []
    for event in events:
        if event["event"] == "raced":
            means = sorted(event["means"].values(), reverse=True)
            about = {"lap": event["lap"], "items": event["items"], "candidates": len(means), "calls": event["calls"]}
            told.append({**about, "best": means[0], "middle": means[len(means) // 2], "seed": event["means"].get(seed)})
    return told


def failures_of(events: Iterable[Event]) -> dict[str, int]:
    """Requests of the search that nobody answered, by what was said, the most frequent first."""
    counts: dict[str, int] = {}
    for event in events:
        if event["event"] == "scored" and event["failed"]:
            counts[str(event["why"])[:200]] = counts.get(str(event["why"])[:200], 0) + 1
        for why in event.get("failed", ()) if event["event"] == "asked" else ():
            counts[f"proposer: {why}"[:200]] = counts.get(f"proposer: {why}"[:200], 0) + 1
    return dict(sorted(counts.items(), key=lambda each: -each[1]))
