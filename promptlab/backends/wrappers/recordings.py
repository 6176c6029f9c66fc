"""What was asked and answered, read from the file that Record writes: to replay it, and to look at it."""

from __future__ import annotations

import json
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Container, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.backends.wrappers.database import reading
from promptlab.errors import DataError, ModelError
from promptlab.jsonable import reply_from, request_from
from promptlab.types import Reply, Request, Usage

CALLS = """
SELECT id, at, identity, request, decision, outcome, seconds, usage, reply, name
FROM calls JOIN models USING (who) JOIN requests USING (asked)
LEFT JOIN ends ON ends.call = calls.id LEFT JOIN programs ON programs.call = calls.id ORDER BY id
"""
ENDED = "calls JOIN ends ON ends.call = calls.id AND ends.reply != CAST('{}' AS BLOB)"  # with a reply, or an error
Answers = list[tuple[dict[str, Any], Reply | ModelError]]


class Key(NamedTuple):
    """Who is asked and what, each by its digest."""

    who: bytes
    asked: bytes


class Call(NamedTuple):
    """A call as it was noted. `decision` is "sent", or "kept" where the cache answered; `at` is in Unix seconds.

    `outcome` is "ok", the kind of error, "cancelled", or "unknown" where the process ended before it. `reply` is as
    `reply_json` tells it. What was kept has the usage that it had when it was sent, and costs nothing. The request's
    `program` tells calls of one program from those of others.
    """

    id: int
    at: float
    identity: dict[str, Any]
    request: Request
    decision: str
    outcome: str
    seconds: float
    usage: Usage
    reply: dict[str, Any]


class Recording:
    """The answers and calls in a file that is only read, from any thread. Raises DataError for one that is none."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        with reading_of(self.path):
            self._db = reading(self.path)
            try:
                self._rows("SELECT 1 FROM models, requests, answers, calls, ends LIMIT 0")
            except sqlite3.Error:
                self._db.close()
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def answers(self, asked: bytes) -> Answers:
        """Who answered a request (its digest), and what it was."""
        sql = "SELECT who, identity, reply, crc FROM answers JOIN models USING (who) WHERE asked=?"
        with reading_of(self.path):
            read = [(json.loads(told), whole(Key(who, asked), *kept)) for who, told, *kept in self._rows(sql, asked)]
        return [(identity, reply) for identity, reply in read if reply is not None]

    def ended(self, asked: bytes) -> Answers:
        """What came of the last call for a request of each who was asked: an error, where nothing was to be kept."""
        sql = f"SELECT identity, reply FROM {ENDED} JOIN models USING (who) WHERE asked=? ORDER BY id"
        with reading_of(self.path):
            last = dict(self._rows(sql, asked))
            return [(json.loads(identity), reply_from(json.loads(reply))) for identity, reply in last.items()]

    def requests(self) -> Iterator[Request]:
        """All requests that were answered, if only by an error."""
        answered = f"SELECT asked FROM answers UNION SELECT asked FROM {ENDED}"
        with reading_of(self.path):
            for (told,) in self._rows(f"SELECT request FROM requests WHERE asked IN ({answered})"):
                yield request_from(json.loads(told))

    def calls(self) -> Iterator[Call]:
        """All calls, in the order they began."""
        with reading_of(self.path):
            for row in self._rows(CALLS):
                yield _call(row)


def calls_in(path: Path, ids: Container[int] | None = None) -> Iterator[Call]:
    """The calls noted in a file, or those of `ids`, one by one; the file is only read. Raises DataError for another."""
    with reading_of(path), closing(reading(path)) as db:
        for row in db.execute(CALLS):
            if ids is None or row[0] in ids:
                yield _call(row)


@contextmanager
def reading_of(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file is a DataError."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no record of calls, or a broken one: {error}.") from error


def _call(row: Sequence[Any]) -> Call:
    id, at, identity, request, decision, outcome, seconds, told, reply, program = row
    usage = Usage(**json.loads(told)) if told else Usage()
    return Call(
        id,
        at,
        json.loads(identity),
        replace(request_from(json.loads(request)), program=program or ""),
        decision,
        outcome or "unknown",
        seconds or 0.0,
        replace(usage, cost_usd=0.0) if decision == "kept" else usage,
        json.loads(reply) if reply else {},
    )


def checksum(key: Key, told: bytes) -> int:
    """Of an answer and of what it answers: in a broken file one may be found where another should be."""
    return zlib.crc32(told, zlib.crc32(b"".join(key)))


def whole(key: Key, told: Any, crc: int) -> Reply | ModelError | None:
    """An answer as it was kept; None, with a warning, for one that does not read as it was written."""
    if not isinstance(told, bytes) or crc not in (checksum(key, told), zlib.crc32(told)):  # the latter in older files
        warnings.warn("an answer in the cache is torn, and not used.", stacklevel=4)
        return None
    return reply_from(json.loads(told))
