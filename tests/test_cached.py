"""What was asked before is not asked again: across programs, processes, crashes; and nothing is mistaken for it."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptlab import (
    Message,
    ModelError,
    Reply,
    Request,
    Usage,
    arun,
    ask,
    attempt,
    gather,
    model,
    replay,
    run,
    sample,
    score,
)
from promptlab.backends.routed import Routed
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.recorded import Recorded
from promptlab.backends.wrappers.traced import Traced
from promptlab.errors import (
    ContextOverflow,
    DataError,
    Malformed,
    Refused,
    ReplayMiss,
    SetupError,
    Truncated,
    Unavailable,
)
from promptlab.jsonable import dumped, reply_from, reply_json, request_from, request_json
from promptlab.program import traced
from promptlab.testing import FakeServer, Fault, Script
from promptlab.types import Token, ToolCall, ToolSpec

WHO = {"name": "test"}


async def asked(question: str, **options: Any) -> str:
    return (await ask(question, **options)).text


def counting(batched: bool = True) -> Script:
    """Says how often it was asked."""
    made = Script(lambda request: f"{len(made.requests)}: {request.messages[-1].content}", batched=batched)
    return made


# ---- requests and replies as JSON

texts = st.text(max_size=8)
calls = st.builds(
    ToolCall, texts, texts, st.dictionaries(texts, st.integers() | texts | st.none() | st.lists(st.booleans())), texts
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    texts,
    st.lists(calls, max_size=2).map(tuple),
    st.none() | texts,
    st.none() | st.lists(st.dictionaries(texts, texts), min_size=1, max_size=2).map(tuple),
)
finite = st.floats(allow_nan=False, width=32)
some = {
    "messages": st.lists(messages, min_size=1, max_size=3).map(tuple),
    "continuations": st.lists(texts, max_size=2).map(tuple),
    "max_tokens": st.none() | st.integers(0, 99),
    "temperature": st.none() | finite,
    "top_p": finite,
    "stop": st.lists(texts, max_size=2).map(tuple),
    "seed": st.none() | st.integers(),
    "logprobs": st.booleans(),
    "tools": st.lists(st.builds(ToolSpec, texts, texts, st.dictionaries(texts, texts)), max_size=2).map(tuple),
    "schema": st.none() | st.dictionaries(texts, st.integers()),
    "branch": st.lists(st.integers(0, 9), max_size=3).map(tuple),
    "alternatives": st.booleans(),
    "to": texts,
}
requests = st.builds(Request, **some)


def test_every_field_of_a_request_is_among_those_tried():
    assert some.keys() == {field.name for field in fields(Request) if field.compare}


@given(requests)
def test_a_request_is_told_and_read_without_loss(request: Request):
    assert request_from(request_json(request)) == request


def whole(request: Request) -> str:
    """In which 1 and True differ; a message does not show what is opaque."""
    return repr((request, [message.opaque for message in request.messages]))


@given(requests, st.sampled_from(sorted(some)), st.data())
def test_whatever_differs_in_a_request_differs_in_what_is_told_of_it(request: Request, name: str, data: Any):
    other = replace(request, **{name: data.draw(some[name])})
    assert (dumped(request_json(other)) == dumped(request_json(request))) == (whole(other) == whole(request))


@given(
    st.builds(
        Reply,
        texts,
        st.lists(calls, max_size=2).map(tuple),
        st.sampled_from(["stop", "length", "calls"]),
        st.lists(st.builds(Token, texts, finite), max_size=3).map(tuple),
        st.lists(finite, max_size=3).map(tuple),
        st.builds(Usage, *[st.integers(0, 99)] * 4, cost_usd=st.none() | st.floats(0, 9)),
        st.none() | st.lists(st.dictionaries(texts, texts), min_size=1, max_size=2).map(tuple),
    )
)
def test_a_reply_is_told_and_read_without_loss(reply: Reply):
    assert reply_from(reply_json(reply)) == reply
    failed = reply_from(reply_json(Refused("no", reply=reply)))
    assert (type(failed), str(failed), failed.reply) == (Refused, "no", reply)  # type: ignore[union-attr]


# ---- the same is asked once


@pytest.mark.parametrize("batched", [True, False], ids=["in step", "concurrent"])
def test_equal_requests_are_one_call_and_branches_are_calls_of_their_own(tmp_path: Path, batched: bool):
    backend = counting(batched)
    cached = Cached(backend, tmp_path / "calls.db", identity=WHO)
    assert set(run([asked("same")] + [asked("same") for _ in range(49)], cached)) == {"1: same"}
    assert len(backend.requests) == 1

    async def fifty() -> list[str]:
        return [reply.text for reply in await sample("draw", 50)]

    drawn = run(fifty(), cached)
    assert len(backend.requests) == 51
    assert run(fifty(), Cached(Script(()), tmp_path / "calls.db", identity=WHO)) == drawn


def test_fifty_equal_calls_at_a_server_are_one(tmp_path: Path):
    with FakeServer(["hi"] * 50) as server:
        backend = Cached(model(f"openai:m@{server.url}", key="x"), tmp_path / "calls.db")
        assert set(run([asked("same") for _ in range(50)], backend)) == {"hi"}
        assert len(server.received) == 1


def test_in_step_in_a_loop_and_by_hand_it_is_the_same_cache(tmp_path: Path):
    cached = Cached(counting(False), tmp_path / "calls.db", identity=WHO)
    first = run(asked("q", seed=1), cached)
    assert asyncio.run(arun(asked("q", seed=1), cached)) == first
    in_step = Cached(counting(True), tmp_path / "calls.db", identity=WHO)
    assert run(asked("q", seed=1), in_step) == first
    assert in_step.backend.requests == []


def test_what_may_change_the_answer_is_part_of_who_answers(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    for name in ("one", "another"):
        run(asked("q"), Cached(counting(), record, identity={"name": name}))
    assert len(record) == 2
    tiny = model("tiny")
    assert run(asked("q", max_tokens=4), Cached(tiny, record)) == run(asked("q", max_tokens=4), tiny)
    assert Cached(tiny, record).identity["sha256"] == tiny.sha256


def test_a_backend_that_does_not_say_what_it_is_cannot_be_cached(tmp_path: Path):
    with pytest.raises(SetupError, match="script does not say what it is"):
        Cached(Script(["x"]), tmp_path / "calls.db")


class Failing:
    """Fails the first time, and answers then."""

    batched = False

    def __init__(self, error: BaseException) -> None:
        self.error, self.asked = error, 0

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise NotImplementedError

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.asked += 1
        first = self.asked == 1
        await asyncio.sleep(0.01)
        if first and not isinstance(self.error, ModelError):
            raise self.error
        return [self.error if first else Reply("fine") for _ in requests]  # type: ignore[list-item]


class Stuck(Failing):
    """Does not answer the first time."""

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.asked += 1
        await asyncio.sleep(3600 if self.asked == 1 else 0.01)
        return [Reply("fine") for _ in requests]


def test_a_leader_that_fails_does_not_fail_the_others(tmp_path: Path):
    backend = Failing(Unavailable("not now"))
    results = run([asked("same") for _ in range(5)], Cached(backend, tmp_path / "calls.db", identity=WHO))
    assert isinstance(results[0], Unavailable)
    assert results[1:] == ["fine"] * 4


def test_a_leader_that_is_cancelled_does_not_cancel_the_others_of_whom_one_asks(tmp_path: Path):
    backend = Stuck(ModelError("unused"))
    cached = Cached(backend, tmp_path / "calls.db", identity=WHO)

    async def main() -> list[str]:
        leader = asyncio.create_task(arun(asked("same"), cached))
        await asyncio.sleep(0.05)
        followers = [asyncio.create_task(arun(asked("same"), cached)) for _ in range(50)]
        await asyncio.sleep(0.05)
        leader.cancel()
        return await asyncio.gather(*followers)

    assert asyncio.run(main()) == ["fine"] * 50
    assert backend.asked == 2


def test_a_follower_that_is_cancelled_does_not_cancel_the_leader(tmp_path: Path):
    backend = Failing(ModelError("unused"))
    backend.asked = 1
    cached = Cached(backend, tmp_path / "calls.db", identity=WHO)

    async def main() -> str:
        leader = asyncio.create_task(arun(asked("same"), cached))
        await asyncio.sleep(0.002)
        follower = asyncio.create_task(arun(asked("same"), cached))
        await asyncio.sleep(0.002)
        follower.cancel()
        return await leader

    assert asyncio.run(main()) == "fine"
    assert backend.asked == 2


def test_an_exception_of_the_backend_is_raised_and_nothing_hangs(tmp_path: Path):
    backend = Failing(RuntimeError("a bug"))
    cached = Cached(backend, tmp_path / "calls.db", identity=WHO)
    with pytest.raises(RuntimeError, match="a bug"):
        run([asked("same") for _ in range(3)], cached)
    assert run(asked("same"), cached) == "fine"


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (Refused("no", reply=Reply("I will not")), 1),
        (Truncated("cut", reply=Reply("{")), 1),
        (Unavailable("busy"), 2),
        (ModelError("bad"), 2),
        (Malformed("cut off"), 2),
    ],
    ids=lambda given: type(given).__name__,
)
def test_failures_that_were_paid_for_and_final_are_kept(tmp_path: Path, error: ModelError, times: int):
    backend = Script(lambda request: error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            run(asked("q"), Cached(backend, tmp_path / "calls.db", identity=WHO))
    assert len(backend.requests) == times
    together = Always(error)
    failed = run([asked("same") for _ in range(50)], Cached(together, tmp_path / "calls.db", identity=WHO))
    assert [(type(each), str(each)) for each in failed] == [(type(error), str(error))] * 50
    assert together.asked == times  # what may not be so another time, one of those who wait asks once more


class Always(Failing):
    """Fails every time."""

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return [self.error] * len(requests)  # type: ignore[list-item]


def test_a_batch_is_answered_in_order_whatever_is_there_already(tmp_path: Path):
    backend = counting()
    cached = Cached(backend, tmp_path / "calls.db", identity=WHO)
    questions = [Request((Message("user", f"q{i}"),)) for i in range(6)]
    cached.generate(questions[::2])
    replies = cached.generate([*questions, questions[0]])
    assert [reply.text.split()[1] for reply in replies] == ["q0", "q1", "q2", "q3", "q4", "q5", "q0"]
    assert [len(backend.requests), backend.batches] == [6, [3, 3]]


def test_it_can_be_sent_to_another_process(tmp_path: Path):
    cached = Cached(model("tiny"), tmp_path / "calls.db")
    first = run(asked("symptom: wheeze", max_tokens=5), cached)
    again = pickle.loads(pickle.dumps(cached))
    assert run(asked("symptom: wheeze", max_tokens=5), again) == first
    assert len(again.record) == 1


# ---- the file


def write_many(path: str, who: int, n: int) -> None:
    record = Record(path)
    cached = Cached(Script(lambda request: request.messages[-1].content * 3), record, identity=WHO)
    for i in range(n):
        cached.generate([Request((Message("user", f"{i if i % 2 else (who, i)}"),))])


def test_processes_share_a_file_without_loss(tmp_path: Path):
    path, n = str(tmp_path / "calls.db"), 300
    Record(path)
    started = [multiprocessing.get_context("spawn").Process(target=write_many, args=(path, i, n)) for i in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    assert len(Record(path)) == n + n // 2
    cached = Cached(Script(()), path, identity=WHO)
    for question in ("1", "299", "(0, 0)", "(1, 298)"):
        assert cached.generate([Request((Message("user", question),))])[0].text == question * 3


def settled(path: Path, *statements: str) -> bytes:
    """What a file holds once all of it is in one, and statements were done."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    for each in statements:
        db.execute(each)
    db.close()
    return path.read_bytes()


