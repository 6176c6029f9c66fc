"""SQL over files: read, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from promptlab import Reply, arun, run
from promptlab.errors import DataError, SetupError, WrongCall
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.sql import Tables, querying, sql
from promptlab.types import ToolCall

pytest.importorskip("duckdb")


@pytest.fixture
def cases(tmp_path):
    gc.collect()  # engines that other tests' tracebacks still held end here, not between two looks at what runs
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


DEAF = "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000)) AS d"  # one call, of minutes, in little memory
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc, and addresses are limited")


@linux
def test_a_call_that_cannot_be_interrupted_is_stopped_in_time_and_leaves_nothing(cases):
    before = below(os.getpid())
    tables = Tables([cases], timeout_s=1)
    [engine] = below(os.getpid()) - before
    began = time.monotonic()
    with pytest.raises(WrongCall, match="stopped after 1 s"):
        tables.query(DEAF)
    assert time.monotonic() - began < 10
    assert not Path(f"/proc/{engine}").exists()
    assert tables.query("SELECT sum(n) FROM cases")[1] == [(13,)]
    tables.close()
    assert below(os.getpid()) == before
    with pytest.raises(WrongCall, match="closed"):
        tables.query("SELECT 1")


@linux
@pytest.mark.parametrize("value", ["length(repeat(repeat('a', 1000000), 3000))", "len(range(1300000000))"])
def test_a_call_that_takes_too_much_memory_gets_none(cases, value):
    """Gigabytes in one value, which are not the engine's tables'."""
    before = below(os.getpid())
    tables = Tables([cases], timeout_s=60)
    [engine] = below(os.getpid()) - before
    most = memory(engine)  # a call may be over before it is looked at again
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tables.query, f"SELECT {value}")
        while not asked.done():
            most = max(most, memory(engine))
        with pytest.raises(WrongCall, match="Out of Memory"):
            asked.result()
    assert 0 < most < 3 * 2**29
    assert not Path(f"/proc/{engine}").exists()
    assert tables.query("SELECT count(*) FROM (SELECT DISTINCT range FROM range(8000000))")[1] == [(8000000,)]


@linux
def test_an_engine_that_was_killed_is_an_error_and_the_next_query_has_another(cases):
    before = below(os.getpid())
    tables = Tables([cases], timeout_s=60)
    [engine] = below(os.getpid()) - before
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tables.query, DEAF)
        time.sleep(0.2)
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(WrongCall, match="ended the engine"):
            asked.result()
    assert tables.query("SELECT sum(n) FROM cases")[1] == [(13,)]


@linux
def test_a_tool_that_is_no_longer_used_leaves_no_process(cases):
    before = below(os.getpid())
    tool = sql(cases)
    assert below(os.getpid()) != before
    del tool
    assert below(os.getpid()) == before


HOST = """
import os, sys, threading
from promptlab.tools.sql import Tables
tables = Tables([sys.argv[1]], timeout_s=600)
threading.Thread(target=tables.query, args=(sys.argv[2],), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
raise SystemError
"""


@linux
@pytest.mark.parametrize("query", ["SELECT 1", DEAF])
@pytest.mark.parametrize("end", [subprocess.Popen.kill, lambda host: host.communicate("\n")])
def test_the_engine_ends_with_its_host_however_that_ends(cases, query, end):
    command = [sys.executable, "-c", HOST, cases, query]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout.readline() == "ready\n"
        [engine] = below(host.pid)
        end(host)
    wait_until(lambda: not Path(f"/proc/{engine}").exists())


def below(host):
    """The children of a process, whichever of its threads has started them: one that ends hands its own to another."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nPPid:\t{host}\n" in status.read_text():
                found.add(int(status.parent.name))
    return found


def memory(process):
    """Bytes of memory that a process has; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def wait_until(happened, patience_s=60.0):
    end = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_threads_ask_at_once_and_are_each_answered(cases):
    tables = Tables([cases])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: tables.query(f"SELECT n * {i} FROM cases WHERE n = 9")[1], range(12)))
    assert answers == [[(9 * i,)] for i in range(12)]


def test_queries_run_in_an_event_loop(cases):
    async def asked():
        calls = [ToolCall(str(i), "sql", {"query": query}) for i, query in enumerate([DEAF, "SELECT 6 * 7 AS x"])]
        model = Script([Reply(calls=tuple(calls)), Reply(text="done")])
        model.batched = False
        return await arun(react("q", [querying(Tables([cases], timeout_s=1))]), model)

    told = [message.content for message in asyncio.run(asked()).trace if message.role == "tool"]
    assert told == ["Error: the query was stopped after 1 s", "x\n42"]


def test_values_are_what_they_were_in_the_engine(cases):
    values = "1.50::DECIMAL(5, 2), DATE '2026-01-31', [1, NULL], {'a': 'b'}, 'x'::BLOB, 2::HUGEINT ** 100, 'NaN'::FLOAT"
    told = sql(cases)(query=f"SELECT {values}")
    assert told.splitlines()[1] == "1.50 | 2026-01-31 | [1, None] | {'a': 'b'} | b'x' | 1.26765060023e+30 | nan"


def test_a_file_that_is_gone_when_the_engine_starts_anew_is_told(cases):
    tables = Tables([cases], timeout_s=1)
    with pytest.raises(WrongCall, match="stopped"):
        tables.query(DEAF)
    moved = cases.rename(cases.with_name("away.csv"))
    with pytest.raises(WrongCall, match="cannot be read"):
        tables.query("SELECT 1")
    moved.rename(cases)
    assert tables.query("SELECT 1")[1] == [(1,)]


def test_names_that_differ_by_case_or_are_patterns_are_tables_of_their_own_files(tmp_path):
    files = [tmp_path / name for name in ("x[1].csv", "X[1].csv", "x_1__4.csv", "sub/x[1].csv", "y*.json", "y2.json")]
    (tmp_path / "sub").mkdir()
    (tmp_path / "x1.csv").write_text("who\nthe wrong one\n")
    for file in files:
        text = f'{{"who": "{file}"}}' if file.suffix == ".json" else f"who\n{file}\n"
        file.write_text(text)
    tables = Tables(files)
    assert tables.names == ["x_1_", "X_1__2", "x_1__4", "x_1__5", "y_", "y2"]
    for name, file in zip(tables.names, files, strict=True):
        assert tables.query(f"SELECT who FROM {name}")[1] == [(str(file),)]
    with pytest.raises(WrongCall, match="Permission"):
        tables.query(f"SELECT * FROM read_csv('{tmp_path}/x[1].csv')")


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


def test_without_the_engine_the_set_up_says_what_to_install(cases, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(SetupError, match="pip install"):
        sql(cases)
