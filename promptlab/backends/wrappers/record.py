"""The file that holds what was asked and answered: SQLite, JSON inside, many processes at a time, no pickle."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from promptlab.errors import DataError, ModelError, SetupError
from promptlab.jsonable import digest, dumped, reply_from, reply_json, request_from, usage_json
from promptlab.types import Reply, Request, Usage

T = TypeVar("T")

VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS models (who BLOB PRIMARY KEY, identity BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (asked BLOB PRIMARY KEY, request BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    who BLOB NOT NULL, asked BLOB NOT NULL, reply BLOB NOT NULL, crc INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (who, asked)
);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, who BLOB NOT NULL, asked BLOB NOT NULL, decision TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS ends (
    call INTEGER PRIMARY KEY, outcome TEXT NOT NULL, seconds REAL NOT NULL, usage BLOB NOT NULL, reply BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS programs (call INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS calls_stay BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'only appended to'); END;
CREATE TRIGGER IF NOT EXISTS ends_stay BEFORE DELETE ON ends BEGIN SELECT RAISE(ABORT, 'only appended to'); END;
"""
CALLS = """
SELECT id, at, identity, request, decision, outcome, seconds, usage, reply, name
FROM calls JOIN models USING (who) JOIN requests USING (asked)
LEFT JOIN ends ON ends.call = calls.id LEFT JOIN programs ON programs.call = calls.id ORDER BY id
"""


class Key(NamedTuple):
    """Who is asked and what, each by its digest."""

    who: bytes
    asked: bytes


class Call(NamedTuple):
    """A call as it was noted. `decision` is "sent", or "kept" where the cache answered; `at` is in Unix seconds.

    `outcome` is "ok", the kind of error, "cancelled", or "unknown" where the process ended before it. `reply` is as
    `reply_json` tells it. The request's `program` tells calls of one program from those of others.
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


class Record:
    """A file of requests and replies, and of every call that was made: one to append to, not to change.

    Where the folder cannot be written to, what is there is read and the rest kept in memory; a file that is no
    database, or a broken one, is set aside. Both are said in a warning. Use from any thread; other processes may have
    the same file open. In another process it opens its file anew.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self.path,)

    def __repr__(self) -> str:
        return f"Record({str(self.path)!r})"

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = connected(str(self.path))
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):
                self._set_aside(error)
            else:
                self._read_only(error)
        except OSError as error:
            self._read_only(error)

    def _read_only(self, error: Exception) -> None:
        warnings.warn(f"{self.path} cannot be written ({error}): what is new is kept in memory.", stacklevel=5)
        self._db = connected(":memory:")
        with suppress(sqlite3.Error):
            there = sqlite3.connect(f"file:{self.path}?mode=ro&immutable=1", uri=True)
            there.backup(self._db)
            there.close()

    def _set_aside(self, error: Exception) -> None:
        """A broken file goes out of the way under another name, and an empty one takes its place."""
        aside = next(
            path for n in range(1, 10_000) if not (path := self.path.with_name(f"{self.path.name}.broken-{n}")).exists()
        )
        warnings.warn(f"{self.path} is broken ({error}): set aside as {aside.name}.", stacklevel=6)
        with suppress(OSError):
            self.path.rename(aside)
        for tail in ("-wal", "-shm"):
            with suppress(OSError):
                Path(f"{self.path}{tail}").unlink()
        self._db = connected(str(self.path))

    def _do(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Something with the database; once more with an empty one if it turns out to be broken."""
        with self._lock:
            try:
                with garbled_errors():
                    return act(self._db)
            except sqlite3.OperationalError:  # locked for too long, a full disk: no reason to throw it away
                raise
            except sqlite3.DatabaseError as error:
                self._db.close()
                self._set_aside(error)
                return act(self._db)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ---- answers

    def model(self, identity: Mapping[str, Any]) -> bytes:
        """What stands for a model in keys; it is noted who that is."""
        told = dumped(identity)
        who = digest(told)
        self._do(lambda db: db.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", (who, told)))
        return who

    def answer(self, key: Key) -> Reply | ModelError | None:
        """What was answered, if it was. An answer that does not read as it was written is thrown away."""
        where = "FROM answers WHERE who=? AND asked=?"
        found = self._do(lambda db: db.execute(f"SELECT reply, crc {where}", key).fetchone())
        read = _read(found) if found else None
        if found and read is None:
            self._do(lambda db: db.execute(f"DELETE {where}", key))
        return read

    def keep(self, key: Key, request: bytes, reply: Reply | ModelError) -> Reply | ModelError:
        """Keep an answer. What is there already, from another process, stays: it is what this returns."""
        told = dumped(reply_json(reply))
        row = (*key, told, zlib.crc32(told), time.time())

        def act(db: sqlite3.Connection) -> bool:
            with transaction(db):
                db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?)", (key.asked, request))
                return db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", row).rowcount == 1

        return reply if self._do(act) else self.answer(key) or reply

    def answers(self, asked: bytes) -> list[tuple[dict[str, Any], Reply | ModelError]]:
        """Who answered a request, and what."""
        rows = self._do(
            lambda db: db.execute(
                "SELECT identity, reply, crc FROM answers JOIN models USING (who) WHERE asked=?", (asked,)
            ).fetchall()
        )
        read = [(json.loads(identity), _read((reply, crc))) for identity, reply, crc in rows]
        return [(identity, reply) for identity, reply in read if reply is not None]

    def requests(self) -> Iterator[Request]:
        """All requests that were answered."""
        for (told,) in self._do(lambda db: db.execute("SELECT request FROM requests").fetchall()):
            yield request_from(json.loads(told))

    # ---- calls

    def begin(self, who: bytes, requests: Sequence[bytes], decision: str, programs: Sequence[str] = ()) -> list[int]:
        """Note calls before they are sent, or that were decided otherwise; what stands for each of them.

        `programs` are the names of those that ask.
        """
        rows = [(time.time(), who, digest(request), decision) for request in requests]

        def act(db: sqlite3.Connection) -> list[int]:
            with transaction(db):
                db.executemany(
                    "INSERT OR IGNORE INTO requests VALUES (?, ?)",
                    [(row[2], request) for row, request in zip(rows, requests, strict=True)],
                )
                insert = "INSERT INTO calls (at, who, asked, decision) VALUES (?, ?, ?, ?)"
                calls = [int(db.execute(insert, row).lastrowid or 0) for row in rows]
                named = [(call, name) for call, name in zip(calls, programs, strict=False) if name]
                db.executemany("INSERT INTO programs VALUES (?, ?)", named)
                return calls

        return self._do(act)

    def end(self, calls: Sequence[int], replies: Sequence[Reply | ModelError | str], seconds: float) -> None:
        """Note what came of calls: a reply, an error, or in a word why there is neither."""
        rows = [(call, *ended(reply, seconds)) for call, reply in zip(calls, replies, strict=True)]

        def act(db: sqlite3.Connection) -> None:
            with transaction(db):
                db.executemany("INSERT INTO ends VALUES (?, ?, ?, ?, ?)", rows)

        self._do(act)

    def calls(self) -> Iterator[Call]:
        """All calls, in the order they began."""
        for row in self._do(lambda db: db.execute(CALLS).fetchall()):
            yield _call(row)

    def __len__(self) -> int:
        """How many answers there are."""
        return int(self._do(lambda db: db.execute("SELECT COUNT(*) FROM answers").fetchone())[0])


def calls_in(path: Path, ids: Container[int] | None = None) -> Iterator[Call]:
    """The calls noted in a file, or those of `ids`, one by one; the file is only read. Raises DataError for another."""
    try:
        with closing(_reading(path)) as db:
            for row in db.execute(CALLS):
                if ids is None or row[0] in ids:
                    yield _call(row)
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no record of calls, or a broken one: {error}.") from error


def _reading(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, not even what others' writing would take: in a folder that is read-only."""
    for how in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=60)
        try:
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            db.close()
            continue
        return db
    raise sqlite3.OperationalError("it cannot be opened")


