"""Batch jobs: the same programs at the batch price, through crashes at any point of a job's life."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from sdks import anthropic, openai

from promptlab import ModelError, arun, ask, attempt, gather, model, run, sample
from promptlab.backends.anthropic import Anthropic
from promptlab.backends.http import certificates
from promptlab.backends.openai import OpenAI
from promptlab.backends.wrappers.batch_jobs import BatchJobs
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.emulating import Emulating
from promptlab.backends.wrappers.wrapper import Wrapper
from promptlab.errors import BudgetExceeded, ContextOverflow, DataError, Refused, SetupError, Unauthorized, Unavailable
from promptlab.strategies import self_consistency
from promptlab.testing import FakeServer, Fault, Jobs, Script
from promptlab.types import Message, Reply, Request, Usage

SPECS = {
    "chat": ("openai", {}),
    "responses": ("openai", {"api": "responses"}),
    "completions": ("openai", {"api": "completions"}),
    "messages": ("anthropic", {}),
}
PROVIDERS = ["chat", "messages"]


def says(request: Request) -> str:
    """An answer that is the same whatever the format says of a request, and other for other prompts."""
    said = request.messages[-1].content.strip()
    return f"A{sum(said.encode()) % 10} to {len(said)}. The answer is {sum(said.encode()) % 3}"


def hosted(server: FakeServer, format: str = "chat", **options: Any) -> Any:
    kind, given = SPECS[format]
    return model(f"{kind}:m@{server.url}", **given, **options)


def bare(backend: Any) -> Any:
    """The backend without its wrappers: what fails is not tried again."""
    return bare(backend.backend) if isinstance(backend, Wrapper) else backend


def jobs(backend: Any, folder: Path, **options: Any) -> BatchJobs:
    return BatchJobs(backend, folder, **{"poll_s": 0.001, **options})


def sizes(server: FakeServer) -> list[int]:
    return [len(job.lines) for job in server.jobs.jobs]


async def two_steps(question):
    first = await ask(question)
    second = await ask([Message("user", question), first.message, Message("user", f"why {first.text}?")])
    return first.text, second.text


async def voted(question):
    return (await self_consistency(question, n=4, temperature=None)).votes


async def until_two_agree(question):
    async def one(i):
        return (await ask(f"{question} {i}")).text[-1]

    def decided(results):
        return any(results.count(each) >= 2 for each in results)

    return await gather((one(i) for i in range(6)), until=decided)


PROGRAMS = [two_steps, voted, until_two_agree]
QUESTIONS = ["one and one?", "two and two?", "what else?"]

# ---- the same, live and in jobs


@pytest.mark.parametrize("format", SPECS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_come_to_the_same_as_live_with_one_job_a_wave(program, format, tmp_path):
    in_step = Script(says)
    expected = run([program(question) for question in QUESTIONS], in_step)
    with FakeServer(says, jobs=Jobs(polls=2, shuffled=True)) as server:
        backend = hosted(server, format)
        in_jobs = run([program(question) for question in QUESTIONS], jobs(backend, tmp_path))
        live = run([program(question) for question in QUESTIONS], backend)
    assert in_jobs == live
    if format != "completions":  # which knows one text only
        assert in_jobs == expected
        assert sizes(server) == in_step.batches


def test_run_has_a_door_of_its_own_and_a_folder_to_go_on_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FakeServer(says, jobs=Jobs(polls=1)) as server:
        first = run(two_steps("q"), hosted(server), batch=True)
        received = len(server.received)
        assert run(two_steps("q"), hosted(server), batch="runs/jobs") == first
        assert len(server.received) == received
        assert run(two_steps("q"), hosted(server), batch=tmp_path / "other") == first
        assert asyncio.run(arun(two_steps("q"), hosted(server), batch=tmp_path / "third")) == first
    assert sizes(server) == [1] * 6
    assert len(list((tmp_path / "runs/jobs").glob("*.json"))) == 2


def test_the_concurrent_runner_asks_in_jobs_too(tmp_path):
    with FakeServer(says) as server:
        results = asyncio.run(arun([two_steps(q) for q in QUESTIONS], jobs(hosted(server), tmp_path)))
    assert results == run([two_steps(q) for q in QUESTIONS], Script(says))
    assert sizes(server) == [3, 3]


@pytest.mark.parametrize("format", PROVIDERS)
def test_results_are_put_in_order_and_equal_requests_are_lines_of_their_own(format, tmp_path):
    counter = iter(range(100))
    with FakeServer(
        lambda request: f"{request.messages[-1].content} {next(counter)}", jobs=Jobs(shuffled=True)
    ) as server:
        backend = jobs(hosted(server, format), tmp_path)
        asked = [Request((Message("user", text),)) for text in ("a", "b", "a", "a", "c")]
        texts = [reply.text for reply in backend.generate(asked)]
        again = [reply.text for reply in backend.generate(asked)]
    assert texts == ["a 0", "b 1", "a 2", "a 3", "c 4"] == again
    assert sizes(server) == [5]


def test_samples_are_lines_with_seeds_of_their_own(tmp_path):
    async def samples():
        return [reply.text for reply in await sample("q", n=4, seed=1, temperature=1.0)]

    with FakeServer(lambda request: str(request.seed)) as server:
        assert len(set(run(samples(), jobs(hosted(server), tmp_path)))) == 4
    assert sizes(server) == [4]
    assert all("n" not in line.body for line in server.jobs.jobs[0].lines)


def test_a_backend_that_streams_does_not_in_jobs(tmp_path):
    with FakeServer(says) as server:
        for format in SPECS:
            run(ask("q"), jobs(hosted(server, format, stream=True), tmp_path))
    bodies = [line.body for job in server.jobs.jobs for line in job.lines]
    assert len(bodies) == 4
    assert not [body for body in bodies if {"stream", "stream_options"} & body.keys()]


def test_too_many_lines_or_bytes_are_several_jobs(tmp_path):
    asked = [Request((Message("user", f"{i}" * 50),)) for i in range(5)]
    with FakeServer(lambda request: request.messages[-1].content[0]) as server:
        backend = hosted(server)
        by_lines = jobs(backend, tmp_path / "lines", max_lines=2).generate(asked)
        by_bytes = jobs(backend, tmp_path / "bytes", max_bytes=700).generate(asked)
    assert [reply.text for reply in by_lines] == list("01234") == [reply.text for reply in by_bytes]
    assert sizes(server)[:3] == [2, 2, 1]
    uploads = [received.content for received in server.received if received.path == "/v1/files"][3:]
    assert len(uploads) > 1
    assert all(len(content) < 700 + 500 for content in uploads)  # the form around it
    assert jobs(backend, tmp_path, max_lines=10**9).max_lines == 50_000
    assert jobs(hosted_anthropic := model("anthropic:m", key="k"), tmp_path).max_lines == 100_000
    assert jobs(hosted_anthropic, tmp_path).max_bytes == 256_000_000


def test_progress_is_told(tmp_path):
    told = []
    with FakeServer(says, jobs=Jobs(polls=4)) as server:
        backend = jobs(hosted(server), tmp_path, progress=lambda done, total: told.append((done, total)))
        backend.generate([Request((Message("user", f"{i}"),)) for i in range(8)])
    assert told == [(2, 8), (4, 8), (6, 8), (8, 8)]


def test_looks_grow_rarer(tmp_path):
    waits = []

    class Clock(Wrapper):
        """Tells how long is waited, and does not."""

        async def around(self, requests, inner):
            return await self.backend.around(
                requests, SimpleNamespace(send=None, sleep=self.slept, result=inner.result, now=inner.now)
            )

        async def slept(self, seconds):
            waits.append(seconds)

    with FakeServer(says, jobs=Jobs(polls=14)) as server:
        Clock(jobs(hosted(server), tmp_path, poll_s=10.0)).generate([Request((Message("user", "q"),))])
    assert waits[:3] == [10.0, 15.0, 22.5]
    assert waits == sorted(waits)
    assert waits[-1] == 300.0


# ---- kills


class Killed(BaseException):
    """What stands for `kill -9`: nothing catches it."""


class Hooks:
    """An SDK's HTTP client's: the call of that number ends in an error, before it is sent or once it is answered."""

    def __init__(self, at: int, after: bool, error: Callable[[], BaseException]) -> None:
        self.at, self.after, self.error, self.calls = at, after, error, 0

    async def on_request(self, _: Any) -> None:
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise self.error()

    async def on_response(self, _: Any) -> None:
        if self.calls == self.at and self.after:
            raise self.error()

    @property
    def given(self) -> dict[str, Any]:
        return {"request": [self.on_request], "response": [self.on_response]}


def mortal(server: FakeServer, format: str, hooks: Hooks) -> Any:
    """The backend with hooks in its SDK's client."""
    if format == "messages":

        class Mortal(Anthropic):
            def client(self):
                http = anthropic.DefaultAsyncHttpxClient(event_hooks=hooks.given, verify=certificates())
                return anthropic.AsyncAnthropic(api_key="k", base_url=self.url, max_retries=0, http_client=http)
    else:

        class Mortal(OpenAI):
            def client(self):
                http = openai.DefaultAsyncHttpx2Client(event_hooks=hooks.given, verify=certificates())
                return openai.AsyncOpenAI(api_key="k", base_url=self.url, max_retries=0, http_client=http)

    return Mortal(f"m@{server.url}")


