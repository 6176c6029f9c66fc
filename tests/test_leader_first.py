"""What requests begin with is read once: with a provider's cache of prefixes simulated, under a virtual clock."""

from __future__ import annotations

import asyncio
import pickle
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Message, ModelError, Reply, Request, Usage, arun, ask, gather, run, sample
from promptlab.backends.wrappers.leader_first import LeaderFirst
from promptlab.backends.wrappers.retrying import Retrying
from promptlab.errors import SetupError, Unavailable
from promptlab.testing import run_in_virtual_time
from promptlab.types import ToolSpec

BLOCK = 128 * 4  # characters that are kept or not: 128 tokens
LATENCY_S = 8.0


class Provider:
    """Reads what it does not find in its cache, where a prompt is `write_s` after it came; counts what it read.

    A token is 4 characters. What is found are whole blocks of 128 tokens, and no less than 1,024 tokens.
    """

    batched = False
    kind, name = "openai", "m"

    def __init__(self, latency_s: float = LATENCY_S, write_s: float = 3.0) -> None:
        self.latency_s, self.write_s = latency_s, write_s
        self.ready: dict[str, float] = {}
        self.computed = 0
        self.sent: list[float] = []
        self.lock = threading.Lock()

    def usage(self, request: Request, now: float) -> Usage:
        said = "".join(f"{turn.content}" for turn in request.messages)
        with self.lock:
            self.sent.append(now)
            starts = [said[:end] for end in range(BLOCK, len(said) + 1, BLOCK)]
            found = max((len(start) // 4 for start in starts if self.ready.get(start, now + 1) <= now), default=0)
            found = found if found >= 1024 else 0
            for start in starts:
                self.ready[start] = min(self.ready.get(start, now + self.write_s), now + self.write_s)
            self.computed += len(said) // 4 - found
        return Usage(len(said) // 4, found, 1)

    def answer(self, request: Request, now: float) -> Reply | ModelError:
        thought = random.Random(repr((request.messages[-1].content, request.branch))).randbytes(100).hex()
        return Reply(thought.ljust(BLOCK), usage=self.usage(request, now))

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        replies = [self.answer(request, asyncio.get_running_loop().time()) for request in requests]
        await asyncio.sleep(self.latency_s)
        return replies

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        replies = [self.answer(request, time.monotonic()) for request in requests]
        time.sleep(self.latency_s)
        return replies


def turn(role: Any, text: str, tokens: int) -> Message:
    return Message(role, text.ljust(tokens * 4, "."))


def prompt(text: str, tokens: int = 2048) -> list[Message]:
    return [turn("user", text, tokens)]


async def said(chat: Sequence[Message]) -> str:
    return (await ask(chat)).text


async def self_consistency() -> list[str]:
    return await gather(said(prompt("How many?", 4096)) for _ in range(40))


async def few_shot() -> list[str]:
    shots = [turn("system", "Answer briefly.", 256)]
    for i in range(20):
        shots += [turn("user", f"Question {i}", 128), turn("assistant", f"Answer {i}", 64)]
    return await gather(said([*shots, turn("user", f"What is {i}?", 40)]) for i in range(200))


async def continued(state: Sequence[Message]) -> list[str]:
    return await gather(said(state) for _ in range(5))


async def tree_of_thoughts() -> list[str]:
    """Three levels: five thoughts about each state, of all of which the first five stay."""
    states = [prompt("A puzzle.", 3072)]
    for _ in range(3):
        thoughts = await gather(continued(state) for state in states)
        found = [
            [*state, Message("assistant", thought), turn("user", "And then?", 128)]
            for state, about in zip(states, thoughts, strict=True)
            for thought in about
        ]
        states = sorted(found, key=lambda state: state[-2].content)[:5]
    return [state[-2].content for state in states]


LOADS: dict[str, tuple[Callable[[], Any], int, int]] = {  # the tokens to be read at least, and levels that follow
    "self-consistency": (self_consistency, 4096, 1),
    "few-shot": (few_shot, 256 + 20 * 192 + 200 * 40, 1),
    "tree of thoughts": (tree_of_thoughts, 3072 + 5 * 256 + 5 * 256, 3),
}


def driven(program: Any, model: Any, **options: Any) -> tuple[Any, float]:
    """A program's result, and the virtual seconds that it took."""

    async def main() -> tuple[Any, float]:
        result = await arun(program, model, **options)
        return result, asyncio.get_running_loop().time()

    return run_in_virtual_time(main())


@pytest.mark.parametrize("latency_s", [0.5, 8.0, 30.0])
@pytest.mark.parametrize("load", LOADS)
def test_what_requests_begin_with_is_read_once(load, latency_s):
    program, least, levels = LOADS[load]
    plain, provider = Provider(latency_s, min(3.0, latency_s)), Provider(latency_s, min(3.0, latency_s))
    wanted, plain_s = driven(program(), plain, max_in_flight=300)
    result, took_s = driven(program(), LeaderFirst(provider), max_in_flight=300)
    assert result == wanted
    assert least <= provider.computed <= least * 1.05
    assert plain.computed >= 4 * provider.computed
    assert took_s <= plain_s + levels * min(latency_s + 2.0, 10.0) + 1e-6


def test_with_few_places_too():
    provider = Provider()
    driven(few_shot(), LeaderFirst(provider))
    assert provider.computed <= LOADS["few-shot"][1] * 1.05


def test_samples_that_are_asked_in_one_call_are_one_leader():
    class Several(Provider):
        native_n = True

    provider = Several()
    replies, took_s = driven(sample(prompt("q"), 5), LeaderFirst(provider))
    assert (len(replies), took_s) == (5, LATENCY_S)


def asked(*chats: Sequence[Message]) -> list[Request]:
    return [Request(tuple(chat), branch=(i,)) for i, chat in enumerate(chats)]


def when(requests: Sequence[Request], model: Any, starts: Sequence[float] = ()) -> list[tuple[Any, float]]:
    """What each request is answered, and when."""

    async def one(request: Request, start: float) -> tuple[Any, float]:
        await asyncio.sleep(start)
        [reply] = await model.agenerate([request])
        return reply, asyncio.get_running_loop().time()

    async def main() -> list[Any]:
        times = starts or [0.0] * len(requests)
        return await asyncio.gather(*(one(*each) for each in zip(requests, times, strict=True)))

    return run_in_virtual_time(main())


def test_short_and_different_requests_wait_for_nobody():
    provider = Provider()
    chats = [prompt("same", 100), prompt("same", 100), prompt("one"), prompt("another")]
    when(asked(*chats), LeaderFirst(provider))
    assert provider.sent == [0.0] * 4


def test_short_words_after_long_tools_begin_with_the_tools():
    tools = tuple(ToolSpec(f"tool_{i}", "Looks something up. " * 20, {}) for i in range(16))
    agents = [replace(each, tools=tools) for each in asked([turn("system", "Act.", 8), turn("user", "Why?", 8)])] * 2
    assert [at for _, at in when(agents, LeaderFirst(Provider()))] == [LATENCY_S, 2 * LATENCY_S]


def test_tools_and_schema_are_part_of_what_requests_begin_with():
    provider = Provider()
    request = Request(tuple(prompt("q")))
    different = [request, replace(request, schema={"type": "object"}), replace(request, temperature=0.7)]
    when(different, LeaderFirst(provider))
    assert provider.sent == [0.0, 0.0, LATENCY_S]


def test_one_follower_looks_before_the_others_follow():
    provider = Provider(latency_s=1.0, write_s=0.5)
    when(asked(*[prompt("q")] * 5), LeaderFirst(provider))
    assert provider.sent == [0.0, 1.0, 2.0, 2.0, 2.0]


def test_others_follow_two_seconds_after_the_leader_where_nothing_is_confirmed():
    provider = Provider(write_s=1000.0)
    when(asked(*[prompt("q")] * 5), LeaderFirst(provider))
    assert provider.sent == [0.0, 8.0, 10.0, 10.0, 10.0]


def test_a_shorter_prefix_that_is_found_confirms_no_longer_one():
    """The system's is there, and of what comes after it nothing is ever seen."""
    provider = Provider(latency_s=1.0, write_s=1000.0)
    system = turn("system", "system", 1024)
    provider.ready = dict.fromkeys([system.content[:end] for end in range(BLOCK, 4097, BLOCK)], 0.0)
    when(asked(*[[system, turn("user", "q", 4096)]] * 4), LeaderFirst(provider))
    assert provider.sent == [0.0, 1.0, 2.0, 3.0]  # one at a time, until two seconds after the leader's reply


def test_a_provider_that_says_that_it_wrote_nothing_is_not_waited_for_again():
    class Unmarked(Provider):
        kind = "anthropic"

    provider = Unmarked(write_s=1000.0)
    when(asked(*[prompt("q")] * 5), LeaderFirst(provider), [0, 0, 0, 0, 20])
    assert provider.sent == [0.0, 8.0, 8.0, 8.0, 20.0]


def test_nobody_waits_longer_than_was_said_for_a_slow_leader():
    provider = Provider(latency_s=100.0)
    when(asked(*[prompt("q")] * 4), LeaderFirst(provider, wait_s=10.0), [0, 0, 5, 90])
    assert provider.sent == [0.0, 10.0, 15.0, 100.0]


def test_what_has_not_been_used_for_long_is_written_anew():
    provider = Provider()
    when(asked(*[prompt("q")] * 5), LeaderFirst(provider), [0, 100, 350, 1000, 1000])
    assert provider.sent == [0.0, 100.0, 350.0, 1000.0, 1008.0]


@pytest.mark.parametrize("how", ["failed", "raised", "cancelled"])
def test_a_leader_that_ends_without_an_answer_lets_the_next_lead(how):
    class Failing(Provider):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            if requests[0].branch == (0,):
                await asyncio.sleep(1000 if how == "cancelled" else 1)
                if how == "raised":
                    raise OSError("no route")
                return [Unavailable("not now")]
            return await super().agenerate(requests)

    provider = Failing()
    model = LeaderFirst(provider, wait_s=100.0)
    requests = asked(*[prompt("q")] * 4)

    async def main() -> None:
        leader = asyncio.create_task(model.agenerate(requests[:1]))
        followers = [asyncio.create_task(model.agenerate([request])) for request in requests[1:]]
        await asyncio.sleep(1)
        leader.cancel() if how == "cancelled" else None
        await asyncio.wait([leader, *followers])
        assert leader.cancelled() or leader.exception() or isinstance(leader.result()[0], Unavailable)

    run_in_virtual_time(main())
    assert provider.sent == [1.0, 9.0, 11.0]


def test_inside_retrying_a_leader_that_is_to_be_tried_later_makes_way():
    tries: list[tuple[int, ...]] = []

    class Failing(Provider):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            tries.append(requests[0].branch)
            if tries == [(0,)]:
                return [Unavailable("not now", retry_after_s=30.0)]
            return await super().agenerate(requests)

    provider = Failing()
    answers = when(asked(*[prompt("q")] * 3), Retrying(LeaderFirst(provider)))
    assert [at for _, at in answers] == [38.0, 8.0, 16.0]
    assert provider.computed == 2048


@given(
    chats=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=25),
    seed=st.integers(0, 99),
    wait_s=st.sampled_from([0.0, 5.0, 1000.0]),
)
@settings(max_examples=50, deadline=None)
def test_whatever_happens_nobody_waits_for_ever_or_longer_than_was_said(chats, seed, wait_s):
    """Chats that branch anywhere; requests that come at any time, fail, or are cancelled."""
    chance = random.Random(seed)
    alone: dict[tuple[int, ...], float] = {}

    class Unreliable(Provider):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            alone[requests[0].branch] = asyncio.get_running_loop().time()
            await asyncio.sleep(chance.uniform(0, 20))
            return [ModelError("no")] if chance.random() < 0.3 else await super().agenerate(requests)

    model = LeaderFirst(Unreliable(), wait_s=wait_s)
    requests = asked(*[[turn("user", str(word), 1024) for word in chat] for chat in chats])

    async def one(request: Request) -> None:
        await asyncio.sleep(chance.uniform(0, 30))
        start = asyncio.get_running_loop().time()
        async with asyncio.timeout(chance.choice([None, 15.0])):
            replies = await model.agenerate([request])
        assert len(replies) == 1
        assert alone[request.branch] - start <= wait_s + 1e-6

    async def main() -> None:
        tasks = [asyncio.create_task(one(request)) for request in requests]
        await asyncio.wait(tasks)
        errors = [error for task in tasks if (error := task.exception()) and not isinstance(error, TimeoutError)]
        assert not errors
        last = asyncio.get_running_loop().time()
        await asyncio.sleep(1000)  # all is forgotten by now, and nobody leads
        for request in {request.messages: request for request in requests}.values():
            start = asyncio.get_running_loop().time()
            await asyncio.gather(model.agenerate([replace(request, branch=(*request.branch, int(last)))]))
            assert alone[(*request.branch, int(last))] - start <= min(wait_s, 2.0)

    run_in_virtual_time(main())


def test_on_threads_too():
    class Threaded(Provider):
        agenerate: Any = property()  # there is none

    provider = Threaded(latency_s=0.05, write_s=0.02)
    found = run(gather(said(prompt("q", 4096)) for _ in range(12)), LeaderFirst(provider), max_in_flight=12)
    assert len(set(found)) == 12
    assert provider.computed == 4096


def test_generate_asks_all_at_once_but_for_the_leader():
    provider = Provider(latency_s=0.05, write_s=0.02)
    replies = LeaderFirst(provider).generate(asked(*[prompt("q", 4096)] * 6))
    assert len(replies) == 6
    assert provider.computed == 4096


def test_it_is_the_backend_that_it_wraps_and_goes_to_other_processes():
    model = pickle.loads(pickle.dumps(LeaderFirst(Retrying(LeaderFirst(Named("claude-haiku-4-5"))), wait_s=3.0)))
    assert (model.name, model.least_tokens, model.wait_s, model.batched) == ("claude-haiku-4-5", 4096, 3.0, False)
    assert LeaderFirst(Named("gpt-5-mini")).least_tokens == 1024
    assert LeaderFirst(Named("gpt-5-mini"), least_tokens=7).least_tokens == 7
    with pytest.raises(SetupError, match="wait_s=-1"):
        LeaderFirst(Named("m"), wait_s=-1)


class Named:
    batched = False

    def __init__(self, name: str) -> None:
        self.name = name

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [Reply("ok")] * len(requests)
