"""A backend that answers from a file alone: the same programs again, without a model and without a socket."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from promptlab.backends.wrappers.recordings import Answers, Recording
from promptlab.errors import ModelError, ReplayMiss, SetupError
from promptlab.jsonable import digest, dumped, request_json
from promptlab.types import Reply, Request

FILE = "calls.db"  # in the folder of a run
CANDIDATES = 2_000  # recorded requests that are compared with one that is missing
LONG, AROUND = 120, 40  # characters of a line from which on only what differs is shown, and of what is around that


class Recorded:
    """Answers what Cached kept in a file, or in the file of that name in a run's folder; nothing else.

    What failed fails as its last call did. The file is only read. Raises DataError for one that is no recording;
    ReplayMiss, with the nearest request there is and the difference, for what was not recorded; SetupError where two
    models answered the same: then `model` says whose answers count, a part of how the model is called.
    """

    batched = True
    local = True
    scores = True

    def __init__(self, path: str | Path, *, model: str = "") -> None:
        found = Path(path) / FILE if Path(path).is_dir() else Path(path)
        if not found.is_file():
            raise SetupError(f"There is no recording at {found}.")
        self.record, self.model = Recording(found), model

    def __repr__(self) -> str:
        return f"Recorded({str(self.record.path)!r})"

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply | ModelError:
        asked = digest(dumped(request_json(request)))
        answers = self._of_model(self.record.answers(asked)) or self._of_model(self.record.ended(asked))
        if not answers:
            raise missing(request, self.record)
        if len(answers) > 1:
            names = " and ".join(json.dumps(identity) for identity, _ in answers)
            raise SetupError(
                f"{names} were asked the same: say whose answer counts with a part of that, as in "
                f"run(…, promptlab.backends.wrappers.Recorded({str(self.record.path)!r}, model=…))."
            )
        return answers[0][1]

    def _of_model(self, answers: Answers) -> Answers:
        return [(identity, reply) for identity, reply in answers if self.model in json.dumps(identity)]


def missing(request: Request, record: Recording) -> ReplayMiss:
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
    if near == asked:
        return ReplayMiss(f"This request was recorded in {record.path}, but not of this model.")
    changes = "\n".join(differences(near, asked))
    return ReplayMiss(f"This request was not recorded. The nearest that was (-) differs from it (+) so:\n{changes}")


def lines(request: Request) -> list[str]:
    """A request as lines that can be compared."""
    return json.dumps(request_json(request), indent=1, ensure_ascii=False).splitlines()


def differences(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """What was (-) and what is (+), of long lines only what differs, marked: >>>so<<<."""
    changes = difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes()
    for kind, i, i_end, j, j_end in changes:
        if kind == "equal":
            continue
        pairs = [marked(old, new) for old, new in zip_longest(before[i:i_end], now[j:j_end])]
        yield from (f"-{old}" for old, _ in pairs if old is not None)
        yield from (f"+{new}" for _, new in pairs if new is not None)


def marked(old: str | None, new: str | None) -> tuple[str | None, str | None]:
    """Of two long lines that differ what does, between marks, and what is around it."""
    if old is None or new is None or max(len(old), len(new)) <= LONG:
        return old, new
    begin = alike(old, new)
    same = alike(old[begin:][::-1], new[begin:][::-1])

    def shown(line: str) -> str:
        end = len(line) - same
        what, before, after = line[begin:end], line[max(0, begin - AROUND) : begin], line[end : end + AROUND]
        if len(what) > 2 * LONG:
            what = f"{what[:LONG]} … {what[-LONG:]}"
        return f"{'…' * (begin > AROUND)}{before}>>>{what}<<<{after}{'…' * (same > AROUND)}"

    return shown(old), shown(new)


def alike(one: str, other: str) -> int:
    """How many characters two texts begin alike with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
