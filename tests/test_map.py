"""One program for each of many items: in order or as they come, lazily, in little memory, and ended at once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import promptlab
from promptlab import ModelError, Reply, amap, ask, gather, run
from promptlab.errors import ForeignAwaitable, SetupError
from promptlab.testing import Script, run_in_virtual_time
from promptlab.types import Request


def answer(request: Request) -> Reply | ModelError:
    text = request.messages[-1].content
    return ModelError(text) if text.startswith("bad") else Reply(f"{text}@{request.branch}")


class Hosted:
    """Answers after a while, which depends on the request; counts the requests in flight."""

    batched = False

    def __init__(self, least_s: float = 0.0, most_s: float = 0.0) -> None:
        self.least_s, self.most_s = least_s, most_s
        self.in_flight = self.most_in_flight = self.answered = self.closed = 0

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            chance = random.Random(requests[0].messages[-1].content)
            await asyncio.sleep(chance.uniform(self.least_s, self.most_s))
            self.answered += 1
            return [answer(request) for request in requests]
        finally:
            self.in_flight -= 1

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise AssertionError("agenerate is there to be used")

    async def aclose(self) -> None:
        self.closed += 1


class Threaded:
    """A hosted model without agenerate."""

    batched = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        time.sleep(self.seconds)
        return [answer(request) for request in requests]


class Counted:
    """Endlessly many items; how many of them were drawn, and by which threads."""

    def __init__(self) -> None:
        self.drawn, self.threads = 0, set[int]()

    def __iter__(self) -> Iterator[int]:
        for i in count():
            self.drawn += 1
            self.threads.add(threading.get_ident())
            yield i


async def said(item: Any) -> str:
    return (await ask(str(item))).text


async def twice(item: Any) -> list[str]:
    return [*await gather(said(item), said(f"{item} again")), await said("at last")]


MODELS = {"hosted": lambda: Hosted(0.0, 0.002), "threads": Threaded, "engine": lambda: Script(answer)}
models = pytest.mark.parametrize("model", [pytest.param(make, id=name) for name, make in MODELS.items()])


async def listed(program: Any, items: Any, model: Any, **options: Any) -> list[Any]:
    return [result async for result in amap(program, items, model, **options)]


def told(results: Any) -> list[Any]:
    """Errors as something that is equal to another of its kind."""
    return [repr(result) for result in results]


@models
@pytest.mark.parametrize("n", [0, 1, 7, 600])
def test_results_are_those_of_run_in_the_order_of_the_items(model, n):
    items = ["bad" if i % 10 == 3 else f"item {i}" for i in range(n)]
    wanted = told(run([twice(item) for item in items], model()))
    assert told(promptlab.map(twice, items, model())) == wanted
    assert told(asyncio.run(listed(twice, items, model()))) == wanted


@models
def test_unordered_results_come_with_the_places_of_their_items(model):
    wanted = list(enumerate(run([twice(i) for i in range(300)], model())))
    assert sorted(promptlab.map(twice, range(300), model(), ordered=False)) == wanted
    assert sorted(asyncio.run(listed(twice, range(300), model(), ordered=False))) == wanted


def test_unordered_results_come_as_they_are_ready():
    class Slow(Hosted):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            await asyncio.sleep(5 - int(requests[0].messages[0].content))
            return [Reply()] * len(requests)

    places = run_in_virtual_time(listed(said, range(5), Slow(), ordered=False))
    assert [i for i, _ in places] == [4, 3, 2, 1, 0]


@given(
    taken=st.integers(1, 60), in_flight=st.integers(1, 9), ordered=st.booleans(), pauses=st.sampled_from([0.0, 1, 50])
)
@settings(max_examples=40, deadline=None)
def test_no_more_is_alive_or_drawn_ahead_than_was_said(taken, in_flight, ordered, pauses):
    """Under a virtual clock, with replies in any order and a consumer that may be slower than the model."""
    items, model = Counted(), Hosted(0.1, 9.0)
    alive = most_alive = 0

    async def program(item: int) -> int:
        nonlocal alive, most_alive
        alive += 1
        most_alive = max(most_alive, alive)
        try:
            await said(item)
            await said(item)
        finally:
            alive -= 1
        return item

    async def main() -> list[Any]:
        results: list[Any] = []
        async with aclosing(amap(program, items, model, max_in_flight=in_flight, ordered=ordered)) as mapped:
            async for result in mapped:
                results.append(result)
                assert items.drawn - len(results) < 5 * in_flight
                if len(results) == taken:
                    break
                await asyncio.sleep(pauses)
        assert alive == model.in_flight == 0
        return results

    results = run_in_virtual_time(main())
    assert most_alive <= in_flight
    assert model.most_in_flight <= in_flight
    if ordered:
        assert results == list(range(taken))
    else:
        assert all(i == result for i, result in results)
        assert len(dict(results)) == taken


def test_a_slow_item_holds_up_only_so_many_others():
    """Nobody waits for the first but to be taken: others go on as far as their results may wait."""
    items = Counted()

    class FirstIsSlow(Hosted):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            await asyncio.sleep(1000 if requests[0].messages[0].content == "0" else 1)
            self.answered += 1
            return [Reply()]

    model = FirstIsSlow()

    async def main() -> None:
        async with aclosing(amap(said, items, model, max_in_flight=10)) as mapped:
            await anext(mapped)

    run_in_virtual_time(main())
    assert (items.drawn, model.answered) == (40, 40)


@models
def test_nothing_is_drawn_before_a_result_is_wanted(model):
    items = Counted()
    mapped = promptlab.map(said, items, model(), max_in_flight=8)
    assert items.drawn == 0
    assert next(mapped) == "0@(0,)"
    assert items.drawn <= 256
    assert list(islice(mapped, 300)) == [f"{i}@(0,)" for i in range(1, 301)]
    assert items.drawn <= 512
    assert items.threads == {threading.get_ident()}  # a cursor of sqlite3 insists on it
    mapped.close()


def test_programs_go_on_while_a_result_is_looked_at():
    model = Hosted(0.01, 0.05)
    mapped = promptlab.map(said, count(), model, max_in_flight=20)
    next(mapped)
    time.sleep(0.3)
    assert model.answered >= 20
    mapped.close()


@pytest.mark.parametrize("how", ["break", "close", "error", "del"])
def test_ending_early_ends_all_in_flight_at_once_and_closes_the_programs(how):
    model, closed = Hosted(60, 60), []

    async def program(item: int) -> None:
        try:
            if item:
                await gather(said(item), said(item))
        finally:
            closed.append(item)

    start = time.monotonic()
    mapped = promptlab.map(program, count(), model, max_in_flight=50)
    if how == "break":
        for _ in mapped:
            break
        del mapped
    elif how == "error":
        with pytest.raises(ZeroDivisionError):
            [1 / 0 for _ in mapped]
        del mapped
    else:
        next(mapped)
        mapped.close() if how == "close" else None
        del mapped
    assert time.monotonic() - start < 20  # a minute, if it waited
    assert (model.in_flight, model.closed, len(set(closed))) == (0, 1, len(closed))
    assert len(closed) >= 50


def press_ctrl_c(after_s: float) -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell has started with & ignores it
    threading.Timer(after_s, signal.pthread_kill, [main, signal.SIGINT]).start()


def test_a_model_that_cannot_be_interrupted_is_not_waited_for():
    start = time.monotonic()
    mapped = promptlab.map(said, count(), Threaded(60), max_in_flight=2, ordered=False)
    press_ctrl_c(0.2)
    with pytest.raises(KeyboardInterrupt):
        next(mapped)
    assert time.monotonic() - start < 20  # a minute, if it waited


def test_ctrl_c_ends_it():
    model = Hosted(60, 60)
    press_ctrl_c(0.2)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(promptlab.map(said, count(), model))
    assert time.monotonic() - start < 20  # a minute, if it waited
    assert (model.in_flight, model.closed) == (0, 1)


def test_one_ctrl_c_ends_it_inside_a_running_loop():
    """There it only cancels the task, which does not get to know while it waits."""
    model = Hosted(60, 60)

    async def notebook() -> None:
        press_ctrl_c(0.2)
        list(promptlab.map(said, count(), model))

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())
    assert time.monotonic() - start < 20  # a minute, if it waited
    assert (model.in_flight, model.closed) == (0, 1)


@pytest.mark.parametrize("model", [lambda: Hosted(60, 60), lambda: Script(answer)], ids=["hosted", "engine"])
def test_cancelling_the_task_ends_it(model):
    backend = model()

    async def main() -> None:
        task = asyncio.create_task(listed(said, count(), backend))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())  # the items have no end: it comes here or it hangs
    assert getattr(backend, "in_flight", 0) == 0


def test_an_iteration_that_is_left_open_does_not_hold_up_the_end_of_the_interpreter():
    code = """import asyncio, promptlab