LIVES = [  # the program, when in a call, calls from beginning to end
    ("chat", voted, False, 6),  # uploaded, submitted, looked at twice, fetched as a job and a file
    ("chat", two_steps, True, 12),
    ("messages", two_steps, False, 12),  # submitted, looked at twice, looked at, fetched, and counted
    ("messages", voted, True, 6),
]


@pytest.mark.parametrize(("format", "program", "after", "calls"), LIVES)
def test_killed_at_any_call_a_run_goes_on_and_no_wave_has_two_jobs(format, program, after, calls, tmp_path):
    in_step = Script(says)
    expected = run([program(question) for question in QUESTIONS], in_step)
    for call in range(1, calls + 2):
        with FakeServer(says, jobs=Jobs(polls=2, shuffled=True)) as server:
            folder = tmp_path / f"{call}"
            with nullcontext() if call > calls else pytest.raises(Killed):
                run([program(q) for q in QUESTIONS], jobs(mortal(server, format, Hooks(call, after, Killed)), folder))
            assert run([program(q) for q in QUESTIONS], jobs(hosted(server, format), folder)) == expected
            assert sizes(server) == in_step.batches, f"killed at call {call}"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("format", PROVIDERS)
def test_a_connection_that_breaks_at_any_call_is_no_second_job(format, after, tmp_path):
    for call in range(1, 7):
        hooks = Hooks(call, after, lambda: httpx2.ReadError("cut"))
        with FakeServer(says, jobs=Jobs(polls=2)) as server:
            assert run(ask("q"), jobs(mortal(server, format, hooks), tmp_path / f"{call}")).text
            assert sizes(server) == [1], f"cut at call {call}"
            assert hooks.calls >= 6


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("format", PROVIDERS)
def test_a_busy_provider_is_asked_again(format, status, tmp_path):
    with FakeServer(says, faults=[Fault.status(status), None, Fault.drop()]) as server:
        assert run(two_steps("q"), jobs(hosted(server, format), tmp_path)) == run(two_steps("q"), Script(says))
    assert sizes(server) == [1, 1]


