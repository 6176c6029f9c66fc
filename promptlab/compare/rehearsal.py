"""What a study would take, before anything is asked: its programs run on a stand-in that counts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.backends import unasked
from promptlab.backends.wrappers.worst import most_read, most_usd, most_written, usd_of
from promptlab.compare.cellfile import settled
from promptlab.compare.data.lint import lint
from promptlab.compare.plan import planned
from promptlab.compare.study import (
    Arguments,
    check_local,
    elsewhere,
    smallest_difference,
    study_arms,
    task_of,
    too_long,
    with_labels,
)
from promptlab.compare.telling import tell_beforehand
from promptlab.errors import ModelError, SetupError
from promptlab.learners import Learner, OfAnotherModel, arms_named, arms_of_another_model
from promptlab.learners.baselines import Majority
from promptlab.learners.optimized import Optimized
from promptlab.learners.solver import about
from promptlab.program import attempt
from promptlab.runners import run
from promptlab.types import Backend, Reply, Request, Usage

ITEMS = 8  # test items of a cell that an engine here counts the tokens of; the rest is taken to be like them
BYTES_A_TOKEN = 4  # of English, about
A_REPLY = 128  # tokens, where a request does not say how many at most
OF_ANY_LENGTH = "(and so on, without end) "  # what stands in replies that nothing bounds


class Estimate(NamedTuple):
    """Calls, and tokens read, tokens written and dollars: each about, and at most.

    What nothing bounds is infinite, and dollars are None where the price is not known. `searching` are those of the
    calls that searches for prompts may make, which is a bound; `again` are those that ask what was asked before, which
    a run's cache may answer.
    """

    calls: float = 0
    read: float = 0
    most_read: float = 0
    written: float = 0
    most_written: float = 0
    usd: float | None = 0.0
    most_usd: float | None = 0.0
    searching: float = 0
    again: float = 0

    def __str__(self) -> str:
        read = f"about {self.read:,.0f} tokens ({bound(self.most_read)})"
        written = f"about {self.written:,.0f} ({bound(self.most_written)})"
        endless = " Calls of these arms do not say how much may be written." if self.most_written == math.inf else ""
        found = f" (up to {self.searching:,.0f} of them to search for prompts)" if self.searching else ""
        tokens = f"read {read} and write {written}"
        most = "at most " if self.again else ""
        return f"It would take {most}{self.calls:,.0f} calls{found} that {tokens}: {self._money()}.{endless}"

    def _money(self) -> str:
        if self.usd is None or self.most_usd is None:
            return "the price of the model is not known"
        about = dollars(self.usd)
        if self.most_usd == math.inf:
            return f"about {about}, without a bound"
        most = dollars(self.most_usd)
        return about if about == most else f"{about} to {most}"

    def __add__(self, other: Any) -> Estimate:
        return Estimate._make(None if None in both else sum(both) for both in zip(self, other, strict=True))

    def times(self, n: float) -> Estimate:
        return Estimate._make(None if each is None else n * each for each in self)


def bound(most: float) -> str:
    return f"{most:,.0f} at most" if most < math.inf else "without a bound"


def dollars(usd: float) -> str:
    """An amount that is not free never looks as if it were."""
    return "$0" if not usd else "under $0.01" if usd < 0.01 else f"${math.ceil(round(usd * 100, 6)) / 100:,.2f}"


class StandIn:
    """Looks like a model, and answers nothing of worth: it counts what it is asked.

    Its replies are as long as they may be, a byte a token, since what a program makes of them it may ask again.
    """

    batched = True

    def __init__(self, backend: Any, word: str) -> None:
        self.backend, self.word, self.seen = backend, word, Estimate()
        self.cached = not backend.batched and hasattr(backend, "identity")  # as `study.base_model` has it
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in ("backend", "agenerate", "aclose", "identity"):
            raise AttributeError(name)
        return getattr(self.backend, name)

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [self._counted(request) for request in requests]

    def _counted(self, request: Request) -> Reply:
        size, most = most_read(self.backend, request), most_written(self.backend, request)
        read = size if self.backend.batched else -(-size // BYTES_A_TOKEN)
        written = A_REPLY if request.max_tokens is None else request.max_tokens // 2
        written = written if most is None else min(written, most)
        endless = any(OF_ANY_LENGTH in message.content for message in request.messages)
        at_most = (math.inf if endless else size, math.inf if most is None else most)
        usd = usd_of(self.backend, Usage(read, output_tokens=written))
        self.seen += Estimate(1, read, at_most[0], written, at_most[1], usd, dearest(self.backend, *at_most))
        if self.cached:
            key = hashlib.sha256(repr(request).encode("utf-8", "surrogatepass")).hexdigest()
            self.seen += Estimate(again=key in self.asked)
            self.asked.add(key)
        scores = tuple(-float(i) for i in range(len(request.continuations)))
        return Reply(self._longest(most), scores=scores)

    def _longest(self, most: int | None) -> str:
        """A reply of so many bytes, which any program can read an answer from."""
        said, begun = f" The answer is {self.word}.", OF_ANY_LENGTH if most is None else ""
        return begun + "." * ((most or 0) - len(said.encode())) + said


def dearest(backend: Any, read: float, written: float) -> float | None:
    """What so many tokens cost at most; None where the price is not known."""
    if math.isfinite(read + written):
        return most_usd(backend, int(read), int(written))
    some = usd_of(backend, Usage(1, output_tokens=1))
    return math.inf if some else some


def rehearse(given: Arguments, quiet: bool = True, begun: Path | None = None) -> Estimate:
    """What the study of `given` would ask of its models. Nothing is sent, and no key is needed.

    Of a run that is `begun` in a folder it is what is left to ask, a search that was cut off counted whole.

    Unless `quiet`, what is odd about the data is told as the study itself would tell it.

    For a hosted model every test item is gone through, for an engine in this process the first of every cell. What a
    search asks depends on what it is answered, so all the calls are counted that it may make.
    """
    task, warnings, files = task_of(given)
    given, fewer = with_labels(given, task)
    warnings += fewer
    outside, general = elsewhere(given, warnings, files)
    base = unasked(given.model)
    asking, left_out = arms_that_ask(given, base, task.labels[0])
    warnings += left_out + too_long(base, task.prompt, train=task.train, test=task.test)
    findings = lint(task.train, task.test, ood=outside, general=general.test if general else ())
    tell_beforehand(task, smallest_difference(task), warnings, findings, quiet)
    if not asking:
        return Estimate()
    arms = {name: learner for name, (learner, _) in asking.items()}
    seeds = range(given.seed, given.seed + given.seeds)
    plan = planned(task, {"majority": Majority(), **arms}, given.labels or [], seeds, outside)
    asked = (*plan.task.test, *plan.outside)
    total = Estimate()
    for cell in plan.cells():
        if cell.arm not in asking:
            continue
        learner, stand_in = asking[cell.arm]
        answered = settled(begun / "cells" / cell.file_name) if begun is not None else set()
        left = [item for item in asked if item.id not in answered]
        if not left:
            continue
        items = left[:ITEMS] if stand_in.backend.batched else left
        stand_in.seen = Estimate()
        solver = learner(plan.shown(cell.labels, cell.seed), plan.examples(cell.labels, cell.seed), cell.seed)
        total += searching(learner, cell.labels, stand_in.seen)
        stand_in.seen = Estimate()
        run([attempt(solver.program(item.input)) for item in items], solver.backend)
        total += stand_in.seen.times(len(left) / len(items))
    return total


def arms_that_ask(given: Arguments, base: Backend, word: str) -> tuple[dict[str, tuple[Learner, StandIn]], list[str]]:
    """The arms that ask a model and train none, each with the stand-in that is asked in its place.

    Also a line on what other models cannot do.
    """
    check_local(given, given.model, base)
    learners, left_out = study_arms(replace(given, also_models=[]), base, unasked)
    stand_in = StandIn(base, word)
    found: dict[str, tuple[Learner, StandIn]] = {}
    for name, learner in learners.items():
        if about(learner, name)["family"] in ("prompting", "control"):
            with suppress(SetupError):  # a control that trains: a stand-in cannot be trained
                found[name] = arms_named([name], stand_in)[name], stand_in
    for model in given.also_models:
        other = StandIn(unasked(model), word)
        check_local(given, model, other.backend)
        of_it, more = arms_of_another_model(learners, model, other)
        found |= {name: (each, other) for name, each in of_it.items()}
        left_out += more
    return found, left_out


def searching(learner: Learner, labels: int, seen: Estimate) -> Estimate:
    """What a search takes at most, of what it took on a stand-in, whose proposals are all alike.

    A prompt that is found may be longer than the one that there is, so nothing bounds what is read.
    """
    search = learner.learner if isinstance(learner, OfAnotherModel) else learner
    if not isinstance(search, Optimized) or not seen.calls:
        return seen
    most = search.most_calls(labels)
    dear = None if seen.most_usd is None else math.inf if seen.most_usd else 0.0
    return seen.times(most / seen.calls)._replace(most_read=math.inf, most_usd=dear, searching=most)
