"""How programs are driven: in step, concurrently, in the caller's loop; always with the same results."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Budget, Message, ModelError, Reply, arun, ask, attempt, call, gather, run, sample, tool, traced
from promptlab.backends.routed import Routed
from promptlab.backends.script import Script
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.stack import stacked
from promptlab.errors import ForeignAwaitable, SetupError
from promptlab.types import Request, ToolCall


class Jittery:
    """A hosted model whose replies come in any order. Prompts that begin with "bad" fail."""

    batched = False

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.in_flight = self.most_in_flight = self.answered = self.cancelled = 0

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
            self.answered += 1
            return [answer(request) for request in requests]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise AssertionError("agenerate is there to be used")


def answer(request: Request) -> Reply | ModelError:
    text = request.messages[-1].content
    if text.startswith("bad"):
        return ModelError(f"{text}@{request.branch}")
    return Reply(f"{text}@{request.branch}")


def in_step() -> Script:
    return Script(answer)


class Threaded:
    """A hosted model without agenerate."""

    batched = False

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [answer(request) for request in requests]


async def said(prompt: str) -> str:
    return (await ask(prompt)).text


async def self_consistency(question: str, n: int = 5) -> list[str]:
    return await gather(said(question) for _ in range(n))


# ---- in step


def test_a_hundred_programs_of_five_samples_are_one_batch():
    model = in_step()
    run([self_consistency(str(i)) for i in range(100)], model)
    assert model.batches == [500]
    model = in_step()
    run(gather(self_consistency(str(i)) for i in range(100)), model)
    assert model.batches == [500]


def test_a_batch_is_in_tree_order_whatever_finishes_first():
    async def steps(name: str, n: int) -> None:
        for i in range(n):
            await ask(f"{name}{i}")

    model = in_step()
    run([gather(steps("a", 1), steps("b", 3)), steps("c", 2), gather(sample("d", 2), steps("e", 2))], model)
    asked = [request.messages[0].content for request in model.requests]
    assert model.batches == [6, 3, 1]
    assert asked == ["a0", "b0", "c0", "d", "d", "e0", "b1", "c1", "e1", "b2"]


def test_programs_that_ask_nothing_need_no_batch():
    async def thinks() -> int:
        return 7

    model = in_step()
    assert run([thinks(), gather(thinks(), thinks())], model) == [7, [7, 7]]
    assert run([], model) == []
    assert model.batches == []


def test_long_loops_of_effects_that_need_no_reply_are_no_recursion():
    async def loops() -> int:
        for _ in range(5000):
            await gather([])
            await call([], [])
        return 1

    assert run(loops(), in_step()) == 1


# ---- every way gives the same


Tree = tuple[str, Any]
leaves = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(["x", "y", "bad"])),
    st.tuples(st.just("sample"), st.integers(0, 3)),
    st.tuples(st.just("think"), st.just(0)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("then"), st.lists(inner, max_size=3)),
        st.tuples(st.just("gather"), st.lists(inner, max_size=4)),
        st.tuples(st.just("attempt"), inner),
        st.tuples(st.just("until"), st.tuples(st.integers(1, 3), st.lists(inner, min_size=1, max_size=5))),
    ),
    max_leaves=12,
)


async def planted(tree: Tree) -> Any:
    kind, inner = tree
    if kind == "ask":
        return await said(inner)
    if kind == "sample":
        return [reply.text for reply in await sample("s", inner)]
    if kind == "then":
        return [await planted(each) for each in inner]
    if kind == "gather":
        return await gather(planted(each) for each in inner)
    if kind == "attempt":
        found = await attempt(planted(inner))
        return f"failed: {found}" if isinstance(found, ModelError) else found
    if kind == "until":
        least, several = inner
        return await gather((planted(each) for each in several), until=lambda found: max(0, least - len(found)))
    return "thought"


def outcomes(results: list[Any]) -> list[str]:
    return [repr(result) for result in results]


@settings(deadline=None, max_examples=60)
@given(st.lists(trees, max_size=4), st.integers(1, 5), st.integers(0, 10))
def test_results_depend_neither_on_the_runner_nor_on_timing(forest, max_in_flight, seed):
    def programs() -> list[Any]:
        return [planted(tree) for tree in forest]

    expected = outcomes(run(programs(), in_step()))
    hosted = Jittery(seed)
    assert outcomes(run(programs(), hosted, max_in_flight=max_in_flight)) == expected
    assert hosted.most_in_flight <= max_in_flight
    assert outcomes(asyncio.run(arun(programs(), Jittery(seed)))) == expected
    assert outcomes(asyncio.run(arun(programs(), in_step()))) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(trees, max_size=3))
def test_batches_in_the_callers_loop_are_those_in_step(forest):
    first, second = in_step(), in_step()
    run([planted(tree) for tree in forest], first)
    asyncio.run(arun([planted(tree) for tree in forest], second))
    assert (first.batches, first.requests) == (second.batches, second.requests)


@settings(deadline=None, max_examples=30)
@given(trees, st.integers(0, 5))
def test_traces_come_in_the_same_order_from_every_runner(tree, seed):
    def without_until(tree: Tree) -> Tree:  # beyond what decided, which exchanges there are depends on timing
        kind, inner = tree
        if kind == "until":
            return "gather", [without_until(each) for each in inner[1]]
        if kind in ("then", "gather"):
            return kind, [without_until(each) for each in inner]
        return (kind, without_until(inner)) if kind == "attempt" else tree

    def noted(model: Any) -> list[tuple[Request, str]]:
        whole = without_until(tree)
        return [(request, str(reply)) for request, reply in run(traced(attempt(planted(whole))), model).exchanges]

    assert "bad" in str(tree) or noted(Jittery(seed)) == noted(in_step())


def test_a_backend_without_agenerate_is_asked_on_threads():
    class Together(Threaded):
        """Answers only when three requests are in flight at once."""

        barrier = threading.Barrier(3)

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            self.barrier.wait(timeout=10)
            return super().generate(requests)

    assert run(gather(said(q) for q in "abc"), Together()) == run(gather(said(q) for q in "abc"), in_step())


def test_no_more_threads_than_requests_in_flight():
    class Counting(Threaded):
        def __init__(self) -> None:
            self.threads: set[int] = set()

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            self.threads.add(threading.get_ident())
            time.sleep(0.001)
            return super().generate(requests)

    model = Counting()
    run(gather(said(str(i)) for i in range(20)), model, max_in_flight=2)
    assert len(model.threads) <= 2


def test_a_program_does_not_wait_for_the_others_on_a_hosted_model():
    order: list[str] = []

    class Slow(Jittery):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            await asyncio.sleep(0.05 if requests[0].messages[0].content == "slow" else 0)
            return [Reply("x")]

    async def steps(prompt: str, n: int) -> None:
        for _ in range(n):
            await ask(prompt)
        order.append(prompt)

    run([steps("slow", 1), steps("quick", 5)], Slow())
    assert order == ["quick", "slow"]


@pytest.mark.parametrize("model", [in_step(), Jittery(), Threaded()], ids=["in step", "async", "threads"])
def test_run_works_inside_a_running_loop(model):
    async def notebook() -> list[str]:
        return run(self_consistency("q", 2), model)

    assert asyncio.run(notebook()) == ["q@(0, 0, 0)", "q@(0, 1, 0)"]


# ---- until


def leads(n: int) -> Any:
    """Decided once the leader cannot be overtaken by what is still to come of n votes."""

    def decided(votes: list[str]) -> bool:
        counts = [count for _, count in Counter(votes).most_common(2)] + [0, 0]
        return counts[0] - counts[1] > n - len(votes)

    return decided


def at_least(n: int) -> Any:
    """The same rule, saying how many more votes it takes."""

    def more(votes: list[str]) -> int:
        counts = [count for _, count in Counter(votes).most_common(2)] + [0, 0]
        lead, left = counts[0] - counts[1], n - len(votes)
        return 0 if lead > left else (left - lead) // 2 + 1

    return more


async def vote(votes: Sequence[str], until: Any) -> list[str]:
    async def one(i: int, text: str) -> str:
        await ask(f"{i}")
        return text

    return await gather((one(i, text) for i, text in enumerate(votes)), until=until(len(votes)))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9), st.integers(0, 20), st.integers(1, 9))
def test_a_lead_decides_the_same_whoever_answers_first(votes, seed, max_in_flight):
    decided = next((votes[:k] for k in range(len(votes) + 1) if leads(len(votes))(votes[:k])), votes)
    for until in (leads, at_least):
        model = in_step()
        assert run(vote(votes, until), model) == decided
        assert sum(model.batches) == len(decided)
        assert run(vote(votes, until), Jittery(seed), max_in_flight=max_in_flight) == decided


def test_in_step_asks_in_the_smallest_batches_that_could_decide():
    model = in_step()
    assert run(vote("aabaaaa", at_least), model) == list("aabaa")
    assert model.batches == [4, 1]
    model = in_step()
    run(vote("aaabbb", leads), model)
    assert model.batches == [1] * 6


def test_a_hosted_model_is_cancelled_once_the_answers_decide():
    class Hangs(Jittery):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            if requests[0].messages[0].content != "0":
                try:
                    await asyncio.sleep(60)
                finally:
                    self.cancelled += 1
            return [Reply("x")]

    model = Hangs()
    assert run(vote("abcd", lambda n: bool), model) == ["a"]
    assert model.cancelled == 3


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_an_until_that_is_decided_from_the_start_asks_nothing(model):
    assert run(gather(attempt(said("a")), said("b"), until=lambda found: True), model) == []


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_an_until_never_decided_gives_all(model):
    assert len(run(gather(said("a"), said("b"), until=lambda found: 100), model)) == 2
    assert len(run(gather(said("a"), said("b"), until=lambda found: False), model)) == 2


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
@pytest.mark.parametrize("verdict", [None, -1, "yes"])
def test_an_until_that_answers_something_else_is_an_error_in_the_program(model, verdict):
    async def program() -> str:
        try:
            await gather(said("a"), said("b"), until=lambda found: verdict if found else 1)
        except SetupError as error:
            return str(error)
        return "not raised"

    assert repr(verdict) in run(program(), model)


def test_a_failure_beyond_the_deciding_results_does_not_count():
    for model in (in_step(), Jittery(1), Jittery(2)):
        assert len(run(gather(said("a"), said("bad"), until=bool), model)) == 1


# ---- errors


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_a_model_error_ends_its_program_only(model):
    good, bad, also = run([said("x"), said("bad"), said("y")], model)
    assert (good, also) == ("x@(0,)", "y@(0,)")
    assert isinstance(bad, ModelError)
    with pytest.raises(ModelError, match="bad"):
        run(said("bad"), model)


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_any_other_error_ends_the_run_and_closes_the_programs(model):
    closed: list[str] = []

    async def patient(name: str) -> None:
        try:
            for _ in range(100):
                await ask("x")
        finally:
            closed.append(name)

    async def buggy() -> None:
        await ask("x")
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        run([patient("a"), gather(patient("b"), patient("c")), buggy(), attempt(attempt(said("x")))], model)
    assert sorted(closed) == ["a", "b", "c"]


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
@pytest.mark.parametrize("clean_up", ["asks", "fails"])
def test_what_a_closed_program_asks_or_raises_as_it_ends_replaces_no_error(model, clean_up):
    released: list[str] = []

    async def worker() -> None:
        try:
            for _ in range(100):
                await ask("x")
        finally:
            try:
                if clean_up == "fails":
                    raise KeyError("in cleaning up")
                await ask("release")
            finally:
                released.append("worker")
                await ask("release the rest")

    async def buggy() -> None:
        await ask("x")
        raise ValueError("a bug")

    async def handled(*programs: Any) -> str:
        try:
            await gather(*programs)
        except ValueError as error:
            return str(error)
        return "not raised"

    async def first() -> int:
        return len(await gather(said("x"), worker(), until=lambda found: len(found) == 1))

    assert run(handled(buggy(), traced(worker())), model) == "a bug"
    assert run(first(), model) == 1
    with pytest.raises(ValueError, match="a bug"):
        run([buggy(), worker()], model)
    gc.collect()  # a program that was still open would be told of here, and fail this test
    assert released


@pytest.mark.parametrize("seed", range(5))
def test_of_two_failures_the_first_program_s_is_raised_and_later_ones_are_closed(seed):
    ended: list[str] = []

    async def steps(prompt: str, n: int) -> None:
        try:
            for _ in range(n):
                await ask("x")
            await ask(prompt)
        finally:
            ended.append(prompt)

    async def program() -> str:
        try:
            await gather(steps("good", 2), steps("bad first", 3), steps("bad second", 0), steps("late", 50))
        except ModelError as error:
            return str(error)
        return "not raised"

    for model in (in_step(), Jittery(seed)):
        ended.clear()
        assert run(program(), model) == "bad first@(0, 1, 3)"
        assert sorted(ended) == ["bad first", "bad second", "good", "late"]


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_programs_after_a_failed_one_ask_no_more_while_those_before_it_finish(model):
    asked: Counter[str] = Counter()

    async def steps(name: str, n: int) -> None:
        for _ in range(n):
            await ask(name)
            asked[name] += 1

    with pytest.raises(ModelError):
        run(gather(steps("before", 40), said("bad"), steps("after", 40)), model)
    assert asked["before"] == 40
    assert asked["after"] < 20


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["in step", "hosted"])
def test_a_traceback_ends_in_the_program_s_own_line(model):
    async def solve() -> None:
        await ask("bad luck")  # here

    async def whole() -> None:
        await gather(solve(), said("x"))

    for program in (solve(), whole(), attempt_nothing(solve())):
        with pytest.raises(ModelError) as caught:
            run(program, model)
        assert traceback.extract_tb(caught.value.__traceback__)[-1].line == 'await ask("bad luck")  # here'


async def judged(judge: Any) -> str:
    """Asks another model in a function that cannot await, as a score may."""
    await ask("a question")
    return run(ask("is that right?"), judge).text


async def judged_in_the_loop(judge: Any) -> str:
    await ask("a question")
    return (await arun(ask("is that right?"), judge)).text


@pytest.mark.parametrize("judge", [Script(lambda r: "yes"), Script(lambda r: "yes", batched=False)])
def test_what_goes_in_step_may_run_another_program_in_a_function(judge):
    async def in_a_notebook() -> Any:
        return run(judged(judge), in_step())

    assert run(gather(judged(judge), judged(judge)), in_step()) == ["yes", "yes"]
    assert asyncio.run(in_a_notebook()) == "yes"


def test_a_program_on_a_hosted_model_may_run_another_on_an_engine_and_is_told_what_to_do_for_a_hosted_one():
    hosted = Script(lambda r: "yes", batched=False)
    assert run(gather(judged(in_step()), judged(in_step())), Jittery()) == [run(judged(in_step()), Jittery())] * 2

    async def judged_twice() -> Any:
        return run(judged(hosted), in_step())

    for program in (judged(hosted), gather(judged(hosted), judged(hosted)), judged_twice()):
        with pytest.raises(
            ForeignAwaitable, match="by `run`, or by its `generate`, inside a program that `run` drives"
        ):
            run(program, Jittery())
    gc.collect()  # a program that was never awaited, or a loop that was never closed, would warn now


def test_arun_in_a_program_that_run_drives_says_what_to_do():
    for backend in (in_step(), Jittery()):
        with pytest.raises(
            ForeignAwaitable, match=r"`arun` was awaited in a program that `run` drives\. Await the other"
        ):
            run(judged_in_the_loop(Jittery()), backend)
    gc.collect()


async def attempt_nothing(program: Any) -> Any:
    return await program


class Owing:
    """A backend that breaks its contract."""

    def __init__(self, replies: Any, batched: bool) -> None:
        self.replies, self.batched = replies, batched
        self.scores = True

    def generate(self, requests: Sequence[Request]) -> Any:
        return self.replies


class AlsoAsync(Owing):
    """One that can be awaited too, as hosted models can."""

    async def agenerate(self, requests: Sequence[Request]) -> Any:
        return self.generate(requests)


BROKEN = pytest.mark.parametrize(
    ("replies", "says"),
    [
        ([], "answered 1 requests with 0 replies"),
        (["a", "b"], "with 2 replies"),
        (["a"], "owes a Reply or a ModelError for each request, got 'a'"),
        (None, "with a NoneType"),
        ((Reply(letter) for letter in "ab"), "with a generator"),
    ],
)


@BROKEN
@pytest.mark.parametrize("batched", [True, False])
def test_a_backend_that_breaks_its_contract_is_named(replies, says, batched):
    with pytest.raises(SetupError, match=f"Owing .*{says}"):
        run(ask("x"), Owing(replies, batched))
    with pytest.raises(SetupError, match=f"Owing .*{says}"):
        asyncio.run(arun(ask("x"), Owing(replies, batched)))


@BROKEN
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", [Owing, AlsoAsync])
def test_a_backend_that_breaks_its_contract_is_named_through_whatever_is_around_it(
    replies, says, batched, kind, tmp_path
):
    backend = kind(replies, batched)
    around = [
        Cached(backend, tmp_path / "calls.db", identity={"name": "owing"}),
        stacked(backend, budget=Budget(calls=9)),
        Routed(backend, judge=backend),
    ]
    for each in around:
        for asked in (ask("x"), ask("x", to="judge")):
            with pytest.raises(SetupError, match=f"{kind.__name__} .*{says}"):
                run(asked, each)
        with pytest.raises(SetupError, match=f"{kind.__name__} .*{says}"):
            each.generate([Request((Message("user", "x"),))])


def test_a_backend_owes_a_score_for_each_continuation():
    from promptlab import score

    with pytest.raises(SetupError, match="1 scores for 2 continuations"):
        run(score("q", ["a", "b"]), Owing([Reply(scores=(0.5,))], True))


@pytest.mark.parametrize(
    ("program", "model", "says"),
    [
        (lambda: said, in_step(), "got function. Call it"),
        (lambda: said("x"), "tiny", r"got str. Pass model\('tiny'\)"),
        (lambda: [attempt(said("x")), 3], in_step(), "got int"),
        (lambda: gather([said("x")]), object(), "A backend has `generate` and `batched`"),
    ],
)
def test_a_wrong_set_up_says_what_was_got(program, model, says):
    with pytest.raises(SetupError, match=says):
        run(program(), model)
    gc.collect()  # a program that was never awaited would warn now


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_program_that_returns_one_it_did_not_await_is_named(several):
    async def forgetful():
        return said("x")

    with pytest.raises(SetupError, match="a call of said that it did not await"):
        run([forgetful(), said("y")] if several else forgetful(), in_step())
    gc.collect()  # a program that was never awaited would warn now


@pytest.mark.parametrize("batched", [True, False], ids=["in step", "hosted"])
def test_an_async_generate_is_to_be_called_agenerate(batched):
    class Async(Threaded):
        async def generate(self, requests):
            return [answer(request) for request in requests]

    model = Async()
    model.batched = batched
    with pytest.raises(SetupError, match=r"Async\.generate is an async function: call that one `agenerate`"):
        run([said("x"), said("y")], model)
    gc.collect()  # a coroutine that was never awaited would warn now


def test_no_requests_in_flight_is_no_run():
    with pytest.raises(SetupError, match="at least 1, got 0"):
        run(said("x"), Jittery(), max_in_flight=0)


def test_an_error_of_the_backend_is_raised_in_step_and_out():
    class Broken(Threaded):
        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            raise OSError("engine on fire")

    class BrokenEngine(Broken):
        batched = True

    for model in (Broken(), BrokenEngine()):
        with pytest.raises(OSError, match="engine on fire"):
            run(gather(said("x"), said("y")), model)
        with pytest.raises(OSError, match="engine on fire"):
            asyncio.run(arun(gather(said("x"), said("y")), model))


def test_ctrl_c_cancels_what_is_in_flight_and_closes_the_programs():
    closed: list[str] = []

    class Interrupted(Jittery):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            if requests[0].messages[0].content == "b":
                signal.raise_signal(signal.SIGINT)
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled += 1
            return [Reply("never")]

    async def program(name: str) -> None:
        try:
            await ask(name)
        finally:
            closed.append(name)

    model = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run([program("a"), program("b")], model)
    assert (sorted(closed), model.cancelled) == (["a", "b"], 2)


def test_ctrl_c_reaches_the_private_thread_of_a_notebook():
    class Interrupted(Jittery):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled += 1
            return []

    async def notebook() -> None:
        run(said("x"), model)

    model = Interrupted()
    loop = asyncio.new_event_loop()  # asyncio.run would catch the signal itself
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(notebook())
    loop.close()
    assert model.cancelled == 1


def test_ctrl_c_in_an_engine_closes_the_programs():
    closed: list[str] = []

    def interrupt(request: Request) -> str:
        raise KeyboardInterrupt

    async def program() -> None:
        try:
            await ask("x")
        finally:
            closed.append("x")

    with pytest.raises(KeyboardInterrupt):
        run([program(), gather(program(), program())], Script(interrupt))
    assert len(closed) == 3


# ---- other awaitables


class Foreign:
    async def sleeps(self) -> None:
        await asyncio.sleep(1)

    async def yields(self) -> None:
        await asyncio.sleep(0)

    async def gathers(self) -> None:
        await asyncio.gather(ask("x"), attempt(ask("y")))

    async def waits_for(self) -> None:
        await asyncio.wait_for(ask("x"), 1)

    async def creates(self) -> None:
        await asyncio.create_task(said("x"))

    async def groups(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(said("x"))

    async def times_out(self) -> None:
        async with asyncio.timeout(1):
            await said("x")


@pytest.mark.parametrize("inside", [False, True], ids=["no loop", "in a loop"])
@pytest.mark.parametrize("batched", [True, False], ids=["in step", "hosted"])
@pytest.mark.parametrize(
    ("name", "awaited"),
    [
        ("sleeps", "asyncio.sleep"),
        ("yields", "asyncio.sleep"),
        ("gathers", "asyncio.gather"),
        ("waits_for", "asyncio.wait_for"),
        ("creates", "asyncio.create_task"),
        ("groups", "asyncio.TaskGroup"),
        ("times_out", "asyncio.timeout"),
    ],
)
def test_another_awaitable_under_run_is_named_and_arun_too(name, awaited, batched, inside):
    async def program() -> None:
        await ask("x")
        await getattr(Foreign(), name)()

    async def notebook() -> None:
        before = asyncio.all_tasks()
        try:
            run([program(), said("y")], Script(answer, batched=batched))
        finally:
            assert asyncio.all_tasks() == before

    with pytest.raises(ForeignAwaitable, match=rf"^Foreign\.{name} awaited ") as caught:
        asyncio.run(notebook()) if inside else run([program(), said("y")], Script(answer, batched=batched))
    assert awaited in str(caught.value)
    assert "await arun(" in str(caught.value)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == name
    del caught
    gc.collect()  # a coroutine that was never awaited would warn now


def test_who_awaited_is_named_and_not_what_promptlab_wraps_it_in():
    with pytest.raises(ForeignAwaitable, match=r"^Foreign\.yields awaited asyncio\.sleep"):
        run(attempt(traced(attempt(traced(Foreign().yields())))), in_step())


@pytest.mark.parametrize("gathers", [False, True], ids=["alone", "asyncio.gather"])
def test_an_effect_in_a_task_of_asyncio_says_who_drives_programs(gathers):
    async def program() -> list[str]:
        return await asyncio.gather(said("x"), said("y"))

    with pytest.raises(ForeignAwaitable, match=r"run\(program, model\).*promptlab's gather, not asyncio's"):
        asyncio.run(arun(program(), in_step()) if gathers else said("x"))


def test_a_future_of_somebody_else_is_named():
    async def notebook() -> None:
        theirs = asyncio.get_running_loop().create_future()

        async def program() -> None:
            await theirs

        run(program(), in_step())

    with pytest.raises(ForeignAwaitable, match="program awaited a Future"):
        asyncio.run(notebook())


@pytest.mark.parametrize("model", [in_step(), Jittery(), Threaded()], ids=["waves", "async", "threads"])
def test_under_arun_a_program_may_await_anything(model):
    async def program(name: str) -> list[str]:
        await asyncio.sleep(0.001)
        first = await said(name)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        other = asyncio.create_task(asyncio.sleep(0, "other"))
        return [first, await other, *await gather(said(name), said(name))]

    found = asyncio.run(arun([program("a"), program("b")], model))
    assert found == [[f"{q}@(0,)", "other", f"{q}@(1, 0, 0)", f"{q}@(1, 1, 0)"] for q in "ab"]


def test_under_arun_a_timeout_cancels_what_the_program_asks():
    class Hangs(Jittery):
        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled += 1
            return []

    async def program() -> str:
        try:
            async with asyncio.timeout(0.01):
                await gather(said("a"), said("b"))
        except TimeoutError:
            return "gave up"
        return "answered"

    model = Hangs()
    assert asyncio.run(arun(program(), model)) == "gave up"
    assert model.cancelled == 2


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["waves", "hosted"])
def test_a_cancelled_program_finishes_what_it_does_on_its_way_out(model):
    tidied: list[str] = []

    async def turns(n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def tidy() -> None:
        try:
            await turns(1000)
        finally:
            await turns(100)
            tidied.append("tidy")

    with pytest.raises(ModelError):  # the failure cancels `tidy`; that it is raised, once `turns` has ended, must not
        asyncio.run(arun(gather(turns(50), said("bad"), gather(tidy(), tidy())), model))
    assert len(tidied) == 2


def test_under_arun_a_batch_waits_for_programs_that_do_something_else():
    async def program(pause_s: float) -> str:
        await asyncio.sleep(pause_s)
        return await said("x")

    model = in_step()
    asyncio.run(arun([program(0), program(0.02), gather(program(0.01), program(0))], model))
    assert model.batches == [4]


@pytest.mark.parametrize("model", [in_step(), Jittery()], ids=["waves", "hosted"])
def test_under_arun_programs_may_wait_for_each_other(model):
    async def main() -> list[str]:
        one_at_a_time = asyncio.Semaphore(1)

        async def program(name: str) -> str:
            async with one_at_a_time:
                return await said(name)

        async with asyncio.timeout(20):
            return await arun(gather(program(name) for name in "abc"), model)

    assert asyncio.run(main()) == [f"{name}@(0, {i}, 0)" for i, name in enumerate("abc")]


@pytest.mark.parametrize("batched", [True, False], ids=["engine", "hosted"])
@pytest.mark.parametrize("error", [StopIteration, asyncio.CancelledError])
def test_a_backend_that_raises_what_no_future_holds_ends_the_run(batched, error):
    class Spent:
        def __init__(self) -> None:
            self.batched = batched

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            raise error

    async def main() -> list[str]:
        async with asyncio.timeout(20):
            return await arun(gather(said("a"), said("b")), Spent())

    with pytest.raises(RuntimeError, match=error.__name__):
        asyncio.run(main())


def test_under_arun_an_engine_runs_off_the_loop_and_never_twice_at_once():
    class Engine:
        batched = True
        busy = False

        def __init__(self) -> None:
            self.threads: set[int] = set()

        def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            assert not self.busy
            self.busy = True
            self.threads.add(threading.get_ident())
            time.sleep(0.02)
            self.busy = False
            return [answer(request) for request in requests]

    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.005):
                return await said("slow")
        except TimeoutError:
            return await said("again")

    model = Engine()
    assert asyncio.run(arun([impatient(), said("x")], model)) == ["again@(1,)", "x@(0,)"]
    assert threading.get_ident() not in model.threads


def test_a_slow_tool_holds_up_no_other_program():
    meanwhile = threading.Event()

    @tool
    def slow() -> bool:
        """Waits until somebody else was answered."""
        return meanwhile.wait(timeout=10)

    async def other() -> None:
        await ask("x")
        meanwhile.set()

    [told], _ = run(gather(call([ToolCall("1", "slow")], [slow]), other()), Jittery())
    assert told.content == "true"


def test_whoever_looks_through_loaded_modules_meets_nothing_odd():
    """vLLM does so when it loads: it takes `vars` of every value that has any."""
    from promptlab.runners import step

    for value in vars(step).values():
        if hasattr(value, "__dict__"):
            assert "get" in dir(vars(value))


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
from promptlab import ask, model, run
from promptlab.testing import FakeServer, Fault

async def asked():
    return (await ask("hi")).text

async def main(url):
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    return run(asked(), model(f"openai:m@{url}"))

with FakeServer(["hi"], faults=[Fault.slow(60)]) as server:
    started = time.monotonic()
    try:
        asyncio.run(main(server.url))
    except KeyboardInterrupt:
        print("stopped" if time.monotonic() - started < 20 else "late")
"""


def test_one_interrupt_stops_a_run_inside_a_running_loop():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.strip()) == (0, "stopped"), done.stderr
