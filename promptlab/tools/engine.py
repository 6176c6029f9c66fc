"""What happens in the process that answers SQL. The host's side is `promptlab.tools.sql`.

A function of SQL cannot be interrupted and asks the system for its memory: only a process's end ends the one for
certain, and only a process's limit holds the other.
"""

from __future__ import annotations

import glob
import os
import resource
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import DataError, SetupError, WrongCall

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json",
    ".jsonl": "read_json",
}
SETTINGS = (  # in this order: after the last none can be changed
    "SET memory_limit = '512MB'",
    "SET temp_directory = ''",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
NO_EXTENSIONS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "threads": 2,
}
MOST_MEMORY = 3 * 2**29  # bytes of addresses: .3 GiB for the engine itself, the limit above, and what functions take
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}  # else every thread reserves addresses, of which most are never used
LOOK_S = 1.0  # from one look at whether the host is there to the next

Column = tuple[str, str]  # its name and type
Rows = tuple[list[str], list[tuple[Any, ...]]]  # the names of the columns, and the rows


def main() -> None:
    """Is told the tables (name: path), tells their columns, and answers queries until the host closes the channel.

    What it cannot do it answers by an error, for the host to raise: SetupError or MemoryError, after which it is of no
    more use, or WrongCall.
    """
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    for which, most in ((resource.RLIMIT_AS, MOST_MEMORY), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # there is a lower limit already, or none at all (macOS)
            resource.setrlimit(which, (most, most))
    with Connection(0) as asked, suppress(EOFError):
        try:
            db, columns = opened(asked.recv())
        except SetupError as error:
            asked.send(error)
            return
        asked.send(columns)
        while True:
            asked.send(answered(db, *asked.recv()))


def end_with(host: int) -> None:
    """Ends this process, whatever it is doing, when the host is no longer there."""
    while os.getppid() == host:
        time.sleep(LOOK_S)
    os._exit(1)


def opened(tables: dict[str, str]) -> tuple[DuckDBPyConnection, dict[str, list[Column]]]:
    """A database that can open these files, and no others, and the columns of each. Raises SetupError, DataError."""
    try:
        import duckdb
    except ImportError:
        raise SetupError("SQL over files is DuckDB's: pip install 'promptlab[tools]'") from None
    db = duckdb.connect(":memory:", config=NO_EXTENSIONS)
    columns = {}
    for name, path in tables.items():
        read = f"{READERS[Path(path).suffix.lower()]}({literal(glob.escape(path))})"
        try:
            db.execute(f'CREATE VIEW "{name}" AS SELECT * FROM {read}')
            columns[name] = [(str(row[0]), str(row[1])) for row in db.execute(f'DESCRIBE "{name}"').fetchall()]
        except duckdb.Error as error:
            raise DataError(f"{path} cannot be read: {_first_line(error)}") from None
    paths = {*tables.values(), *map(glob.escape, tables.values())}  # the names as patterns are looked up too
    db.execute(f"SET allowed_paths = [{', '.join(map(literal, sorted(paths)))}]")
    for setting in SETTINGS:
        db.execute(setting)
    return db, columns


def answered(db: DuckDBPyConnection, sql: str, most: int) -> Rows | WrongCall | MemoryError:
    """The columns and the first rows of a SELECT, one more than `most` where there are more; or why there are none."""
    import duckdb

    try:
        with db.cursor() as cursor:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                return WrongCall("one SELECT at a time, and nothing else: the data can only be read")
            cursor.execute(statements[0])
            rows = cursor.fetchmany(most + 1)
            return [column[0] for column in cursor.description or ()], rows
    except (duckdb.OutOfMemoryException, MemoryError) as error:  # what was taken is not all given back
        return MemoryError(_first_line(error))
    except Exception as error:  # DuckDB's, and Python's own, of a text or a date that it cannot hold: all are told
        return WrongCall(_first_line(error) or type(error).__name__)


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\nLINE")[0].split())[:300]