def test_an_empty_file_becomes_a_cache(tmp_path: Path):
    (tmp_path / "calls.db").touch()
    assert run(asked("q"), Cached(counting(), tmp_path / "calls.db", identity=WHO)) == "1: q"
    assert run(asked("q"), Cached(Script(()), tmp_path / "calls.db", identity=WHO)) == "1: q"


@pytest.mark.parametrize(
    "statements",
    [
        None,
        ["CREATE TABLE notes (said)"],
        ["CREATE TABLE calls (id, at)"],
        ["CREATE TABLE notes (said)", "PRAGMA user_version = 7"],
        ["CREATE TABLE notes (said)", "PRAGMA application_id = 7"],
    ],
    ids=["text", "database", "table of the same name", "version", "application"],
)
def test_files_of_others_are_refused_and_left_as_they_are(tmp_path: Path, statements: list[str] | None):
    path = tmp_path / "notes.csv"
    if statements is None:
        path.write_text("note,label\nfever,yes\n" * 30)
    else:
        settled(path, *statements)
    content = path.read_bytes()
    with pytest.raises(SetupError, match=r"notes\.csv is not a promptlab cache"):
        Cached(counting(), path, identity=WHO)
    with pytest.raises(DataError, match=r"notes\.csv is no record of calls"):
        replay(asked("q"), path)
    assert [path.read_bytes(), list(tmp_path.iterdir())] == [content, [path]]


