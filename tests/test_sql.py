"""SQL over files: read, and nothing else."""

from __future__ import annotations

import pytest

from promptlab import Reply, run
from promptlab.errors import DataError, WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.sql import Tables, querying, sql
from promptlab.types import ToolCall

pytest.importorskip("duckdb")


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("place,week,n\nLorn,1,4\nLorn,2,9\nVask,1,\n")
    return path


def test_a_select_is_answered_in_rows(cases):
    tool = sql(cases)
    assert tool(query="SELECT place, sum(n) AS n FROM cases GROUP BY 1 ORDER BY 1") == "place | n\nLorn | 13\nVask | "
    assert tool(query="SELECT 1 AS x WHERE false") == "x\n(no rows)"
    assert "cases(place VARCHAR, week BIGINT, n BIGINT)" in tool.spec.description


def test_parquet_and_jsonl_and_names_that_are_no_words(tmp_path, cases):
    import duckdb

    parquet, lines = tmp_path / "it's 2026-01.parquet", tmp_path / "log.jsonl"
    duckdb.sql(f"COPY (SELECT 42 AS answer) TO '{tmp_path}/x.parquet'")
    (tmp_path / "x.parquet").rename(parquet)
    lines.write_text('{"a": 1}\n{"a": 2}\n')
    tables = Tables([parquet, lines, cases])
    assert tables.names == ["it_s_2026_01", "log", "cases"]
    assert tables.query("SELECT answer FROM it_s_2026_01")[1] == [(42,)]
    assert tables.query("SELECT sum(a) FROM log")[1] == [(3,)]


HOSTILE = [
    "DROP VIEW cases",
    "CREATE TABLE t (x INT)",
    "INSERT INTO cases VALUES ('x', 1, 1)",
    "UPDATE cases SET n = 0",
    "DELETE FROM cases",
    "COPY cases TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{file}'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/new.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA enable_external_access",
    "RESET lock_configuration",
    "CALL pragma_version()",
    "SELECT 1; DROP VIEW cases",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('{file}/../secret.csv')",
    "SELECT * FROM read_csv('http://127.0.0.1/x.csv')",
    "SELECT * FROM query('DROP VIEW cases')",
    "SELECT getenv('HOME')",
    "EXPLAIN ANALYZE CREATE TABLE t (x INT)",
    "not SQL at all",
    "",
]


@pytest.mark.parametrize("query", HOSTILE)
def test_what_writes_or_reads_elsewhere_is_refused_in_a_line(cases, query):
    secret = cases.parent / "secret.csv"
    secret.write_text("secret\n42\n")
    before = {path: path.read_bytes() for path in cases.parent.iterdir()}
    tool = sql(cases)
    query = query.format(folder=cases.parent, file=cases)
    model = Script([Reply(calls=(ToolCall("1", "sql", {"query": query}),)), Reply(text="done")])
    answer = run(react("q", [tool]), model)
    assert answer.value == "done"
    [told] = [message.content for message in answer.trace if message.role == "tool"]
    assert told.startswith("Error: ")
    assert "42" not in told
    assert len(told) < 400
    assert {path: path.read_bytes() for path in cases.parent.iterdir()} == before
    assert tool(query="SELECT count(*) AS n FROM cases") == "n\n3"


def test_a_query_that_does_not_end_is_stopped(cases):
    tables = Tables([cases], timeout_s=0.5)
    with pytest.raises(WrongCall, match="stopped after 0"):
        tables.query("SELECT count(*) FROM range(3000000) a, range(3000000) b WHERE a.range * b.range % 7 = 1")
    assert tables.query("SELECT 1")[1] == [(1,)]


def test_a_query_that_takes_too_much_memory_is_an_error(cases):
    with pytest.raises(WrongCall, match="Out of Memory"):
        Tables([cases], timeout_s=60).query("SELECT list(range) FROM range(1000000000)")


def test_many_rows_and_long_cells_are_cut(cases):
    told = sql(cases)(query="SELECT repeat('x', 1000) AS x FROM range(1000)")
    assert told.endswith("[only the first 50 rows]")
    assert len(told) < 12_000


def test_what_is_no_table_is_wrong_set_up(tmp_path):
    with pytest.raises(DataError, match="is no file of a table"):
        Tables([tmp_path / "none.csv"])
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        querying(Tables([tmp_path / "bad.parquet"]))