PROCESS = """
import sys
from promptlab import ask, gather, model, run
from promptlab.backends.wrappers.batch_jobs import BatchJobs

async def program():
    return [reply.text for reply in await gather(ask(str(i)) for i in range(3))]

run(program(), BatchJobs(model(sys.argv[1]), sys.argv[2], poll_s=0.01))
"""


def test_a_process_that_is_killed_leaves_all_that_the_next_one_needs(tmp_path):
    async def program():
        return [reply.text for reply in await gather(ask(str(i)) for i in range(3))]

    with FakeServer(says, jobs=Jobs(polls=None)) as server:
        process = subprocess.Popen([sys.executable, "-c", PROCESS, f"openai:m@{server.url}", tmp_path])
        while not any(received.path.startswith("/v1/batches/") for received in server.received):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        server.jobs.polls = 1
        assert run(program(), jobs(hosted(server), tmp_path)) == [
            says(Request((Message("user", str(i)),))) for i in range(3)
        ]
    assert sizes(server) == [3]


@pytest.mark.parametrize("format", PROVIDERS)
def test_a_job_of_another_s_is_not_taken_for_one_that_was_lost(format, tmp_path):
    """It has as many lines, and is of the same time."""
    asked = [Request((Message("user", "q"),))]
    with FakeServer(says, jobs=Jobs(polls=1)) as server:
        others = [Request((Message("user", "another's"),))]
        jobs(hosted(server, format), tmp_path / "others").generate(others)
        hooks = Hooks(2 if format == "chat" else 1, True, Killed)
        with pytest.raises(Killed):
            jobs(mortal(server, format, hooks), tmp_path / "mine").generate(asked)
        assert sizes(server) == [1, 1]
        [reply] = jobs(hosted(server, format), tmp_path / "mine").generate(asked)
    assert reply.text == says(asked[0])
    assert sizes(server) == [1, 1]
    assert not [r for r in server.received if r.path in ("/v1/chat/completions", "/v1/messages")]