def test_a_file_of_before_files_were_marked_is_read(tmp_path: Path):
    path = tmp_path / "calls.db"
    cached = Cached(counting(), path, identity=WHO)
    run(asked("q"), cached)
    cached.record.close()
    settled(
        path, "PRAGMA application_id = 0", f"UPDATE answers SET crc = {zlib.crc32(dumped(reply_json(Reply('1: q'))))}"
    )
    assert replay(asked("q"), path) == "1: q"
    assert run(asked("q"), Cached(Script(()), path, identity=WHO)) == "1: q"


def with_broken_answers(path: Path) -> None:
    """What is kept cannot be read; calls can be noted."""
    where = []
    with sqlite3.connect(path) as db:
        where = [page for (page,) in db.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'answers'")]
    db.close()
    content = bytearray(settled(path))
    for page in where:
        content[4096 * (page - 1) : 4096 * page] = bytes(4096)
    path.write_bytes(content)


def test_a_broken_file_is_set_aside_once_and_calls_under_way_end_with_it(tmp_path: Path):
    path = tmp_path / "calls.db"
    first = Cached(counting(), path, identity=WHO)
    run(asked("old"), first)
    first.record.close()
    with_broken_answers(path)
    one, another = Record(path), Record(path)  # nothing is known of it so far

    cached = Cached(Traced(Script(["1", "2"]), one), one, identity=WHO)

    def answered(request: Request) -> str:
        with pytest.warns(UserWarning, match=r"set aside as calls\.db\.broken-1"):
            return run(asked("inner"), cached)

    assert run(asked("outer"), Traced(Script(answered), one)) == "1"
    assert run(asked("more"), cached) == "2"
    assert run([asked("inner"), asked("more")], Cached(Script(()), another, identity=WHO)) == ["1", "2"]
    assert [(call.outcome, call.request.messages[0].content) for call in another.calls()] == [
        ("ok", "inner"),
        ("ok", "more"),
    ]
    assert [file.name for file in tmp_path.glob("*.broken-?")] == ["calls.db.broken-1"]


def test_a_file_is_not_set_aside_for_what_is_no_fault_of_its(tmp_path: Path):
    cached = Cached(counting(), tmp_path / "calls.db", identity=WHO)
    run(asked("q"), cached)
    cached.record.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        run(asked("another"), cached)
    assert [file.name for file in tmp_path.iterdir()] == ["calls.db"]
    assert run(asked("q"), Cached(Script(()), tmp_path / "calls.db", identity=WHO)) == "1: q"


def test_a_file_whose_header_says_that_it_cannot_be_written_is_read(tmp_path: Path):
    path = tmp_path / "calls.db"
    cached = Cached(counting(), path, identity=WHO)
    run(asked("old"), cached)
    cached.record.close()
    content = bytearray(settled(path))
    content[18] = 9
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="kept in memory"):
        cached = Cached(counting(), path, identity=WHO)
    assert run([asked("old"), asked("new")], cached) == ["1: old", "1: new"]


