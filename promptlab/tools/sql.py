"""Read-only SQL over CSV, JSON and Parquet files, by DuckDB."""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Collection, Sequence
from itertools import chain, count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from promptlab.errors import DataError, SetupError, WrongCall
from promptlab.tool import Tool, tool
from promptlab.tools import child
from promptlab.tools.engine import ENVIRONMENT, READERS, Column, Rows

MOST_ROWS = 50
MOST_CELL = 200  # characters
TIMEOUT_S = 10.0
ENGINE = "promptlab.tools.engine"
START_S = 60.0  # for the engine to start and to look at the files


class Tables:
    """Files as tables of their own names, to be asked in SQL and not changed; fit for any thread, one query at a time.

    The engine can open these files and no others, install nothing and change none of its settings; a query is one
    SELECT. It is a process of its own, which gets no more memory than 1.5 GiB (512 MB for what is in tables; on
    macOS only the latter holds), is ended by a query that takes more or longer than `timeout_s`, started anew for the
    next, and does not outlive this process. Raises DataError for a file that cannot be read so, SetupError without
    DuckDB.
    """

    def __init__(self, files: Sequence[Path | str], timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        tables: dict[str, str] = {}
        for path in (Path(file).resolve() for file in files):
            if path.suffix.lower() not in READERS or not path.is_file():
                raise DataError(f"{path} is no file of a table: there can be {', '.join(READERS)}.")
            tables[_name(path, tables)] = str(path)
        self.names = list(tables)
        self._engine = Engine(tables)
        self.close = weakref.finalize(self, self._engine.close)

    def columns(self, table: str) -> list[Column]:
        """The columns of a table and their types."""
        return self._engine.columns[table]

    def query(self, sql: str, most: int = MOST_ROWS) -> Rows:
        """The columns and the first rows of a SELECT, one more than `most` where there are more. Raises WrongCall."""
        return self._engine.ask(sql, most, self.timeout_s)


class Engine:
    """The process that has the tables (name: path), until a query ends it: then the next one. Raises as Tables does."""

    def __init__(self, tables: dict[str, str]) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._channel, theirs = Pipe()
        with theirs:
            environment = {**os.environ, **ENVIRONMENT}
            self._process = child.started(ENGINE, theirs.fileno(), path=sys.path, environment=environment)
        try:
            self.columns: dict[str, list[Column]] = self._told(self._tables, START_S)
        except (EOFError, OSError):
            files = ", ".join(self._tables.values())
            raise DataError(f"The engine ended over {files}, or was not ready in {START_S:g} s.") from None

    def ask(self, sql: str, most: int, timeout_s: float) -> Rows:
        """The rows of a SELECT; others' queries are waited for first. Raises WrongCall."""
        with self._lock:
            if self._closed:
                raise WrongCall("the tables are closed")
            try:
                if self._channel.closed:
                    self._start()
                answer: Rows | WrongCall = self._told((sql, most), timeout_s)
            except TimeoutError:
                raise WrongCall(f"the query was stopped after {timeout_s:g} s") from None
            except MemoryError as error:
                raise WrongCall(str(error) or "Out of Memory") from None
            except (EOFError, OSError):
                raise WrongCall("the query ended the engine, as one does that takes too much memory") from None
            except SetupError as error:  # the files are no longer what they were
                raise WrongCall(str(error)) from None
        if isinstance(answer, WrongCall):
            raise answer
        return answer

    def _told(self, question: Any, timeout_s: float) -> Any:
        """What the process answers. One that does not, or no longer can, is ended: TimeoutError, EOFError, OSError."""
        try:
            self._channel.send(question)
            if not self._channel.poll(timeout_s):
                raise TimeoutError
            answer = self._channel.recv()
            if isinstance(answer, SetupError | MemoryError):
                raise answer
            return answer
        except BaseException:  # Ctrl-C among them: a late answer would be taken for the next query's
            self._end()
            raise

    def close(self) -> None:
        self._closed = True
        self._process.kill()  # who waits for it now is told at once
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._process.kill()  # it has no children
        self._process.wait()
        self._channel.close()


def _name(path: Path, taken: Collection[str]) -> str:
    """A name for a file's table, which differs from those taken by more than the case of letters."""
    name = re.sub(r"\W", "_", path.stem) or "data"
    names = chain([name], (f"{name}_{n}" for n in count(len(taken) + 1)))
    return next(name for name in names if name.lower() not in map(str.lower, taken))


def sql(*files: Path | str) -> Tool:
    """A tool that answers SQL over these files."""
    return querying(Tables(files))


def querying(tables: Tables) -> Tool:
    """A tool that answers SQL over these tables."""
    told = "; ".join(f"{name}({', '.join(f'{c} {t}' for c, t in tables.columns(name))})" for name in tables.names)

    def sql(query: str) -> str:
        columns, rows = tables.query(query)
        shown = [columns, *([_cell(value) for value in row] for row in rows[:MOST_ROWS])]
        more = [f"[only the first {MOST_ROWS} rows]"] if len(rows) > MOST_ROWS else []
        none = ["(no rows)"] if not rows else []
        return "\n".join([" | ".join(row) for row in shown] + none + more)

    sql.__doc__ = f"""Answers one SELECT in DuckDB's SQL over the tables {told}.

    Args:
        query: the SELECT
    """
    return tool(sql)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)
    text = text.replace("\n", " ")
    return text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…"
