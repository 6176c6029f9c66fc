"""A run's results as one JSON value: the sentence, the evidence for it, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from promptlab.compare.opened import told_of_elsewhere
from promptlab.compare.optimizing.difference import difference
from promptlab.compare.optimizing.fragility import Fragility
from promptlab.compare.optimizing.models import Models
from promptlab.compare.optimizing.reporter import Tested
from promptlab.compare.optimizing.scores import Look, Scores, candidates_of, failures_of, races_of
from promptlab.compare.wording import counted, number, shown
from promptlab.optimizers.acceptance import smallest_gain
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.concluding import TOO_MANY_FAILED
from promptlab.optimizers.found import Found
from promptlab.optimizers.proposing import copies
from promptlab.optimizers.sections import Sections, sections

if TYPE_CHECKING:
    from promptlab.compare.optimizing.run import Planned

Json = dict[str, Any]
LONGER = 2.0  # times the seed's length, and so many characters more, above which a prompt's growth is told
AT_LEAST = 400


def results_of(
    plan: Planned,
    found: Found,
    test: Tested,
    models: Models,
    shuffled: Found | None,
    fragility: Fragility | str | None,
    run: Mapping[str, Any],
) -> Json:
    """All that the report shows."""
    scores = Scores(found.events)
    challenger = scores.challenger
    raced = scores.look(challenger, found.seed.key, False) if challenger else None
    confirmed = scores.look(challenger, found.seed.key, True) if challenger else None
    looks = looks_of(raced, confirmed, test, found.accepted)
    control = None if shuffled is None else control_of(shuffled)
    told = {key: value for key, value in asdict(test).items() if key != "rows"}
    spent = {"task": models.task.told, "proposer": models.proposer.told}
    priced = all(each["usd"] is not None for each in spent.values())
    results: Json = {
        "accepted": found.accepted,
        "why": found.why,
        "method": found.method,
        "test": told,
        "looks": looks,
        "optimism": optimism(raced, test, found.accepted),
        "last_comparison": None if found.verdict is None else found.verdict._asdict(),
        "smallest_gain": smallest_gain(found.verdict.n if found.verdict else plan.plan["confirm"], plan.given.alpha),
        "plan": plan.plan,
        "calls": {"searched": found.calls, "proposals": found.proposals, **plan.calls._asdict()},
        "spent": {**spent, "sent": models.budget.spent.calls},
        "spent_usd": models.budget.usd if priced else None,
        "candidates": candidates_of(found, scores),
        "best": found.best.key,
        "challenger": challenger,
        "seed": found.seed.key,
        "races": races_of(found.events, found.seed.key),
        "rejected": dict(sorted(found.rejected.items(), key=lambda each: -each[1])),
        "failures": failures_of(found.events),
        "prompts": {"seed": found.seed.told, "final": found.best.told},
        "difference": difference(found.seed.slot(), found.best.slot()),
        "control": control,
        "fragility": fragility.told() if isinstance(fragility, Fragility) else None,
        "run": {key: value for key, value in run.items() if key != "finished"},
    }
    parts = sections(plan.material.task.train, found.seed.slot(), plan.given.seed, plan.given.shares)
    results["alarms"] = list(alarms(found, parts, looks, control, run, test.n))
    results["alarms"] += [fragility] if isinstance(fragility, str) else []
    return {"sentence": sentence(found, test), **results}


def sentence(found: Found, test: Tested) -> str:
    """What came of it, in a sentence that claims no more than the test shows."""
    if max(test.failed.values()) > TOO_MANY_FAILED * test.n:
        why = next(row[who]["why"] for row in test.rows for who in ("seed", "final") if row[who]["failed"])
        failed = max(test.failed.values())
        return (
            f"Nothing is known: {failed:,} of {test.n:,} test items were not answered ({why}). The search: {found.why}."
        )
    if not found.accepted or test.difference is None:
        right = f"It is right on {shown(test.seed)} of {counted(test.n, 'test item')}."
        return f"Keep the prompt you have: {found.why}. {right}"
    said, n = shown(test.difference, sign=True), f"{counted(test.n, 'test item')} that nothing was chosen by"
    if test.n_clusters < test.n:
        n += f", in {counted(test.n_clusters, 'group')}"
    p = "p < 0.001" if test.p < 0.001 else f"p = {test.p:.3f}"
    if (clear := test.difference.excludes_zero) == (test.p >= 0.05):
        p += f", which alone would {'not call it' if clear else 'call it'} at 0.05"
    if test.difference.low > 0:
        return f"The new prompt is better: {said} in accuracy on {n} ({p})."
    if test.difference.high < 0:
        return f"Do not use the new prompt: though it won in the search, it is worse on {n}, by {said} ({p})."
    return (
        f"The new prompt won on the search's fresh items, but the test does not show it: {said} on {n} ({p}), where "
        f"differences under {number(test.detectable)} are likely to go unseen."
    )


def looks_of(raced: Look | None, confirmed: Look | None, test: Tested, accepted: bool) -> list[Json]:
    """The gain over the seed, look after look: chosen by, then fresh, then the test."""
    named = (("race", raced), ("last comparison", confirmed))
    looks = [{"of": name, **look._asdict(), "gain": look.gain} for name, look in named if look is not None]
    if accepted and test.difference is not None:
        on_test = {"of": "test", "n": test.n, "candidate": test.final.value, "seed": test.seed.value}
        looks.append({**on_test, "gain": test.difference.value})
    return looks


def optimism(raced: Look | None, test: Tested, accepted: bool) -> float | None:
    """By how much the score that the winner was chosen by lies above that on the test."""
    return raced.candidate - test.final.value if raced is not None and accepted else None


def control_of(found: Found) -> Json:
    """What the same search gained where labels were shuffled."""
    scores = Scores(found.events)
    raced = scores.look(scores.challenger, found.seed.key, False) if scores.challenger else None
    verdict = found.verdict
    return {
        "accepted": found.accepted,
        "why": found.why,
        "raced_gain": None if raced is None else raced.gain,
        "gain": None if verdict is None else verdict.gain,
        "p": None if verdict is None else verdict.p,
        "n": 0 if verdict is None else verdict.n,
    }


def alarms(
    found: Found, parts: Sections, looks: list[Json], control: Json | None, run: Mapping[str, Any], n_test: int
) -> Iterator[str]:
    """What speaks against the found prompt, a sentence each."""
    before, after = found.seed.slot(), found.best.slot()
    if found.accepted and copies(after.instruction, before.instruction, parts.feed):
        yield "The instruction copies an example that the proposer was shown (five words in a row, or an answer)."
    if found.accepted and found.best.length > LONGER * found.seed.length + AT_LEAST and after.shots == before.shots:
        longer = f"{found.seed.length:,} to {found.best.length:,} characters"
        yield f"The prompt has grown from {longer}; every call pays for that."
    gains = {look["of"]: look["gain"] for look in looks}
    if {"race", "test"} <= gains.keys() and gains["race"] - gains["test"] > max(0.05, gains["race"] / 3):
        said = f"{number(gains['race'], True)} in the race and {number(gains['test'], True)} on the test"
        yield f"Much of the gain was luck of the search: {said}."
    if "last comparison" in gains and gains.get("test", 1.0) <= 0 < gains["last comparison"]:
        yield "The last comparison's gain is not there on the test: is that like the examples that were searched on?"
    for finding in run.get("lint") or ():
        if finding["kind"] in ("overlap", "groups across"):
            yield f"Scores on the test may be too high: {finding['message']}"
    if control is not None and control["accepted"]:
        yield "With shuffled labels the same search found an improvement too, where there was nothing to find."
    if (openings := len(run.get("test_openings", ()))) > 1:
        yield (
            f"The test was opened {openings} times (see below). That is harmless after an interruption, but nothing "
            "may be chosen by what it said."
        )
    if told := told_of_elsewhere(run, n_test):
        yield told
    yield from length_of_shots(found.seed, found.best)


def length_of_shots(seed: Candidate, best: Candidate) -> Iterator[str]:
    if (more := len(best.slot().shots) - len(seed.slot().shots)) > 0:
        characters = f"{seed.length:,} to {best.length:,} characters"
        yield f"{more} more demonstration{'s' * (more > 1)} make the prompt longer, from {characters} a call."