@pytest.mark.filterwarnings("ignore:.*(broken|torn|cannot be written)")
@settings(deadline=None, max_examples=25)
@example(place=0.0, byte=0)  # what every SQLite file begins with
@example(place=0.0005, byte=3)  # a version that may be read only
@example(place=0.09375, byte=128)  # in what the schema calls a table
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_byte_that_is_wrong_is_never_a_wrong_answer(tmp_path_factory: Any, place: float, byte: int):
    path = tmp_path_factory.mktemp("cache") / "calls.db"
    backend = Script(lambda request: "the answer to " + request.messages[-1].content)
    cached = Cached(backend, path, identity=WHO)
    questions = [Request((Message("user", f"question {i}"),)) for i in range(20)]
    cached.generate(questions)
    cached.record.close()
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] = byte
    path.write_bytes(content)
    try:
        again = Cached(backend, path, identity=WHO)
    except SetupError:  # it does not look like promptlab's any more
        assert int(place * (len(content) - 1)) in {*range(16), *range(60, 64), *range(68, 72)}
        assert path.read_bytes() == content
        return
    assert [reply.text for reply in again.generate(questions)] == [f"the answer to question {i}" for i in range(20)]


def test_a_torn_answer_is_asked_again(tmp_path: Path):
    path = tmp_path / "calls.db"
    cached = Cached(counting(), path, identity=WHO)
    run(asked("q"), cached)
    cached.record.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET reply = CAST(replace(CAST(reply AS TEXT), '1: q', '9: q') AS BLOB)")
    db.close()
    backend = counting()
    with pytest.warns(UserWarning, match="torn"):
        assert run(asked("q"), Cached(backend, path, identity=WHO)) == "1: q"
    assert len(backend.requests) == 1
    assert run(asked("q"), Cached(Script(()), path, identity=WHO)) == "1: q"


