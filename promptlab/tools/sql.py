"""Read-only SQL over CSV, JSON and Parquet files, by DuckDB."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptlab.errors import DataError, SetupError, WrongCall
from promptlab.tool import Tool, tool

READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json",
    ".jsonl": "read_json",
}
MOST_ROWS = 50
MOST_CELL = 200  # characters
TIMEOUT_S = 10.0
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


class Tables:
    """Files as tables of their own names, to be asked in SQL and not changed; fit for any thread.

    The engine can open these files and no others, install nothing and change none of its settings; a query is one
    SELECT. Raises DataError for a file that cannot be read so, SetupError without DuckDB.
    """

    def __init__(self, files: Sequence[Path | str], timeout_s: float = TIMEOUT_S) -> None:
        try:
            import duckdb
        except ImportError:
            raise SetupError("SQL over files is DuckDB's: pip install 'promptlab[tools]'") from None
        self.timeout_s = timeout_s
        self._db = duckdb.connect(":memory:", config=NO_EXTENSIONS)
        self.names: list[str] = []
        paths = [Path(file).resolve() for file in files]
        for path in paths:
            if path.suffix.lower() not in READERS or not path.is_file():
                raise DataError(f"{path} is no file of a table: there can be {', '.join(READERS)}.")
            name = self._name(path)
            try:
                read = f"{READERS[path.suffix.lower()]}({literal(str(path))})"
                self._db.execute(f'CREATE VIEW "{name}" AS SELECT * FROM {read}')
            except duckdb.Error as error:
                raise DataError(f"{path} cannot be read: {_first_line(error)}") from None
            self.names.append(name)
        self._db.execute(f"SET allowed_paths = [{', '.join(literal(str(path)) for path in paths)}]")
        for setting in SETTINGS:
            self._db.execute(setting)

    def _name(self, path: Path) -> str:
        name = re.sub(r"\W", "_", path.stem) or "data"
        return name if name not in self.names else f"{name}_{len(self.names) + 1}"

    def columns(self, table: str) -> list[tuple[str, str]]:
        """The columns of a table and their types."""
        return [(str(row[0]), str(row[1])) for row in self._db.cursor().execute(f'DESCRIBE "{table}"').fetchall()]

    def query(self, sql: str, most: int = MOST_ROWS) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The columns and the first rows of a SELECT, one more than `most` where there are more. Raises WrongCall."""
        import duckdb

        cursor = self._db.cursor()
        alarm = threading.Timer(self.timeout_s, cursor.interrupt)
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise WrongCall("one SELECT at a time, and nothing else: the data can only be read")
            alarm.start()
            cursor.execute(statements[0])
            rows = cursor.fetchmany(most + 1)
            return [column[0] for column in cursor.description or ()], rows
        except duckdb.InterruptException:
            raise WrongCall(f"the query was stopped after {self.timeout_s:g} s") from None
        except (duckdb.Error, RuntimeError) as error:
            raise WrongCall(_first_line(error)) from None
        finally:
            alarm.cancel()
            cursor.close()

    def close(self) -> None:
        self._db.close()


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\nLINE")[0].split())[:300]


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