from promptlab import Reply, ask
class Hosted:
    batched = False
    async def agenerate(self, requests):
        await asyncio.sleep(0 if requests[0].messages[0].content == "0" else 60)
        return [Reply("ok")]
    def generate(self, requests): ...
async def program(i):
    return (await ask(str(i))).text
kept = promptlab.map(program, range(1000), Hosted())
print(next(kept))"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=Path(promptlab.__file__).parent.parent,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@given(
    n=st.integers(1, 30),
    failing=st.sets(st.integers(0, 30), min_size=1),
    seed=st.integers(0, 9),
    engine=st.booleans(),
    broken_items=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_other_error_is_raised_in_its_place(n, failing, seed, engine, broken_items):
    """Whatever the timing: what comes before it is there, in order, and what comes after it is not."""
    closed: list[int] = []

    def items() -> Iterator[int]:
        for i in range(n):
            if broken_items and i in failing:
                raise ZeroDivisionError(i)
            yield i

    async def program(item: int) -> int:
        try:
            await said(f"{seed} {item}")
            if item in failing:
                raise ZeroDivisionError(item)
            return item
        finally:
            closed.append(item)

    async def main() -> list[Any]:
        results: list[Any] = []
        try:
            async for result in amap(program, items(), Script(answer) if engine else Hosted(0, 9), max_in_flight=5):
                results.append(result)  # noqa: PERF401
        except ZeroDivisionError as error:
            results.append(error.args[0])
            return [*results, "raised"]
        return results

    first = min((i for i in failing if i < n), default=None)
    wanted = list(range(n)) if first is None else [*range(first + 1), "raised"]
    assert (asyncio.run if engine else run_in_virtual_time)(main()) == wanted
    assert len(set(closed)) == len(closed)