def test_where_nothing_can_be_written_the_cache_is_in_memory(tmp_path: Path):
    folder = tmp_path / "folder"
    run(asked("old"), Cached(counting(), folder / "calls.db", identity=WHO))
    blocked = tmp_path / "a file"
    blocked.write_text("")
    backend = counting()
    with pytest.warns(UserWarning, match="kept in memory"):
        cached = Cached(backend, blocked / "calls.db", identity=WHO)
    assert run([asked("new"), asked("new")], cached) == ["1: new"] * 2
    assert len(backend.requests) == 1


SOMEBODY = """
import os, sys, warnings
from pathlib import Path
from promptlab import ask, replay, run
from promptlab.backends.wrappers.cached import Cached
from promptlab.testing import Script

async def asked(question):
    return (await ask(question)).text

path = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
print(replay(asked("old"), path))
with warnings.catch_warnings(record=True) as warned:
    cached = Cached(Script(["new"]), path, identity={"name": "test"})
print(run(asked("old"), cached), run([asked("new"), asked("new")], cached), [str(each.message) for each in warned])
"""


@pytest.mark.parametrize("case", ["file", "folder", "with a log", "with a log to be read first"])
def test_a_read_only_cache_is_read_and_what_is_new_is_kept_in_memory(case: str):
    with TemporaryDirectory() as place:  # that others may enter
        folder = Path(place) / "folder"
        folder.mkdir()
        path = folder / "calls.db"
        cached = Cached(counting(), path, identity=WHO)
        run(asked("old"), cached)
        if "log" in case:  # as a killed process leaves it: all is in there
            kept = {file.name: file.read_bytes() for file in folder.iterdir()}
            cached.record.close()
            for name, content in kept.items():
                (folder / name).write_bytes(content)
            if case == "with a log to be read first":
                (folder / "calls.db-shm").unlink()
        cached.record.close()
        content = path.read_bytes()
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o777 if case == "file" else 0o555)
        Path(place).chmod(0o755)
        done = subprocess.run([sys.executable, "-c", SOMEBODY, str(path)], capture_output=True, text=True)
        folder.chmod(0o700)
        assert done.stderr == ""
        first, second = done.stdout.splitlines()
        assert first == "1: old"
        assert second.startswith("1: old ['new', 'new'] [")
        assert second.count("what is new is kept in memory") == 1
        assert path.read_bytes() == content


def test_a_newer_file_is_not_touched(tmp_path: Path):
    path = tmp_path / "calls.db"
    Record(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SetupError, match="newer promptlab"):
        Record(path)


def test_threads_may_share_it(tmp_path: Path):
    cached = Cached(counting(), tmp_path / "calls.db", identity=WHO)
    answers: list[str] = []

    def work() -> None:
        answers.extend(run(asked(f"q{i}"), cached) for i in range(30))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 120
    assert len(set(answers)) == 30


