"""What is asked again, when, how often; under a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import ModelError, Reply, Request, ask, attempt, model, run
from promptlab.backends.wrappers.retrying import Retrying, chance
from promptlab.errors import ContextOverflow, Malformed, Refused, SetupError, Truncated, Unauthorized, Unavailable
from promptlab.testing import FakeServer, Fault, run_in_virtual_time
from promptlab.types import Message

BUSY = Unavailable("busy")


class Scripted:
    """Answers every request with the next of its own outcomes, and notes when which were asked together."""

    batched = False

    def __init__(self, **outcomes: Sequence[Reply | ModelError]) -> None:
        self.outcomes: dict[str, Iterator[Any]] = {name: iter(each) for name, each in outcomes.items()}
        self.asked: list[tuple[float, list[str]]] = []

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [next(self.outcomes[request.messages[0].content]) for request in requests]

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.asked.append((asyncio.get_running_loop().time(), [r.messages[0].content for r in requests]))
        return self.generate(requests)

    @property
    def waits(self) -> list[float]:
        times = [at for at, _ in self.asked]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


def asked(content: str) -> Request:
    return Request((Message("user", content),))


def replies(model: Retrying, *names: str) -> list[Reply | ModelError]:
    return run_in_virtual_time(model.agenerate([asked(name) for name in names]))


def test_what_was_unavailable_is_asked_until_it_is_there():
    backend = Scripted(a=[BUSY, BUSY, Reply("here")])
    assert replies(Retrying(backend), "a") == [Reply("here")]
    assert len(backend.asked) == 3


def test_of_a_batch_only_what_failed_is_sent_again_together():
    backend = Scripted(a=[Reply("1")], b=[BUSY, BUSY, Reply("2")], c=[BUSY, Reply("3")])
    assert [r.text for r in replies(Retrying(backend), "a", "b", "c")] == ["1", "2", "3"]
    assert [names for _, names in backend.asked] == [["a", "b", "c"], ["b", "c"], ["b"]]


@pytest.mark.parametrize("kind", [ModelError, ContextOverflow, Refused, Malformed, Truncated])
def test_other_errors_are_final(kind):
    backend = Scripted(a=[kind("no"), Reply("never")])
    (error,) = replies(Retrying(backend), "a")
    assert type(error) is kind
    assert str(error) == "no"
    assert len(backend.asked) == 1


def test_a_refused_key_ends_the_run():
    class Locked(Scripted):
        async def agenerate(self, requests):
            raise Unauthorized("no key")

    with pytest.raises(Unauthorized):
        replies(Retrying(Locked()), "a")


def test_the_server_says_how_long_to_wait():
    backend = Scripted(a=[Unavailable("busy", retry_after_s=7.5), Reply("here")])
    replies(Retrying(backend), "a")
    assert backend.waits == [7.5]


def test_a_batch_waits_for_the_longest():
    backend = Scripted(
        a=[Unavailable("busy", retry_after_s=3), Reply("1")], b=[Unavailable("busy", retry_after_s=9), Reply("2")]
    )
    replies(Retrying(backend), "a", "b")
    assert backend.waits == [9]


def test_too_long_a_wait_is_not_waited_for_and_the_error_says_when_to_come_back():
    backend = Scripted(a=[Unavailable("quota", retry_after_s=3600)], b=[BUSY, Reply("2")])
    first, second = replies(Retrying(backend), "a", "b")
    assert isinstance(first, Unavailable)
    assert first.retry_after_s == 3600
    assert "asked once; the server says to come back in 3600 s, at 2" in str(first)
    assert second == Reply("2")
    assert [names for _, names in backend.asked] == [["a", "b"], ["b"]]


def test_the_last_error_is_returned_with_how_often_it_was_tried():
    backend = Scripted(a=[Unavailable(f"busy {i}") for i in range(10)])
    (error,) = replies(Retrying(backend, attempts=4), "a")
    assert isinstance(error, Unavailable)
    assert str(error).startswith("busy 3 (asked 4 times in ")
    assert len(backend.asked) == 4


def test_one_attempt_means_none_again():
    backend = Scripted(a=[BUSY])
    (error,) = replies(Retrying(backend, attempts=1), "a")
    assert str(error) == "busy (asked once)"
    assert str(BUSY) == "busy"  # somebody else may hold it


def test_patience_is_for_all_waits_together():
    backend = Scripted(a=[Unavailable("busy", retry_after_s=30)] * 100)
    (error,) = replies(Retrying(backend, attempts=100, patience_s=100), "a")
    assert [at for at, _ in backend.asked] == [0, 30, 60, 90]
    assert "4 times in 90 s" in str(error)


@given(failures=st.integers(1, 12), name=st.text(max_size=5))
@settings(max_examples=25, deadline=None)
def test_waits_double_at_most_and_are_the_same_in_every_run(failures, name):
    def waits() -> list[float]:
        backend = Scripted(**{name: [BUSY] * failures + [Reply("here")]})
        assert replies(Retrying(backend, attempts=20), name) == [Reply("here")]
        return backend.waits

    found = waits()
    assert len(found) == failures
    assert all(0 <= wait <= min(60, 0.5 * 2**i) for i, wait in enumerate(found))
    assert found == waits()


def test_requests_do_not_come_back_all_together():
    shares = [chance(asked(f"q{i}"), 1) for i in range(1000)]
    assert all(0 <= share < 1 for share in shares)
    assert len(set(shares)) == 1000
    assert 0.47 < sum(shares) / 1000 < 0.53
    assert chance(asked("q"), 1) != chance(asked("q"), 2)
    assert chance(asked("q"), 1) != chance(Request((Message("user", "q"),), branch=(1,)), 1)


def test_a_thread_waits_too():
    backend = Scripted(a=[Unavailable("busy", retry_after_s=0.01), Reply("here")])

    class InThread:
        batched = False
        generate = staticmethod(backend.generate)

    assert Retrying(InThread()).generate([asked("a")]) == [Reply("here")]


def test_a_cancelled_wait_asks_no_more():
    backend = Scripted(a=[Unavailable("busy", retry_after_s=50), Reply("never")])

    async def main() -> None:
        task = asyncio.create_task(Retrying(backend).agenerate([asked("a")]))
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(100)

    run_in_virtual_time(main())
    assert len(backend.asked) == 1


def test_what_is_cancelled_while_asking_again_or_raises_then_is_over():
    class Second(Scripted):
        async def agenerate(self, requests):
            replies = await super().agenerate(requests)
            if len(self.asked) == 2:
                await asyncio.sleep(10)
                raise Unauthorized("no key any more")
            return replies

    async def main(patience: float) -> None:
        async with asyncio.timeout(patience):
            await Retrying(backend).agenerate([asked("a")])

    backend = Second(a=[BUSY, BUSY, Reply("never")])
    with pytest.raises(TimeoutError):
        run_in_virtual_time(main(5))
    backend = Second(a=[BUSY, BUSY, Reply("never")])
    with pytest.raises(Unauthorized):
        run_in_virtual_time(main(50))
    assert len(backend.asked) == 2


def test_nothing_is_imported_for_it_where_nothing_fails():
    code = (
        "import sys; from promptlab.backends.wrappers.retrying import Retrying; from promptlab.testing import Script;"
        "from promptlab import run, ask; run(ask('q'), Retrying(Script(['a']))); assert 'tenacity' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"max_wait_s": -1}, {"patience_s": -1}])
def test_what_makes_no_sense_is_refused_at_once(wrong):
    with pytest.raises(SetupError, match="attempts are 1 or more"):
        Retrying(Scripted(), **wrong)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("1700000000000", 365 * 86_400.0),
        ("inf", 365 * 86_400.0),
        ("nan", 0.0),
    ],
)
def test_what_is_an_odd_time_to_come_back_at_ends_no_run(told: str, seconds: float):
    with FakeServer(["here"], faults=[Fault.status(429, retry_after=told)]) as server:
        outcome = run(attempt(ask("q")), model(f"openai:m@{server.url}", key="x", attempts=2))
    if seconds:
        assert isinstance(outcome, Unavailable)
        assert outcome.retry_after_s == seconds
        assert "come back in 31536000 s" in str(outcome)
    else:
        assert isinstance(outcome, Reply)