@models
def test_errors_are_raised_by_map_too_and_end_it(model):
    def program(item: int) -> Any:
        return said(item) if item < 3 else 1 / 0

    mapped = promptlab.map(program, count(), model())
    assert list(islice(mapped, 3)) == ["0@(0,)", "1@(0,)", "2@(0,)"]
    with pytest.raises(ZeroDivisionError):
        next(mapped)
    assert list(mapped) == []


def test_it_works_inside_a_running_loop_and_from_threads():
    async def notebook() -> list[str]:
        return list(promptlab.map(said, range(100), Hosted()))

    wanted = [f"{i}@(0,)" for i in range(100)]
    assert asyncio.run(notebook()) == wanted
    model, found = Hosted(), []
    threads = [
        threading.Thread(target=lambda: found.append(list(promptlab.map(said, range(100), model)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


def test_an_engine_is_asked_in_the_same_batches_whoever_asks():
    first, second, whole = Script(answer), Script(answer), Script(answer)
    wanted = run([twice(i) for i in range(600)], whole)
    assert list(promptlab.map(twice, iter(range(600)), first)) == wanted
    assert asyncio.run(listed(twice, iter(range(600)), second)) == wanted
    assert first.batches == second.batches == [512, 256, 512, 256, 176, 88]
    assert first.requests == second.requests
    assert sorted(map(repr, first.requests)) == sorted(map(repr, whole.requests))


def test_a_sampled_reply_does_not_depend_on_its_chunk(random_tiny):
    async def sampled(item: int) -> str:
        return (await ask(f"question {item}", temperature=1.0, seed=7, max_tokens=3)).text

    assert list(promptlab.map(sampled, range(300), random_tiny)) == run([sampled(i) for i in range(300)], random_tiny)


def test_under_amap_programs_may_await_anything_and_under_map_only_effects():
    async def program(item: int) -> str:
        await asyncio.sleep(0)
        return await said(item)

    assert asyncio.run(listed(program, range(3), Hosted())) == ["0@(0,)", "1@(0,)", "2@(0,)"]
    with pytest.raises(ForeignAwaitable, match=r"program awaited asyncio\.sleep"):
        list(promptlab.map(program, range(3), Hosted()))


@pytest.mark.parametrize(
    ("program", "items", "model", "options", "message"),
    [
        (said, 5, Hosted(), {}, "items to go over, got int"),
        (said, [], "tiny", {}, r"Pass model\('tiny'\)"),
        (said, [], Hosted(), {"max_in_flight": 0}, "at least 1, got 0"),
        (said, [], Hosted(), {"max_in_flight": "8"}, "a whole number, at least 1, got '8'"),
        ("said", [], Hosted(), {}, "an async function of an item, got str"),
    ],
)
def test_what_cannot_be_gone_over_is_said_at_once(program, items, model, options, message):
    for door in (promptlab.map, amap):
        with pytest.raises(SetupError, match=message):
            door(program, items, model, **options)


def test_a_program_that_was_called_already_is_closed_and_refused():
    with pytest.raises(SetupError, match="Do not call it"):
        promptlab.map(said(1), [1], Hosted())


@models
def test_what_is_no_program_is_said_in_its_place(model):
    with pytest.raises(SetupError, match="A program is a call of an async function, got str"):
        list(promptlab.map(str, [1], model()))

    async def forgetful(item: int) -> Any:
        return said(item)

    with pytest.raises(SetupError, match="did not await"):
        list(promptlab.map(forgetful, [1], model()))