def open_new(path: str, n: int, begin: Any) -> None:
    for i in range(n):
        begin.wait()
        run(asked("q"), Cached(Script(lambda request: "a"), f"{path}-{i}", identity=WHO))


def test_processes_may_make_the_same_file_at_the_same_time(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(3)
    started = [context.Process(target=open_new, args=(str(tmp_path / "calls.db"), 20, begin)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * 3
    assert [len(Record(tmp_path / f"calls.db-{i}")) for i in range(20)] == [1] * 20


FORKED = """
import os, sys
from promptlab import ask, run
from promptlab.backends.wrappers.cached import Cached
from promptlab.testing import Script

async def asked(question):
    return (await ask(question)).text

cached = Cached(Script(lambda request: "a"), sys.argv[1], identity={"name": "test"})
run(asked("before"), cached)
connection = cached.record._db
children = []
for i in range(2):
    children += [os.fork()]
    if children[-1] == 0:
        run([asked(f"{i} {j}") for j in range(50)], cached)
        os._exit(cached.record._db is connection)
run([asked(f"parent {j}") for j in range(50)], cached)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], len(cached.record))
"""


def test_forked_processes_open_the_file_anew(tmp_path: Path):
    command = [sys.executable, "-c", FORKED, str(tmp_path / "calls.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[0, 0] 151\n", "")


# ---- replay


async def two_steps(question: str) -> list[str]:
    drafts = await gather(asked(f"{question} (draft {i})", temperature=0.5) for i in range(3))
    final = await ask([Message("user", question), Message("assistant", drafts[0]), Message("user", "sure?")])
    return [*drafts, final.text, *map(str, await score("a", ["b", "c"]))]


def test_a_recording_replays_whole_programs_without_a_socket(tmp_path: Path):
    with FakeServer(lambda request: Reply(f"<{request.messages[-1].content}>"), models=["m"]) as server:
        backend: Any = model(f"openai:m@{server.url}", key="x", api="completions")
        backend.scores = False

        async def program() -> list[str]:
            drafts = await gather(asked(f"q (draft {i})", temperature=0.5) for i in range(3))
            return [*drafts, await asked("sure?")]

        backend = Cached(backend, tmp_path / "calls.db")
        first = run(program(), backend)
        received = len(server.received)
    backend.record.close()
    assert replay(program(), tmp_path) == first
    assert replay(program(), tmp_path / "calls.db") == first
    assert received == 4
    assert [file.name for file in tmp_path.iterdir()] == ["calls.db"]


def test_scores_and_tools_replay_too(tmp_path: Path):
    tiny = model("tiny")
    first = run(two_steps("symptom: wheeze"), Cached(tiny, tmp_path / "calls.db"))
    assert run(two_steps("symptom: wheeze"), Recorded(tmp_path)) == first


def test_what_was_not_recorded_is_shown_beside_the_nearest_that_was(tmp_path: Path):
    cached = Cached(counting(), tmp_path / "calls.db", identity=WHO)
    run([asked("how many masks are left?", temperature=0.5), asked("something else")], cached)
    with pytest.raises(ReplayMiss) as missed:
        replay(asked("how many masks are left?", temperature=0.7), tmp_path)
    assert "-" in str(missed.value)
    lines = str(missed.value).splitlines()
    assert any(line.startswith("-") and "0.5" in line for line in lines)
    assert any(line.startswith("+") and "0.7" in line for line in lines)
    assert "something else" not in str(missed.value)
    with pytest.raises(SetupError, match="no recording"):
        replay(asked("x"), tmp_path / "nowhere.db")


def test_of_a_long_prompt_what_differs_is_shown(tmp_path: Path):
    before, after = "Read this. " * 300, " And answer." * 300
    run(asked(f"{before}Is it red?{after}"), Cached(counting(), tmp_path / "calls.db", identity=WHO))
    with pytest.raises(ReplayMiss) as missed:
        replay(asked(f"{before}Is it blue?{after}"), tmp_path)
    _, old, new = str(missed.value).splitlines()
    assert ">>>red<<<? And" in old
    assert ">>>blue<<<? And" in new
    assert max(len(old), len(new)) < 120


async def careful(question: str) -> str:
    """Asks for less where it was too much."""
    try:
        return await asked(question)
    except ContextOverflow as error:
        return f"{error} -> {await asked(question[:5])}"


def test_requests_that_failed_fail_in_the_same_way_when_replayed(tmp_path: Path):
    with FakeServer(["fine"] * 3, faults=[Fault.context_length(), None, Fault.status(422)]) as server:
        who = f"openai:m@{server.url}"
        live = model(who, key="x", cache=tmp_path / "calls.db")
        first = run(careful("a long question"), live)
        unwell = run(attempt(asked("odd")), live)
    assert first.endswith("-> fine")
    offline = model(who, key="x", cache=tmp_path / "calls.db", offline=True)
    for again in (offline, Recorded(tmp_path)):
        assert run(careful("a long question"), again) == first
        failed = run(attempt(asked("odd")), again)
        assert (type(failed), str(failed)) == (type(unwell), str(unwell))


def test_offline_every_request_that_is_missing_is_told(tmp_path: Path):
    for batched in (True, False):
        cached = Cached(Script((), batched=batched), tmp_path / "calls.db", identity=WHO, offline=True)
        for _ in range(2):

            async def main() -> None:
                async with asyncio.timeout(5):
                    await arun(asked("q"), cached)  # noqa: B023

            with pytest.raises(ReplayMiss, match="Nothing at all is recorded"):
                asyncio.run(main())


def test_two_models_that_were_asked_the_same_are_told_apart(tmp_path: Path):
    record = Record(tmp_path / "calls.db")
    for name in ("small", "large"):
        run(asked("q"), Cached(Script([name]), record, identity={"name": name}))
    with pytest.raises(SetupError, match=r"say whose answer counts .*promptlab\.backends\.wrappers\.Recorded\("):
        run(asked("q"), Recorded(tmp_path))
    assert run(asked("q"), Recorded(tmp_path, model="large")) == "large"
    assert replay(asked("q"), tmp_path, model="small") == "small"


def test_requests_for_several_models_behind_one_door_are_told_apart(tmp_path: Path):
    routed = Routed(Script(lambda request: "one"), judge=Script(lambda request: "another"))

    async def both() -> list[str]:
        return await gather([asked("q"), asked("q", to="judge")], branches=[(0,), (0,)])

    cached = Cached(routed, tmp_path / "calls.db", identity=WHO)
    assert run([asked("q"), asked("q", to="judge")], cached) == ["one", "another"]
    assert run(both(), cached) == replay(both(), tmp_path) == ["one", "another"]
    assert replay(both(), run(traced(both()), routed).exchanges) == ["one", "another"]


KILLED = """
import sys, os
from pathlib import Path
from promptlab import ask, gather, run
from promptlab.backends.wrappers.cached import Cached
from promptlab.testing import Script
folder, after = Path(sys.argv[1]), int(sys.argv[2])

def answered(request):
    with (folder / "asked").open("a") as file:
        file.write(request.messages[-1].content + "\\n")
    if sum(1 for _ in (folder / "asked").open()) == after:
        os.kill(os.getpid(), 9)
    return "answer to " + request.messages[-1].content

async def program(i):
    first = await ask(f"question {i}")
    return (await ask(f"and then, {first.text}?")).text

batched = sys.argv[3] == "True"
backend = Cached(Script(answered, batched=batched), folder / "calls.db", identity={"n": 1})
print(run([program(i) for i in range(10)], backend))
"""


@pytest.mark.parametrize(("after", "batched"), [(1, False), (7, False), (14, False), (5, True), (16, True)])
def test_after_a_kill_nothing_that_was_answered_is_asked_again(tmp_path: Path, after: int, batched: bool):
    def go(at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(at), str(batched)]
        return subprocess.run(command, capture_output=True, text=True)

    assert go(after).returncode == -9
    done = go(10_000)
    assert done.returncode == 0, done.stderr
    assert done.stdout == str([f"answer to and then, answer to question {i}?" for i in range(10)]) + "\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    in_flight = 10 if batched else 1  # a batch is answered as one
    assert len(set(asked)) == 20
    assert len(asked) <= 20 + in_flight