def _call(row: Sequence[Any]) -> Call:
    id, at, identity, request, decision, outcome, seconds, usage, reply, program = row
    return Call(
        id,
        at,
        json.loads(identity),
        replace(request_from(json.loads(request)), program=program or ""),
        decision,
        outcome or "unknown",
        seconds or 0.0,
        Usage(**json.loads(usage)) if usage else Usage(),
        json.loads(reply) if reply else {},
    )


def connected(path: str) -> sqlite3.Connection:
    """A connection that many threads may use one at a time. Raises sqlite3.Error for what is no such file."""
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        with garbled_errors():
            db.execute("PRAGMA busy_timeout = 60000")
            db.execute("PRAGMA journal_mode = WAL")  # a file system that cannot keeps its own mode
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(SCHEMA)
            [version] = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise SetupError(f"{path} was written by a newer promptlab (format {version}): use that, or another file.")
        if not version:
            db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def garbled_errors() -> Iterator[None]:
    """What SQLite says of a broken file may quote bytes of it that are no text, over which Python stumbles."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("what it holds is no text") from error


def ended(reply: Reply | ModelError | str, seconds: float) -> tuple[str, float, bytes, bytes]:
    """The outcome of a call, what it used, and what was said."""
    if isinstance(reply, str):
        return reply, seconds, b"{}", b"{}"
    answered = reply if isinstance(reply, Reply) else reply.reply
    usage = dumped(usage_json(answered.usage)) if answered is not None else b"{}"
    return "ok" if isinstance(reply, Reply) else type(reply).__name__, seconds, usage, dumped(reply_json(reply))


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; other writers wait."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _read(found: tuple[bytes, int]) -> Reply | ModelError | None:
    told, expected = found
    if not isinstance(told, bytes) or zlib.crc32(told) != expected:
        warnings.warn("an answer in the cache is torn: it is asked again.", stacklevel=4)
        return None
    return reply_from(json.loads(told))
