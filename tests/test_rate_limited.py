"""What is sent keeps to a provider's limits and uses them up; under a virtual clock, where minutes take no time."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import ModelError, Reply, Request, Usage, ask, model, run
from promptlab.backends.wrappers.limits import Limits
from promptlab.backends.wrappers.rate_headers import said
from promptlab.backends.wrappers.rate_limited import RateLimited
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.backends.wrappers.wrapper import Wrapper
from promptlab.errors import SetupError, Unavailable
from promptlab.testing import Enforcing, FakeServer, RateLimits, Script, run_in_virtual_time
from promptlab.testing.clock import VirtualLoop
from promptlab.types import Message

LOADS = {
    "rpm": {"rpm": 120, "input_tpm": 1_000_000, "output_tpm": 1_000_000},
    "input_tpm": {"rpm": 100_000, "input_tpm": 60_000, "output_tpm": 1_000_000},
    "output_tpm": {"rpm": 100_000, "input_tpm": 1_000_000, "output_tpm": 12_000},
    "tpm": {"rpm": 100_000, "tpm": 72_000},
}
COUNTED = {"rpm": "requests", "input_tpm": "input", "output_tpm": "output", "tpm": "tokens"}


def asked(content: object, max_tokens: int | None = None) -> Request:
    return Request((Message("user", str(content)),), max_tokens=max_tokens)


def answered(request: Request) -> Reply:
    """A tenth more or less tokens than one would think, and some that are written."""
    content = request.messages[0].content
    chance = random.Random(content[:12])
    return Reply("…", usage=Usage(int(len(content) / 4.3 * chance.uniform(0.9, 1.1)), 0, chance.randint(20, 180)))


def pressed(limits: RateLimits, binding: str, programs: int, learning: float = 0) -> float:
    """How much of what is scarce went through in ten minutes, less those of learning, at programs that never pause."""

    def latency_s(request: Request) -> float:
        return 0.02 if programs == 1 else random.Random(request.messages[0].content[:8]).uniform(0.3, 3.0)

    async def main() -> float:
        provider = Enforcing(
            Script(answered, batched=False), limits, latency_s, "openai" if binding == "tpm" else "anthropic"
        )
        paced = Retrying(RateLimited(provider, limits=Limits()), attempts=1000, patience_s=1e6)
        numbers = iter(range(10**9))

        async def program() -> None:
            while True:
                number = next(numbers)
                await paced.agenerate([asked(f"{number} ".ljust(random.Random(number).randint(860, 3440), "x"))])

        tasks = [asyncio.create_task(program()) for _ in range(programs)]
        await asyncio.sleep(learning * 60)
        before, limits.arrived, limits.refused = limits.counted[COUNTED[binding]], 0, 0
        await asyncio.sleep((10 - learning) * 60)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return limits.counted[COUNTED[binding]] - before

    return run_in_virtual_time(main())


@pytest.mark.parametrize("programs", [1, 300])
@pytest.mark.parametrize("windows", [False, True], ids=["bucket", "windows"])
@pytest.mark.parametrize("binding", LOADS)
def test_limits_told_in_headers_are_used_up_and_not_overstepped(binding, windows, programs):
    limits = RateLimits(**LOADS[binding], windows=windows)
    counted = pressed(limits, binding, programs)
    allowed = LOADS[binding][binding] * (10 if windows else 11)  # a bucket is full at first
    assert counted >= 0.95 * allowed
    assert limits.refused < 0.01 * limits.arrived


@pytest.mark.parametrize("programs", [1, 300])
@pytest.mark.parametrize("windows", [False, True], ids=["bucket", "windows"])
@pytest.mark.parametrize("retry_after", [False, True])
def test_limits_that_nobody_tells_are_learned_from_refusals(windows, programs, retry_after):
    given = {"rpm": 300, "input_tpm": 1_000_000}
    limits = RateLimits(**given, windows=windows, headers=False, retry_after=retry_after)
    counted = pressed(limits, "rpm", programs, learning=3)
    assert counted >= 0.95 * 300 * 7
    assert limits.refused < 0.01 * limits.arrived


def test_calls_in_flight_are_learned_from_refusals():
    """A server that takes ten at a time, and says nothing."""
    peak = now = refused = served = 0

    class Narrow:
        batched = False

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            raise NotImplementedError

        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            nonlocal peak, now, refused, served
            if now >= 10:
                refused += 1
                return [Unavailable("HTTP 429: too many at a time")]
            now += 1
            peak = max(peak, now)
            await asyncio.sleep(1)
            now -= 1
            served += 1
            return [Reply("ok")]

    async def main() -> None:
        paced = Retrying(RateLimited(Narrow(), limits=Limits()), attempts=1000, patience_s=1e6)

        async def program() -> None:
            while True:
                await paced.agenerate([asked("q")])

        tasks = [asyncio.create_task(program()) for _ in range(100)]
        await asyncio.sleep(600)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_in_virtual_time(main())
    assert peak == 10
    assert served >= 0.7 * 10 * 600
    assert refused < 0.04 * served


def test_a_server_that_was_down_for_long_is_never_given_up_and_soon_used_again():
    times: list[float] = []

    class Down:
        batched = False

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            raise NotImplementedError

        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            now = asyncio.get_running_loop().time()
            times.append(now)
            await asyncio.sleep(0.1)
            return [Unavailable("HTTP 429: no") if now < 1800 else Reply("ok")]

    async def main() -> None:
        limits = Limits()
        paced = Retrying(RateLimited(Down(), limits=limits), attempts=10**6, patience_s=1e9)
        await asyncio.gather(*(paced.agenerate([asked(i)]) for i in range(100)))
        assert limits.state()["allowed"] >= 1
        assert limits.state()["in_flight"] == limits.state()["waiting"] == 0

    run_in_virtual_time(main())
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 61
    assert times[-1] < 1800 + 2 * 3600


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=40),
    limit=st.integers(50, 1000),
    latency=st.sampled_from([0.0, 0.5, 7.0]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_given_holds_in_any_minute(sizes, limit, latency):
    sent: list[tuple[float, int]] = []

    async def main() -> None:
        async def noted(request: Request) -> None:
            sent.append((asyncio.get_running_loop().time(), len(request.messages[0].content)))
            await asyncio.sleep(latency)

        paced = RateLimited(Exact(noted), input_tpm=limit, rpm=20, limits=Limits())
        await paced.agenerate([asked("x" * 100_000)])  # from now on a letter is known to be a token
        await asyncio.sleep(200)
        sent.clear()
        await asyncio.gather(*(paced.agenerate([asked("x" * size)]) for size in sizes))

    run_in_virtual_time(main())
    for start, _ in sent:
        within = [size for at, size in sent if start <= at < start + 60]
        assert len(within) <= 20
        assert sum(within) <= limit * 1.12 or len(within) == 1  # one that is too large goes alone


class Exact:
    """Awaits a function for each request, and says that every letter was a token."""

    batched = False

    def __init__(self, during=None) -> None:
        self.during = during

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise NotImplementedError

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        if self.during is not None:
            await self.during(requests[0])
        return [Reply("ok", usage=Usage(len(request.messages[0].content), 0, 1)) for request in requests]


def test_who_comes_first_goes_first():
    order: list[str] = []

    async def main() -> None:
        async def noted(request: Request) -> None:
            order.append(request.messages[0].content)
            await asyncio.sleep(1)

        paced = RateLimited(Exact(noted), rpm=7, max_in_flight=2, limits=Limits())
        await asyncio.gather(*(paced.agenerate([asked(i)]) for i in range(50)))

    run_in_virtual_time(main())
    assert order == [str(i) for i in range(50)]


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 100)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_who_is_cancelled_gives_the_place_back(programs):
    """Programs that come and are cancelled at any time: waiting, in flight, or done."""

    async def main() -> None:
        limits = Limits(rpm=5, max_in_flight=2)
        paced = RateLimited(Exact(lambda request: asyncio.sleep(3)), limits=limits)

        async def program(comes: float, stays: float) -> None:
            await asyncio.sleep(comes)
            async with asyncio.timeout(stays):
                await paced.agenerate([asked("q")])

        await asyncio.gather(*(program(*each) for each in programs), return_exceptions=True)
        assert limits.state()["in_flight"] == limits.state()["waiting"] == 0
        await asyncio.sleep(61)
        before = asyncio.get_running_loop().time()
        await paced.agenerate([asked("and now?")])
        assert asyncio.get_running_loop().time() - before < 3.1

    run_in_virtual_time(main())


def test_a_pause_that_the_server_asks_for_is_everybodys():
    times: list[float] = []

    async def main() -> None:
        limits = Limits()
        first = RateLimited(Script([Unavailable("HTTP 429", retry_after_s=20)], batched=False), limits=limits)

        async def noted(request: Request) -> None:
            times.append(asyncio.get_running_loop().time())

        second = RateLimited(Exact(noted), limits=limits)
        await first.agenerate([asked("1")])
        await asyncio.gather(*(second.agenerate([asked(i)]) for i in range(10)))

    run_in_virtual_time(main())
    assert len(times) == 10
    assert min(times) == 20


def test_nobody_waits_for_a_pause_of_hours():
    backend = Script([Unavailable("HTTP 429: the day's quota", retry_after_s=7200)], batched=False)

    async def main() -> list[list[Reply | ModelError]]:
        paced = Retrying(RateLimited(backend, limits=Limits(max_in_flight=1)))
        return await asyncio.gather(*(paced.agenerate([asked(i)]) for i in range(5)))

    outcomes = run_in_virtual_time(main())
    assert all(isinstance(error, Unavailable) and "come back in 7200 s" in str(error) for (error,) in outcomes)
    assert backend.batches == [1]


def test_no_place_is_held_while_waiting_to_try_again():
    order: list[str] = []

    class Once:
        batched = False

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            raise NotImplementedError

        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            order.append(requests[0].messages[0].content)
            await asyncio.sleep(0.01)
            return [Unavailable("HTTP 503") if order.count("a") == 1 and order[-1] == "a" else Reply("ok")]

    async def main() -> None:
        paced = Retrying(RateLimited(Once(), max_in_flight=1, limits=Limits()))
        await asyncio.gather(paced.agenerate([asked("a")]), paced.agenerate([asked("b")]))

    run_in_virtual_time(main())
    assert order == ["a", "b", "a"]


def test_several_threads_and_loops_share_the_same_places():
    lock = threading.Lock()
    now = peak = 0

    class Busy:
        batched = False

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            nonlocal now, peak
            with lock:
                now += 1
                peak = max(peak, now)
            time.sleep(0.002)
            with lock:
                now -= 1
            return [Reply("ok") for _ in requests]

    limits = Limits(max_in_flight=3)
    answers: list[Reply] = []

    def in_a_loop() -> None:
        answers.extend(run([ask(f"q{i}") for i in range(30)], RateLimited(Busy(), limits=limits)))

    def in_a_thread() -> None:
        for i in range(15):
            answers.extend(RateLimited(Busy(), limits=limits).generate([asked(i), asked(-i)]))

    threads = [threading.Thread(target=each) for each in (in_a_loop, in_a_thread, in_a_loop, in_a_thread)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 120
    assert peak == 3
    assert limits.state()["in_flight"] == limits.state()["waiting"] == 0


def test_a_batch_is_as_many_calls_as_it_has_requests_but_samples_are_one():
    class Native(Exact):
        native_n = True

    async def main(backend: Exact, requests: list[Request]) -> float:
        paced = RateLimited(backend, max_in_flight=1, limits=Limits())
        assert len(await paced.agenerate(requests)) == len(requests)
        return asyncio.get_running_loop().time()

    samples = [Request((Message("user", "q"),), branch=(i,)) for i in range(5)]
    second = lambda request: asyncio.sleep(1)  # noqa: E731
    assert run_in_virtual_time(main(Exact(second), samples)) == 5
    assert run_in_virtual_time(main(Native(second), samples)) == 1
    assert run_in_virtual_time(main(Native(second), [asked(i) for i in range(5)])) == 5


def test_headers_are_read_as_the_providers_write_them():
    openai = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "1h6m0.5s",
    }
    assert list(said(openai)) == [("requests", 60, 59, 0.12), ("tokens", 150000, 149984, 3960.5)]
    anthropic = {
        "date": "Mon, 23 Nov 2026 08:00:00 GMT",
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-input-tokens-remaining": "48000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-23T08:00:02Z",
    }
    assert list(said(anthropic)) == [("input", 50000, 48000, 3.0)]  # a second more, for both are rounded
    zoneless = {**anthropic, "anthropic-ratelimit-input-tokens-reset": "2026-11-23T08:00:02"}
    assert (
        list(said(zoneless))
        == list(said({**zoneless, "date": "Mon, 23 Nov 2026 08:00:00 -0000"}))
        == [*said(anthropic)]
    )
    assert not list(said({**openai, "x-ratelimit-limit-tokens": "-1", "x-ratelimit-reset-requests": "soon"}))


@given(
    st.dictionaries(
        st.sampled_from(
            [f"x-ratelimit-{a}-{b}" for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")]
        ),
        st.text(max_size=8),
    )
)
def test_headers_of_any_kind_do_no_harm(headers):
    for each in said(headers):
        assert each.limit > 0


def test_tokens_read_from_a_cache_count_for_openai_but_not_for_anthropic():
    async def minutes(kind: str) -> float:
        async def during(request: Request) -> None:
            pass

        backend = Exact(during)
        backend.kind = kind
        inner = backend.agenerate

        async def cached(requests: Sequence[Request]) -> list[Reply | ModelError]:
            await inner(requests)
            return [Reply("ok", usage=Usage(1000, 900, 1))]

        backend.agenerate = cached
        paced = RateLimited(backend, input_tpm=2000, limits=Limits())
        for _ in range(19):
            await paced.agenerate([asked("x" * 4000)])
        return asyncio.get_running_loop().time() / 60

    assert run_in_virtual_time(minutes("anthropic")) < 1.1
    assert run_in_virtual_time(minutes("openai")) > 8


def test_models_of_one_account_share_its_limits():
    pytest.importorskip("openai")
    a, b = (RateLimited(model("openai:x", key="k1")) for _ in range(2))
    assert a.limits is b.limits
    for other in ("openai:y", "openai:x@http://127.0.0.1:1/v1"):
        assert RateLimited(model(other, key="k1")).limits is not a.limits
    assert RateLimited(model("openai:x", key="k2")).limits is not a.limits
    own = Limits()
    assert RateLimited(model("openai:x", key="k1"), limits=own).limits is own
    assert "k1" not in repr(vars(a))


def test_what_was_given_goes_along_to_another_process():
    paced = pickle.loads(pickle.dumps(RateLimited(Exact(), limits=Limits(rpm=7, max_in_flight=3))))
    assert paced.limits.state()["a_minute"] == {"requests": 7}
    assert paced.limits.max_in_flight == 3


def test_models_that_went_to_another_process_share_their_limits_there():
    """One that was sent for each of its tasks is many there, of one account."""
    pytest.importorskip("openai")
    told = pickle.dumps(RateLimited(model("openai:shared", key="k1"), rpm=70))
    a, b = pickle.loads(told), pickle.loads(told)
    assert a.limits is b.limits
    assert a.limits is RateLimited(model("openai:shared", key="k1")).limits
    assert a.limits is not RateLimited(model("openai:shared", key="k2")).limits
    script = (
        "import pickle, sys; a, b = (pickle.loads(bytes.fromhex(sys.argv[1])) for _ in range(2)); "
        "print(a.limits is b.limits, a.limits.state()['a_minute'])"
    )
    there = subprocess.run([sys.executable, "-c", script, told.hex()], capture_output=True, text=True)
    assert (there.stderr, there.stdout.strip()) == ("", "True {'requests': 70}")


@pytest.mark.parametrize("wrong", [{"rpm": 0}, {"tpm": -5}, {"max_in_flight": 0}])
def test_a_limit_of_nothing_is_refused(wrong):
    with pytest.raises(SetupError, match="above 0"):
        RateLimited(Exact(), limits=Limits(), **wrong)


def bare(spec: str):
    """A model without the wrappers that `model` puts around it."""
    backend = model(spec, key="k")
    while isinstance(backend, Wrapper):
        backend = backend.backend
    return backend


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_server_with_limits_tells_them_in_the_providers_headers(provider):
    pytest.importorskip(provider)
    limits = RateLimits(rpm=3, clock=lambda: 0.0)
    with FakeServer(["a"] * 10, limits=limits) as server:
        path = "/v1" if provider == "openai" else ""
        paced = RateLimited(bare(f"{provider}:x@{server.url}{path}"), limits=Limits())
        outcomes = [paced.backend.generate([asked(i)])[0] for i in range(4)]
    assert [type(each) for each in outcomes] == [Reply, Reply, Reply, Unavailable]
    assert outcomes[-1].retry_after_s == 20
    assert paced.limits.state()["a_minute"] == {"requests": 3}
    assert (limits.arrived, limits.refused) == (4, 1)


def test_a_server_counts_tokens_in_words_and_as_told():
    pytest.importorskip("openai")
    limits = RateLimits(tpm=100, clock=lambda: 0.0)
    replies = [Reply("a", usage=Usage(4, 0, 30)), Reply("b", usage=Usage(4, 0, 30)), Reply("c")]
    with FakeServer(replies, limits=limits) as server:
        hosted = bare(f"openai:x@{server.url}/v1")
        assert isinstance(hosted.generate([asked("four words of text", 60)])[0], Reply)
        assert limits.counted["tokens"] == 34
        assert isinstance(hosted.generate([asked("four words of text", 60)])[0], Reply)
        assert isinstance(hosted.generate([asked("four words of text", 60)])[0], Unavailable)
    assert limits.counted["tokens"] == 68


def test_the_virtual_clock_jumps_and_finds_deadlocks():
    async def main() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.to_thread(time.sleep, 0.01))
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_in_virtual_time(main()) == 3600
    assert time.monotonic() - began < 60

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    stuck = asyncio.Runner(loop_factory=lambda: VirtualLoop(stuck_s=0.01))
    with stuck as runner, pytest.raises(TimeoutError, match="timer"):
        runner.run(forever())


def test_replies_that_take_longer_than_a_minute_are_paced_as_others_are():
    async def main() -> list[Reply | ModelError]:
        limits = RateLimits(rpm=600)
        provider = Enforcing(Script(answered, batched=False), limits, lambda request: 61.0)
        paced = RateLimited(provider, limits=Limits())
        several = await asyncio.gather(*(paced.agenerate([asked(n)]) for n in range(8)))
        return [reply for [reply] in several]

    assert all(isinstance(reply, Reply) for reply in run_in_virtual_time(main()))
