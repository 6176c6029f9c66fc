"""A backend that answers from a file alone: the same programs again, without a model and without a socket."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from promptlab.backends.wrappers.record import Record
from promptlab.errors import ModelError, ReplayMiss, SetupError
from promptlab.jsonable import digest, dumped, request_json
from promptlab.types import Reply, Request

CANDIDATES = 2_000  # recorded requests that are compared with one that is missing


class Recorded:
    """Answers what Cached kept in a file, or in the file of that name in a run's folder; nothing else.

    Raises ReplayMiss, with the nearest request there is and the difference, for what was not recorded; SetupError where
    two models answered the same: then `model` says whose answers count, a part of how the model is called.
    """

    batched = True
    local = True
    scores = True

    def __init__(self, path: str | Path, *, model: str = "") -> None:
        found = Path(path) / FILE if Path(path).is_dir() else Path(path)
        if not found.is_file():
            raise SetupError(f"There is no recording at {found}.")
        self.record, self.model = Record(found), model

    def __repr__(self) -> str:
        return f"Recorded({str(self.record.path)!r})"

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply | ModelError:
        told = dumped(request_json(request))
        answers = [
            (identity, reply)
            for identity, reply in self.record.answers(digest(told))
            if self.model in json.dumps(identity)
        ]
        if not answers:
            raise missing(request, self.record)
        if len(answers) > 1:
            names = " and ".join(json.dumps(identity) for identity, _ in answers)
            raise SetupError(f"{names} were asked the same: say whose answer counts, Recorded(…, model=…).")
        return answers[0][1]


def missing(request: Request, record: Record) -> ReplayMiss:
    """What was not recorded, the nearest that was, and how they differ."""
    asked = lines(request)
    near: list[str] = []
    best = -1.0
    for other in islice(record.requests(), CANDIDATES):
        candidate = lines(other)
        ratio = difflib.SequenceMatcher(None, asked, candidate, autojunk=False).ratio()
        if ratio > best:
            near, best = candidate, ratio
    if not near:
        return ReplayMiss(f"Nothing at all is recorded in {record.path}.")
    changes = "\n".join(difflib.unified_diff(near, asked, "the nearest recorded", "asked now", lineterm="", n=1))
    return ReplayMiss(f"This request was not recorded. The nearest that was differs so:\n{changes}")


FILE = "calls.db"  # in the folder of a run


def lines(request: Request) -> list[str]:
    """A request as lines that can be compared."""
    return json.dumps(request_json(request), indent=1, ensure_ascii=False).splitlines()
