"""SQLite files of promptlab's own: told from those of others, and open in many processes at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from promptlab.errors import SetupError

APPLICATION = int.from_bytes(b"prlb", "big")  # in the header of a file, where SQLite notes whose it is
VERSION = 1
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connected(path: str, what: str, schema: str, tables: Collection[str]) -> sqlite3.Connection:
    """A connection that many threads may use one at a time, to a file with the schema's tables.

    Files of before that had a mark are known by their `tables`. Raises SetupError, and changes nothing, for a file that
    is not promptlab's; sqlite3.Error for one that is (`is_broken`), or that cannot be written.
    """
    db = _connection(path)
    try:
        with garbled_errors():
            _claim(db, path, what, tables)
            db.execute("PRAGMA journal_mode = WAL")  # a file system that cannot keeps its own mode
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(schema)
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA user_version = {VERSION}")  # raises where it can only be read
            db.execute("ROLLBACK")
    except BaseException as error:
        db.close()
        if is_error(error, sqlite3.SQLITE_ERROR) and path != ":memory:":  # what was never wrong before is wrong here
            raise broken(str(error)) from error
        raise
    return db


def _claim(db: sqlite3.Connection, path: str, what: str, tables: Collection[str]) -> None:
    """Marks a new file as promptlab's, and one of before. Raises SetupError for one of others, or of a later format."""
    others = SetupError(f"{path} is not a promptlab {what}, and is left as it is: give another path.")
    try:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}  # first: the mark is there before it
        [application] = db.execute("PRAGMA application_id").fetchone()
        [version] = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        if is_error(error, *BROKEN, sqlite3.SQLITE_ERROR) and not _marked(path):
            raise others from error
        raise
    known = not there or there.issuperset(tables)
    if application != APPLICATION and (application or version not in (0, VERSION) or not known):
        raise others
    if version > VERSION:
        raise SetupError(f"{path} was written by a newer promptlab (format {version}): use that, or another file.")
    if application != APPLICATION or version != VERSION:
        with transaction(db):
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")


def _marked(path: str) -> bool:
    """Whether a file, broken as it may be, was once promptlab's."""
    with open(path, "rb") as file:
        header = file.read(72)
    return header.startswith(b"SQLite format 3\0") and header[68:] == APPLICATION.to_bytes(4, "big")


def reading(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, not even in the folder. Raises sqlite3.Error, OSError.

    The log that a killed process has left beside a file is read with it, in a copy where another process would have to
    make something of it first.
    """
    log, shared, journal = [Path(f"{path}-{tail}") for tail in ("wal", "shm", "journal")]
    if log.exists() and not shared.exists():
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(log, f"{copy}-wal")
            db = _opened(copy, "mode=rw")
            db.execute("PRAGMA journal_mode = DELETE")  # all in one file, that stays until it is closed
            return db
    return _opened(path, "mode=ro" if log.exists() or journal.exists() else "mode=ro&immutable=1")


def _opened(path: Path, how: str) -> sqlite3.Connection:
    db = _connection(f"{path.absolute().as_uri()}?{how}", uri=True)
    try:
        with garbled_errors():
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _connection(path: str, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False, uri=uri)
    db.text_factory = _text
    return db


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # of a broken file


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; other writers wait."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:  # an error may have ended it
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def garbled_errors() -> Iterator[None]:
    """What SQLite says of a broken file may quote bytes of it that are no text, over which Python stumbles."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise broken("what it holds is no text") from error


def broken(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def is_broken(error: BaseException) -> bool:
    """Whether it is the file that is wrong: not a lock, a full disk, or what was asked of it."""
    return is_error(error, *BROKEN)


def is_error(error: BaseException, *codes: int) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", -1) & 0xFF in codes


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process or thread at a time in a folder; a kill ends it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
