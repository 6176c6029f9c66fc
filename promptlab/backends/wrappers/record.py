"""The file that holds what was asked and answered: SQLite, JSON inside, many processes at a time, no pickle."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from promptlab.backends.wrappers.database import alone, connected, garbled_errors, is_broken, reading, transaction
from promptlab.backends.wrappers.recordings import Key, Recording, checksum, whole
from promptlab.errors import ModelError, SetupError
from promptlab.jsonable import digest, dumped, reply_json, usage_json
from promptlab.types import Reply

T = TypeVar("T")

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
SELECT who, identity FROM models LIMIT 0;
SELECT asked, request FROM requests LIMIT 0;
SELECT who, asked, reply, crc, at FROM answers LIMIT 0;
SELECT id, at, who, asked, decision FROM calls LIMIT 0;
SELECT call, outcome, seconds, usage, reply FROM ends LIMIT 0;
SELECT call, name FROM programs LIMIT 0;
"""
TABLES = ("models", "requests", "answers", "calls", "ends")


class Noted(NamedTuple):
    """A call that was begun: in which file, of those that took another's place, and its number there."""

    file: int
    call: int


class Record(Recording):
    """A file of requests and replies, and of every call that was made: one to append to, not to change.

    Where it cannot be written, what is there is read and the rest kept in memory; one that is broken is set aside. Both
    are said in a warning. Use from any thread; other processes may have the same file open, and in another process,
    pickled or forked, it is opened anew. Raises SetupError for a file that is not promptlab's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise SetupError(f"{str(path)!r} is a folder: give the path of a file.")
        self._models: dict[bytes, bytes] = {}
        self._file = 0
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (sqlite3.DatabaseError, OSError) as error:
            if is_broken(error):
                self._set_aside(error)
            else:
                self._in_memory(error)

    def _open(self) -> None:
        self._inode = inode(self.path)  # before: if it is another then, that is not what is broken
        self._db = connected(str(self.path), "cache", SCHEMA, TABLES)
        self._inode = self._inode or inode(self.path)
        self._opened()

    def _opened(self) -> None:
        """Calls and models of before are those of another file."""
        self._file += 1
        for each in self._models.items():
            self._db.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", each)

    def _in_memory(self, error: Exception) -> None:
        warnings.warn(f"{self.path} cannot be written ({error}): what is new is kept in memory.", stacklevel=5)
        self._db = connected(":memory:", "cache", SCHEMA, TABLES)
        with suppress(sqlite3.Error, OSError), closing(reading(self.path)) as there:
            for table in (*TABLES, "programs"):
                for row in there.execute(f"SELECT * FROM {table}"):
                    self._db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        self._opened()

    def _set_aside(self, error: Exception) -> None:
        """A broken file goes out of the way under another name, unless another process has seen to that already."""
        try:
            with alone(self.path.parent):
                if inode(self.path) == self._inode:
                    names = (self.path.with_name(f"{self.path.name}.broken-{n}") for n in range(1, 10_000))
                    aside = next(path for path in names if not path.exists())
                    self.path.rename(aside)
                    for tail in ("-wal", "-shm"):
                        with suppress(FileNotFoundError):
                            Path(f"{self.path}{tail}").rename(f"{aside}{tail}")
                    warnings.warn(f"{self.path} is broken ({error}): set aside as {aside.name}.", stacklevel=6)
                self._open()
        except (sqlite3.Error, OSError) as again:
            self._in_memory(again)

    def _do(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Something with the database; once more with an empty one if it turns out to be broken."""
        if self._process != os.getpid():  # a connection does not outlive a fork
            self._db.close()
            self._start()
        with self._lock:
            try:
                with garbled_errors():
                    return act(self._db)
            except sqlite3.DatabaseError as error:
                if not is_broken(error):
                    raise
                self._db.close()
                self._set_aside(error)
                return act(self._db)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._do(lambda db: db.execute(sql, values).fetchall())

    # ---- answers

    def model(self, identity: Mapping[str, Any]) -> bytes:
        """What stands for a model in keys; it is noted who that is."""
        told = dumped(identity)
        who = digest(told)
        if who not in self._models:
            self._do(lambda db: db.execute("INSERT OR IGNORE INTO models VALUES (?, ?)", (who, told)))
            self._models[who] = told
        return who

    def answer(self, key: Key) -> Reply | ModelError | None:
        """What was answered, if it was. An answer that does not read as it was written is thrown away."""
        where = "FROM answers WHERE who=? AND asked=?"
        found = self._rows(f"SELECT reply, crc {where}", *key)
        read = whole(key, *found[0]) if found else None
        if found and read is None:
            self._do(lambda db: db.execute(f"DELETE {where}", key))
        return read

    def keep(self, key: Key, request: bytes, reply: Reply | ModelError) -> Reply | ModelError:
        """Keep an answer. What is there already, from another process, stays: it is what this returns."""
        told = dumped(reply_json(reply))
        row = (*key, told, checksum(key, told), time.time())

        def act(db: sqlite3.Connection) -> bool:
            with transaction(db):
                db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?)", (key.asked, request))
                return db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", row).rowcount == 1

        return reply if self._do(act) else self.answer(key) or reply

    def __len__(self) -> int:
        """How many answers there are."""
        return int(self._rows("SELECT COUNT(*) FROM answers")[0][0])

    # ---- calls

    def begin(self, who: bytes, requests: Sequence[bytes], decision: str, programs: Sequence[str] = ()) -> list[Noted]:
        """Note calls before they are sent, or that were decided otherwise; what stands for each of them.

        `programs` are the names of those that ask.
        """
        rows = [(time.time(), who, digest(request), decision) for request in requests]

        def act(db: sqlite3.Connection) -> list[Noted]:
            with transaction(db):
                db.executemany(
                    "INSERT OR IGNORE INTO requests VALUES (?, ?)",
                    [(row[2], request) for row, request in zip(rows, requests, strict=True)],
                )
                insert = "INSERT INTO calls (at, who, asked, decision) VALUES (?, ?, ?, ?)"
                calls = [int(db.execute(insert, row).lastrowid or 0) for row in rows]
                named = [(call, name) for call, name in zip(calls, programs, strict=False) if name]
                db.executemany("INSERT INTO programs VALUES (?, ?)", named)
                return [Noted(self._file, call) for call in calls]

        return self._do(act)

    def end(self, calls: Sequence[Noted], replies: Sequence[Reply | ModelError | str], seconds: float) -> None:
        """Note what came of calls: a reply, an error, or in a word why there is neither.

        Calls that were begun in a file that was set aside since end there, with nothing.
        """
        rows = [(noted, ended(reply, seconds)) for noted, reply in zip(calls, replies, strict=True)]

        def act(db: sqlite3.Connection) -> None:
            here = [(noted.call, *end) for noted, end in rows if noted.file == self._file]
            with transaction(db):
                db.executemany("INSERT INTO ends VALUES (?, ?, ?, ?, ?)", here)

        self._do(act)


def inode(path: Path) -> int | None:
    """Which file it is that a path names."""
    with suppress(OSError):
        return path.stat().st_ino
    return None


def ended(reply: Reply | ModelError | str, seconds: float) -> tuple[str, float, bytes, bytes]:
    """The outcome of a call, what it used, and what was said."""
    if isinstance(reply, str):
        return reply, seconds, b"{}", b"{}"
    answered = reply if isinstance(reply, Reply) else reply.reply
    usage = dumped(usage_json(answered.usage)) if answered is not None else b"{}"
    return "ok" if isinstance(reply, Reply) else type(reply).__name__, seconds, usage, dumped(reply_json(reply))