def test_runs_at_the_same_time_on_one_folder_share_a_job(tmp_path):
    replies: list[Any] = []
    asked = [Request((Message("user", f"{i}"),)) for i in range(3)]
    with FakeServer(says, jobs=Jobs(polls=3)) as server:
        backend = hosted(server)
        threads = [
            threading.Thread(target=lambda: replies.append(jobs(backend, tmp_path).generate(asked))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sizes(server) == [3]
    assert len(replies) == 4
    assert all(each == replies[0] for each in replies)


def test_part_of_a_wave_is_found_again_in_its_job(tmp_path):
    """As a cache around it may know some of the answers already, and a study may grow."""
    asked = [Request((Message("user", f"{i}"),)) for i in range(5)]
    with FakeServer(says) as server:
        whole = jobs(hosted(server), tmp_path).generate(asked[:4])
        part = jobs(hosted(server), tmp_path).generate(asked[2:])
    assert part[:2] == whole[2:]
    assert sizes(server) == [4, 1]


def test_ctrl_c_leaves_the_job_and_says_how_to_take_it_up_again(tmp_path):
    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with FakeServer(says, jobs=Jobs(polls=3)) as server:
        with pytest.raises(KeyboardInterrupt) as stop:
            run(ask("q"), jobs(hosted(server), tmp_path, progress=interrupted))
        [note] = stop.value.__notes__
        assert "batch_1 at the provider goes on" in note
        assert f"batch='{tmp_path}'" in note
        assert not [received for received in server.received if received.path.endswith("/cancel")]
        assert run(ask("q"), jobs(hosted(server), tmp_path)).text
    assert sizes(server) == [1]


def test_a_run_that_is_cancelled_waits_for_nothing_and_leaves_the_job(tmp_path):
    async def impatient(backend):
        async with asyncio.timeout(0.5):
            await arun(ask("q"), backend)

    with FakeServer(says, jobs=Jobs(polls=None)) as server:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(impatient(jobs(hosted(server), tmp_path, poll_s=100.0)))
        assert time.monotonic() - start < 30
        server.jobs.polls = 1
        assert asyncio.run(arun(ask("q"), jobs(hosted(server), tmp_path))).text
    assert sizes(server) == [1]


# ---- what jobs do not answer


@pytest.mark.parametrize("format", PROVIDERS)
def test_a_job_that_takes_too_long_is_cancelled_and_asked_live(format, tmp_path):
    asked = [Request((Message("user", f"{i}"),)) for i in range(4)]
    with FakeServer(says, jobs=Jobs(polls=4)) as server:
        replies = jobs(hosted(server, format), tmp_path, deadline_s=0.0).generate(asked)
        posts = [received.path for received in server.received if received.method == "POST"]
        assert jobs(hosted(server, format), tmp_path).generate(asked) == replies
        assert posts == [received.path for received in server.received if received.method == "POST"]
    assert [reply.text for reply in replies] == [says(request) for request in asked]
    cancels = [path for path in posts if path.endswith("/cancel")]
    live = [path for path in posts if path in ("/v1/chat/completions", "/v1/messages")]
    assert len(cancels) == 1
    assert len(live) == server.jobs.jobs[0].count("cancelled") == 2  # the two that came are used


def test_a_job_that_cannot_be_cancelled_is_left(tmp_path):
    with FakeServer(says, jobs=Jobs(polls=None)) as server:
        server.jobs._cancelled = lambda job: job  # a provider that is very busy
        backend = jobs(hosted(server), tmp_path, deadline_s=0.01, grace_s=0.01)
        assert run(ask("q"), backend).text
    assert sizes(server) == [1]


@pytest.mark.parametrize("lost", [False, True], ids=["noted", "its id lost"])
@pytest.mark.parametrize("format", PROVIDERS)
def test_a_finished_job_that_cannot_be_looked_at_for_a_moment_is_not_given_up_however_late(format, lost, tmp_path):
    submitted = 2 if format == "chat" else 1
    hooks = Hooks(submitted, True, Killed) if lost else Hooks(submitted + 1, False, Killed)
    with FakeServer(says, jobs=Jobs(polls=0)) as server:
        with pytest.raises(Killed):
            run(ask("q"), jobs(mortal(server, format, hooks), tmp_path))
        server._faults = iter([Fault.status(503), None, Fault.empty()])
        late = jobs(hosted(server, format), tmp_path, deadline_s=0.0, grace_s=0.0)
        assert run(ask("q"), late).text == says(Request((Message("user", "q"),)))
        assert not [r for r in server.received if r.path in ("/v1/chat/completions", "/v1/messages")]
    assert sizes(server) == [1]


@pytest.mark.parametrize("format", PROVIDERS)
def test_lines_that_expired_are_asked_live_and_the_answers_kept(format, tmp_path):
    asked = [Request((Message("user", f"{i}"),)) for i in range(4)]
    with FakeServer(says, jobs=Jobs(expired=[1, 3])) as server:
        replies = jobs(hosted(server, format), tmp_path).generate(asked)
        received = len(server.received)
        with (tmp_path / "live.jsonl").open("a") as file:
            file.write('\n["half a li')
        assert jobs(hosted(server, format), tmp_path).generate(asked) == replies
        assert len(server.received) == received
    assert [reply.text for reply in replies] == [says(request) for request in asked]
    assert [r.body["messages"] for r in server.received if r.path in ("/v1/chat/completions", "/v1/messages")]


WRONG = [
    (Fault.status(429), Unavailable),
    (Fault.status(500), Unavailable),
    (Fault.context_length(), ContextOverflow),
    (Fault.status(400, message="no such thing"), ModelError),
    (Fault.status(400, message="content_filter"), Refused),
]


def said(error: ModelError) -> str:
    """What a server said, without its address and the status."""
    return str(error).rpartition(": ")[2]


@pytest.mark.parametrize("format", PROVIDERS)
def test_lines_that_fail_are_errors_of_the_same_kind_as_live(format, tmp_path):
    asked = [Request((Message("user", f"{i}"),)) for i in range(len(WRONG) + 1)]
    with FakeServer(says, jobs=Jobs(faults={i: fault for i, (fault, _) in enumerate(WRONG)}, shuffled=True)) as server:
        *failed, answered = jobs(hosted(server, format), tmp_path).generate(asked)
    live = []
    for i, (fault, _) in enumerate(WRONG):
        with FakeServer(says, faults=[fault]) as server:
            live += bare(hosted(server, format)).generate([asked[i]])
    assert [type(error) for error in failed] == [kind for _, kind in WRONG] == [type(error) for error in live]
    assert answered.text == says(asked[-1])
    assert [said(error) for error in failed] == [said(error) for error in live]


@pytest.mark.parametrize("format", PROVIDERS)
def test_a_program_meets_a_line_s_error_where_it_asked(format, tmp_path):
    with FakeServer(says, jobs=Jobs(faults={1: Fault.context_length()})) as server:
        results = run([attempt(ask(f"{i}")) for i in range(3)], jobs(hosted(server, format), tmp_path))
    assert [type(result) for result in results] == [Reply, ContextOverflow, Reply]


@pytest.mark.parametrize(("fault", "error"), [(Fault.unauthorized(), Unauthorized), (Fault.status(404), SetupError)])
@pytest.mark.parametrize("format", PROVIDERS)
def test_a_line_that_tells_of_a_wrong_set_up_ends_the_run_until_it_is_put_right(format, fault, error, tmp_path):
    with FakeServer(says, jobs=Jobs(faults={1: fault})) as server:
        backend = jobs(hosted(server, format), tmp_path)
        asked = [Request((Message("user", f"{i}"),)) for i in range(3)]
        with pytest.raises(error):
            backend.generate(asked)
        server.jobs.faults = {}
        assert [reply.text for reply in backend.generate(asked)] == [says(request) for request in asked]
    assert sizes(server) == [3, 1]


def test_what_failed_for_now_is_in_another_job_when_it_is_asked_again(tmp_path):
    asked = [Request((Message("user", f"{i}"),)) for i in range(3)]
    with FakeServer(says, jobs=Jobs(faults={0: Fault.status(503), 2: Fault.context_length()})) as server:
        first = jobs(hosted(server), tmp_path).generate(asked)
        server.jobs.faults = {}
        second = jobs(hosted(server), tmp_path).generate(asked)
    assert [type(reply) for reply in first] == [Unavailable, Reply, ContextOverflow]
    assert [type(reply) for reply in second] == [Reply, Reply, ContextOverflow]
    assert sizes(server) == [3, 1]


@pytest.mark.parametrize(("code", "kind"), [("token_limit_exceeded", Unavailable), ("invalid_json_line", ModelError)])
def test_a_job_that_the_provider_does_not_take_is_an_error_of_all_its_lines(code, kind, tmp_path):
    with FakeServer(says, jobs=Jobs(failed=code)) as server:
        replies = jobs(hosted(server), tmp_path).generate([Request((Message("user", f"{i}"),)) for i in range(2)])
        server.jobs.failed = None
        assert run(ask("0"), jobs(hosted(server), tmp_path)).text
    assert [type(reply) for reply in replies] == [kind, kind]
    assert all(code in str(reply) for reply in replies)


def test_a_request_the_provider_refuses_to_make_a_job_of_is_an_error_of_its_lines(tmp_path):
    with FakeServer(says, faults=[Fault.status(400, message="too large")]) as server:
        [reply] = jobs(hosted(server, "messages"), tmp_path).generate([Request((Message("user", "q"),))])
        assert type(reply) is ModelError
        assert "too large" in str(reply)
        assert run(ask("q"), jobs(hosted(server, "messages"), tmp_path)).text


def test_a_wrong_key_is_said_and_never_shown(tmp_path):
    with FakeServer(says, faults=[Fault.status(401, message="not a key: sk-secret")]) as server:
        with pytest.raises(Unauthorized, match="OPENAI_API_KEY") as error:
            run(ask("q"), jobs(hosted(server, key="sk-secret"), tmp_path))
        assert "sk-secret" not in str(error.value)
        assert run(ask("q"), jobs(hosted(server, key="sk-secret"), tmp_path)).text
    assert not [path for path in tmp_path.iterdir() if "sk-secret" in path.read_text()]


def test_a_server_without_batch_jobs_is_a_set_up_error(tmp_path):
    with FakeServer(says, faults=[Fault.status(404)]) as server, pytest.raises(SetupError, match="batch jobs"):
        run(ask("q"), jobs(hosted(server), tmp_path))


@pytest.mark.parametrize(
    "backend", [Script(["x"]), Emulating(SimpleNamespace(can=frozenset(), batched=True, generate=None))]
)
def test_a_backend_without_batch_jobs_says_so(backend, tmp_path):
    with pytest.raises(SetupError, match="has no batch jobs"):
        run(ask("q"), backend, batch=True)
    with pytest.raises(SetupError, match="has no batch jobs"):
        BatchJobs(backend, tmp_path)


def test_hugging_face_s_router_has_none():
    with pytest.raises(SetupError, match="has no batch jobs"):
        run(ask("q"), model("hf-inference:m", key="k"), batch=True)


def test_a_job_that_the_provider_no_longer_knows_is_not_paid_for_again_unasked(tmp_path):
    with FakeServer(says) as server:
        with pytest.raises(Killed):
            run(ask("q"), jobs(mortal(server, "chat", Hooks(3, False, Killed)), tmp_path))
        server.jobs.jobs.clear()
        with pytest.raises(SetupError, match=r"batch_1 is noted in .*json; delete"):
            run(ask("q"), jobs(hosted(server), tmp_path))
        assert sizes(server) == []


def test_results_that_the_provider_no_longer_keeps_are_not_paid_for_again_unasked(tmp_path):
    with FakeServer(says) as server:
        with pytest.raises(Killed):
            run(ask("q"), jobs(mortal(server, "messages", Hooks(3, False, Killed)), tmp_path))
        server.jobs.jobs[0].status = "archived"
        with pytest.raises(SetupError, match=r"no longer kept.*msgbatch_1 is noted in .*json; delete"):
            run(ask("q"), jobs(hosted(server, "messages"), tmp_path))
    assert sizes(server) == [1]
    assert not [received for received in server.received if received.path == "/v1/messages"]


def test_jobs_are_not_put_into_jobs(tmp_path):
    with pytest.raises(SetupError, match="already"):
        run(ask("q"), jobs(model("openai:m", key="k"), tmp_path), batch=True)


# ---- wrappers


def test_a_cache_goes_around_jobs(tmp_path):
    with FakeServer(says) as server:
        cached = Cached(hosted(server), tmp_path / "cache.db")
        live = run(two_steps("live"), cached)
        assert run(two_steps("live"), cached, batch=tmp_path / "jobs") == live
        assert sizes(server) == []
        assert run([two_steps("live"), two_steps("new")], cached, batch=tmp_path / "jobs")[0] == live
        assert sizes(server) == [1, 1]
        received = len(server.received)
        run(two_steps("new"), cached)
        assert len(server.received) == received
        with pytest.raises(SetupError, match="goes around batch jobs"):
            BatchJobs(cached, tmp_path)
        cached.record.close()


def test_all_that_a_call_goes_through_is_in_its_place(tmp_path):
    """Answers in the cache, what is spent in the budget; only what is asked live is paced, and tried again."""
    asked = [Request((Message("user", f"{i}"),), max_tokens=5) for i in range(4)]
    budget = Budget(calls=6)
    with FakeServer(says, jobs=Jobs(expired=[2])) as server:
        stack = hosted(server, cache=tmp_path / "calls.db", budget=budget)
        in_jobs = stack.as_batch(tmp_path / "jobs")
        names = re.findall(r"(\w+)\(", repr(in_jobs))
        replies = in_jobs.generate(asked)
        assert in_jobs.generate(asked) == replies == stack.generate(asked)
        more = in_jobs.generate([Request((Message("user", f"more {i}"),)) for i in range(3)])
    assert names == ["Cached", "Budgeted", "Traced", "BatchJobs", "Retrying", "LeaderFirst", "RateLimited"]
    assert [reply.text for reply in replies] == [says(request) for request in asked]
    assert [type(reply) for reply in more] == [Reply, Reply, BudgetExceeded]
    assert sizes(server) == [4, 2]
    calls = in_jobs.record.calls()
    assert len([call for call in calls if call.decision == "sent"]) == 6
    in_jobs.record.close()


def test_lines_are_paid_for_once_however_often_they_are_read_from_the_folder(tmp_path):
    with FakeServer(says, jobs=Jobs(expired=[1])) as server:
        for n in (5, 5, 7):
            budget = Budget(calls=8, path=tmp_path / "budget.db")
            programs = [ask(f"{i}", max_tokens=5) for i in range(n)]
            replies = run(programs, hosted(server, budget=budget), batch=tmp_path / "jobs")
            assert [type(reply) for reply in replies] == [Reply] * n
            assert budget.spent.calls == n
    assert sizes(server) == [5, 2]


def test_a_line_that_goes_into_another_job_is_paid_for_again(tmp_path):
    budget = Budget(calls=5)
    with FakeServer(says, jobs=Jobs(faults={0: Fault.status(503)})) as server:
        for _ in range(2):
            run([attempt(ask(f"{i}")) for i in range(3)], hosted(server, budget=budget), batch=tmp_path)
            server.jobs.faults = {}
    assert sizes(server) == [3, 1]
    assert budget.spent.calls == 4


PAYING = """
import sys
from promptlab import ask, model, run
from promptlab.backends.wrappers.budget import Budget

budget = Budget(calls=8, path=sys.argv[2] + "/budget.db")
run([ask(f"{i}", max_tokens=5) for i in range(5)], model(sys.argv[1], budget=budget), batch=sys.argv[2] + "/jobs")
"""


def test_a_job_that_a_killed_process_paid_for_is_taken_up_for_nothing(tmp_path):
    with FakeServer(says, jobs=Jobs(polls=None)) as server:
        process = subprocess.Popen([sys.executable, "-c", PAYING, f"openai:m@{server.url}", tmp_path])
        while not any(received.path.startswith("/v1/batches/") for received in server.received):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        server.jobs.polls = 1
        budget = Budget(calls=8, path=tmp_path / "budget.db")
        asked = [ask(f"{i}", max_tokens=5) for i in range(8)]
        replies = run(asked, hosted(server, budget=budget), batch=tmp_path / "jobs")
        with pytest.raises(BudgetExceeded):  # the five and the three are all there was
            run(ask("8", max_tokens=5), hosted(server, budget=budget))
    assert [type(reply) for reply in replies] == [Reply] * 8
    assert sizes(server) == [5, 3]


@pytest.mark.parametrize(
    ("batch", "said"),
    [("notes.csv", "notes.csv is a file"), (5, "got 5"), ("", "got ''"), ("notes.csv/jobs", "cannot be noted in")],
)
def test_what_is_no_folder_for_jobs_is_said_before_anything_is_asked(batch, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.csv").write_text("text,label\n")
    with FakeServer(says) as server, pytest.raises(SetupError, match=said):
        run(ask("q"), hosted(server), batch=batch)
    assert server.received == []
    assert Path("notes.csv").read_text() == "text,label\n"


def test_jobs_may_be_noted_in_the_folder_of_a_run(tmp_path):
    (tmp_path / "run.json").write_text('{"task": "notes"}')
    with FakeServer(says) as server:
        assert run(ask("q"), hosted(server), batch=tmp_path).text


def test_a_torn_job_is_named(tmp_path):
    (tmp_path / "abc-0.job.json").write_text('{"tag": "abc-0", "ma')
    with FakeServer(says) as server, pytest.raises(DataError, match=r"abc-0\.job\.json is no batch job, or a broken"):
        run(ask("q"), hosted(server), batch=tmp_path)


def test_what_emulates_goes_around_jobs(tmp_path):
    with FakeServer(lambda _: "one STOP two") as server:
        emulating = model(f"openai:m@{server.url}", api="responses", on_unsupported="emulate")
        assert run(ask("q", stop=["STOP"]), emulating, batch=tmp_path).text == "one "
    assert sizes(server) == [1]


class Counting(Wrapper):
    """Counts what goes through it."""

    def __init__(self, backend: Any, paces: bool) -> None:
        super().__init__(backend)
        self.paces, self.seen = paces, 0

    async def around(self, requests, inner):
        self.seen += len(requests)
        return await inner.send(requests)


def test_what_paces_sees_live_requests_only_and_what_keeps_sees_all(tmp_path):
    asked = [Request((Message("user", f"{i}"),)) for i in range(4)]
    with FakeServer(says, jobs=Jobs(expired=[2])) as server:
        inner = Counting(hosted(server), paces=False)
        pacing = Counting(inner, paces=True)
        outer = Counting(pacing, paces=False)
        wrapped = outer.as_batch(tmp_path)
        assert wrapped.batched
        assert [reply.text for reply in wrapped.generate(asked)] == [says(request) for request in asked]
    assert (outer.seen, inner.seen, pacing.seen) == (4, 4, 1)
    assert sizes(server) == [4]


class Priced(Counting):
    """Knows what tokens cost, in dollars."""

    price = SimpleNamespace(cost_usd=lambda usage: usage.output_tokens * 2.0)


@pytest.mark.parametrize("format", PROVIDERS)
def test_a_line_costs_half_where_the_price_is_known(format, tmp_path):
    def counted(request: Request) -> Reply:
        return Reply("x", usage=Usage(output_tokens=3))

    asked = [Request((Message("user", f"{i}"),)) for i in range(2)]
    with FakeServer(counted, jobs=Jobs(expired=[1])) as server:
        backend = hosted(server, format)
        of_job, of_live = jobs(Priced(backend, paces=True), tmp_path / "known").generate(asked)
        unknown, _ = jobs(backend, tmp_path / "unknown").generate(asked)
    assert of_job.usage.cost_usd == 3.0
    assert of_live.usage == unknown.usage == Usage(output_tokens=3)
