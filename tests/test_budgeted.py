"""A budget is never exceeded: not by a call, a token or a cent, whatever fails, is cancelled or killed."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import ModelError, Reply, Request, Usage, ask, attempt, gather, model, run, sample
from promptlab.backends.prices import given_price
from promptlab.backends.wrappers.budget import Amount, Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.backends.wrappers.cached import Cached
from promptlab.errors import BudgetExceeded, SetupError, Unavailable
from promptlab.testing import FakeServer, Fault, Script

PRICE = {"input": 1.0, "output": 4.0, "cached": 0.1}


async def asked(question: str, **options: Any) -> str:
    return (await ask(question, **{"max_tokens": 20, **options})).text


class Provider:
    """Bills what it serves: a token a byte of the question, and as many as it feels like up to max_tokens."""

    batched = False
    price = given_price(PRICE)

    def __init__(self, seed: int = 0, fails: float = 0.0) -> None:
        self.random, self.fails = random.Random(seed), fails
        self.calls = self.tokens = 0
        self.usd = 0.0

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise NotImplementedError

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        return [await self._answer(request) for request in requests]

    async def _answer(self, request: Request) -> Reply | ModelError:
        self.calls += 1
        read, wrote = len(request.messages[-1].content.encode()), self.random.randint(0, request.max_tokens or 0)
        usage = Usage(read, self.random.randint(0, read), wrote)
        await asyncio.sleep(self.random.random() / 500)
        if self.random.random() < self.fails:
            return Unavailable("HTTP 500", status=500)
        self.tokens += read + wrote
        self.usd += self.price.cost_usd(usage)
        if self.random.random() < self.fails:
            return Unavailable("the connection broke")  # billed, and nobody knows
        return Reply("x" * wrote, usage=usage)


@settings(deadline=None, max_examples=30)
@given(
    calls=st.none() | st.integers(0, 60),
    tokens=st.none() | st.integers(0, 3_000),
    usd=st.none() | st.floats(0, 0.004),
    seed=st.integers(0, 99),
    fails=st.sampled_from([0.0, 0.3]),
)
def test_no_budget_is_ever_exceeded(calls: Any, tokens: Any, usd: Any, seed: int, fails: float):
    provider, budget = Provider(seed, fails), Budget(calls=calls, tokens=tokens, usd=usd)
    results = run([asked(f"question {i}") for i in range(80)], Budgeted(provider, budget))
    assert calls is None or provider.calls <= calls
    assert tokens is None or provider.tokens <= tokens
    assert usd is None or provider.usd <= usd + 1e-12
    spent = budget.spent
    assert spent.calls == provider.calls
    if budget.counts_tokens:  # what is lost on its way counts at its most, which is not looked at otherwise
        assert spent.tokens >= provider.tokens
        assert spent.nano_usd >= provider.usd * 1e9 - 100
    if not fails:
        assert (spent.tokens, round(provider.usd * 1e9)) == (provider.tokens, pytest.approx(spent.nano_usd, abs=100))
        refused = [result for result in results if isinstance(result, BudgetExceeded)]
        assert len(refused) == 80 - provider.calls
        assert refused or (calls is None or calls >= 80)


def test_five_hundred_programs_at_once_make_every_call_they_may_and_none_more():
    provider, budget = Provider(), Budget(calls=321)

    async def program(i: int) -> list[Any]:
        return [await attempt(asked(f"{i}.{step}")) for step in range(3)]

    results = run([program(i) for i in range(500)], Budgeted(provider, budget), max_in_flight=500)
    assert provider.calls == 321
    assert sum(isinstance(step, str) for steps in results for step in steps) == 321


def test_what_is_not_used_is_given_back_so_that_the_last_token_can_be_spent():
    """Each call may come to 1 + 16 + 20 tokens, and comes to 1 + 2."""

    class Frugal(Provider):
        async def _answer(self, request: Request) -> Reply:
            self.calls += 1
            await asyncio.sleep(0)
            return Reply("xx", usage=Usage(1, 0, 2))

    provider = Frugal()
    results = run([asked("?") for _ in range(100)], Budgeted(provider, Budget(tokens=100)), max_in_flight=100)
    answered = sum(isinstance(result, str) for result in results)
    assert answered == (100 - 37) // 3 + 1


def test_a_budget_is_shared_by_backends_threads_and_runs():
    budget = Budget(calls=10)
    providers = [Provider(), Provider()]

    def work(provider: Provider) -> None:
        run([asked(f"{i}") for i in range(9)], Budgeted(provider, budget))

    threads = [threading.Thread(target=work, args=(provider,)) for provider in providers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert providers[0].calls + providers[1].calls == 10
    with pytest.raises(BudgetExceeded, match=r"10 calls of 10 calls are spent"):
        run(asked("more"), Budgeted(providers[0], budget))


def test_who_waits_for_room_hears_of_it_even_if_it_comes_at_that_moment():
    class Interrupted(Budget):
        def reserve(self, most: Amount) -> Any:
            hold = super().reserve(most)
            self.settle(first, Amount(1))  # by another thread, before this one does anything
            return hold

    budget = Interrupted(tokens=100)
    first = Budget.reserve(budget, Amount(1, 90))
    waiting = threading.Thread(target=run, args=(asked("q"), Budgeted(Provider(), budget)), daemon=True)
    waiting.start()
    waiting.join(10)
    assert not waiting.is_alive()
    assert budget.spent.calls == 2


def test_budgets_nest():
    whole, part = Budget(calls=5), Budget(calls=3)
    provider = Provider()
    outer = Budgeted(provider, whole)
    run([asked(f"{i}") for i in range(9)], Budgeted(outer, part))
    assert (provider.calls, part.spent.calls, whole.spent.calls) == (3, 3, 3)
    run([asked(f"more {i}") for i in range(9)], outer)
    assert (provider.calls, whole.spent.calls) == (5, 5)
    exhausted = run([asked("and more")], Budgeted(outer, Budget(calls=9)))
    assert isinstance(exhausted[0], BudgetExceeded)


def test_what_an_outer_budget_counts_is_what_was_sent():
    inner, outer = Budget(calls=1), Budget(calls=9)
    run([asked(f"{i}") for i in range(5)], Budgeted(Budgeted(Provider(), inner), outer))
    assert (inner.spent.calls, outer.spent.calls) == (1, 1)


def test_a_wave_of_an_engine_is_cut_where_the_budget_ends():
    tiny = model("tiny")
    backend = Budgeted(tiny, Budget(calls=7))
    results = run([asked(f"symptom {i}", max_tokens=2) for i in range(10)], backend)
    assert [isinstance(result, str) for result in results] == [True] * 7 + [False] * 3
    budget = Budget(tokens=200)
    results = run([asked(f"symptom {i}", max_tokens=2) for i in range(40)], Budgeted(tiny, budget))
    assert 0 < sum(isinstance(result, str) for result in results) < 40
    assert 170 < budget.spent.tokens <= 200


def test_cached_answers_cost_nothing(tmp_path: Path):
    budget = Budget(calls=2)
    backend = Cached(Budgeted(Script(lambda request: "x"), budget), tmp_path / "calls.db", identity={"a": 1})
    for _ in range(3):
        run([asked("one"), asked("two")], backend)
    assert budget.spent.calls == 2


def test_time_ends_what_is_in_flight():
    with FakeServer(["late"], faults=[Fault.slow(20)]) as server:
        backend = Budgeted(model(f"openai:m@{server.url}", key="x"), Budget(seconds=0.3))
        with pytest.raises(BudgetExceeded, match="ended before the reply came"):
            run(asked("q"), backend)
        with pytest.raises(BudgetExceeded, match=r"the budget of 0\.3 seconds is over"):
            run(asked("q"), backend)


def test_a_backend_s_own_timeout_is_its_own():
    class Late(Provider):
        async def _answer(self, request: Request) -> Reply:
            raise TimeoutError("the disk did not answer")

    for seconds in (None, 60):
        with pytest.raises(TimeoutError, match="the disk"):
            run(asked("q"), Budgeted(Late(), Budget(seconds=seconds)))


def test_answers_that_cannot_be_read_count_at_their_most():
    """A server bills what it answered, whatever came of it on its way."""
    budget = Budget(tokens=100)
    with FakeServer(["x"], faults=[Fault.empty()] * 9) as server:
        backend = model(f"openai:m@{server.url}", key="x", attempts=1, budget=budget)
        results = run([asked("q") for _ in range(9)], backend)
        assert [type(result).__name__ for result in results] == ["Malformed"] * 2 + ["BudgetExceeded"] * 7
        assert len(server.received) == 2
    assert budget.spent == Amount(2, 2 * (1 + 16 + 20))


@pytest.mark.parametrize(("status", "tokens"), [(429, 0), (500, 0), (503, 0), (504, 37), (522, 37), (524, 37)])
def test_what_a_gateway_waited_for_in_vain_counts_at_its_most(status: int, tokens: int):
    """The server behind it may have answered all the same."""
    budget = Budget(tokens=100)
    with FakeServer(["x"], faults=[Fault.status(status)]) as server, pytest.raises(Unavailable, match=str(status)):
        run(asked("q"), model(f"openai:m@{server.url}", key="x", attempts=1, budget=budget))
    assert budget.spent == Amount(1, tokens)


def test_answers_that_do_not_tell_what_they_took_count_at_their_most():
    """Some servers tell no usage, and a budget of tokens would have no end there."""

    class Silent(Provider):
        async def _answer(self, request: Request) -> Reply:
            self.calls += 1
            return Reply("x")

    provider, budget = Silent(), Budget(tokens=100)
    results = run([asked("q") for _ in range(9)], Budgeted(provider, budget))
    assert [type(result).__name__ for result in results] == ["str"] * 2 + ["BudgetExceeded"] * 7
    assert (provider.calls, budget.spent.tokens) == (2, 2 * (1 + 16 + 20))


def test_samples_of_one_call_are_counted_by_the_one_that_tells_of_all():
    class Sampling(Provider):
        native_n = True

        async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
            return [Reply("x", usage=Usage(1, 0, 5) if i == 0 else Usage()) for i in range(len(requests))]

    budget = Budget(tokens=1_000)
    run(sample("q", 5, max_tokens=20), Budgeted(Sampling(), budget))
    assert budget.spent.tokens == 6


def test_what_is_not_sent_in_a_long_pause_takes_no_tokens():
    budget = Budget(tokens=100)
    with FakeServer(["x"], faults=[Fault.status(429, retry_after="1000")]) as server:
        backend = model(f"openai:m@{server.url}", key="x", attempts=1, budget=budget)
        results = run([asked(f"{i}") for i in range(9)], backend, max_in_flight=1)
        assert {type(result).__name__ for result in results} == {"Unavailable"}
        assert len(server.received) == 1
    assert budget.spent.tokens == 0


def test_what_is_cancelled_counts_at_its_most():
    budget = Budget(calls=9, tokens=1_000)

    class Slow(Provider):
        async def _answer(self, request: Request) -> Reply:
            self.calls += 1
            await asyncio.sleep(0 if "fast" in request.messages[-1].content else 30)
            return Reply("x", usage=Usage(4, 0, 1))

    async def first() -> list[str]:
        return await gather([asked("fast"), asked("slow")], until=bool)

    run(first(), Budgeted(Slow(), budget))
    assert budget.spent == Amount(2, 4 + 1 + 20 + 20, 4_000 + 4_000 + 20_000 + 80_000)


def test_a_budget_in_money_needs_a_price_and_one_in_tokens_an_end():
    with FakeServer([Reply("hi", usage=Usage(3, 0, 1))] * 9) as server:
        unknown = model(f"openai:m@{server.url}", key="x", attempts=1)
        with pytest.raises(SetupError, match=r"price of .*openai:m@.* is not known"):
            Budgeted(unknown, Budget(usd=1.0))
        with pytest.raises(SetupError, match=r"ask with max_tokens"):
            run(asked("q", max_tokens=None), Budgeted(unknown, Budget(tokens=100)))
        known = model(f"openai:m@{server.url}", key="x", usd_per_million=PRICE)
        budget = Budget(usd=1.0)
        assert run(asked("q"), Budgeted(known, budget)) == "hi"
        assert server.received
        assert 0 < budget.usd < 0.001
    assert run(asked("symptom", max_tokens=None), Budgeted(model("tiny"), Budget(usd=0.0, tokens=600))) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"calls": calls} for calls in (-1, 1.5, True, "5", float("inf"))),
        *({"tokens": tokens} for tokens in (-1, 1e3, [5])),
        *({"usd": usd} for usd in (-0.1, "5", True, float("inf"), 1e300)),
        *({"seconds": seconds} for seconds in (-1, "3", float("nan"), float("inf"))),
    ],
    ids=str,
)
def test_what_is_no_budget_is_refused(wrong: dict[str, Any]):
    [(name, limit)] = wrong.items()
    with pytest.raises(SetupError, match="0 or more") as caught:
        Budget(**wrong)
    assert f"got {name}={limit!r}. " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_budget_says_what_it_is():
    assert repr(Budget(seconds=1)) == "Budget(1 seconds)"
    assert repr(Budget(calls=1_000, usd=0.5, seconds=2.5)) == "Budget(1,000 calls, $0.500000, 2.5 seconds)"
    assert repr(Budget(calls=np.int64(3), usd=np.float64(1))) == "Budget(3 calls, $1.000000)"


@pytest.mark.parametrize("path", [5, "", ".", True])
def test_a_budget_is_kept_in_a_file_or_not_at_all(path: Any):
    with pytest.raises(SetupError, match="is kept in a file"):
        Budget(calls=3, path=path)


def database(path: Path, *statements: str) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
    return path.read_bytes()


def test_a_file_that_is_no_budget_is_told_and_left_as_it_is(tmp_path: Path):
    path = tmp_path / "given"
    for content in (
        b"note,urgency\n" * 99,
        b"junk" * 999,
        database(tmp_path / "another_s.db", "CREATE TABLE customers (name)"),
        database(tmp_path / "alike.db", "CREATE TABLE spent (what)"),
        database(tmp_path / "marked.db", "PRAGMA application_id = 77", "CREATE TABLE t (a)"),
        database(tmp_path / "cache.db", "PRAGMA user_version = 5", "CREATE TABLE held (a)", "CREATE TABLE spent (a)"),
    ):
        path.write_bytes(content)
        with pytest.raises(SetupError, match="is not a promptlab budget, and is left as it is") as caught:
            Budget(calls=3, path=path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == content
        assert not list(tmp_path.glob("given?*"))


def test_a_budget_that_cannot_be_kept_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"file/budget\.db cannot be kept: .* Give another path"):
        Budget(calls=3, path=tmp_path / "file" / "budget.db")
    path = tmp_path / "torn.db"
    Budget(path=tmp_path / "whole.db")
    content = database(tmp_path / "whole.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(content[:100] + bytes(len(content) - 100))
    with pytest.raises(SetupError, match=r"torn\.db cannot be kept: .* Give another path"):
        Budget(calls=3, path=path)


def test_a_budget_goes_to_other_processes_by_its_file(tmp_path: Path):
    budget = Budget(calls=3, path=tmp_path / "budget.db")
    run([asked(f"{i}") for i in range(2)], Budgeted(Provider(), budget))
    again = pickle.loads(pickle.dumps(budget))
    results = run([asked(f"{i}") for i in range(4)], Budgeted(Provider(), again))
    assert sum(isinstance(result, str) for result in results) == 1
    assert budget.spent.calls == 3
    with pytest.raises(SetupError, match="give it one"):
        pickle.dumps(Budget(calls=3))


KILLED = """
import os, sys
from pathlib import Path
from promptlab import Reply, ask, run
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted

class Served:
    batched = False
    def generate(self, requests):
        with open(sys.argv[1] + "/served", "a") as file:
            file.write("x\\n")
        if sum(1 for _ in open(sys.argv[1] + "/served")) >= int(sys.argv[2]):  # threads may write between
            os.kill(os.getpid(), 9)
        return [Reply("x") for _ in requests]

async def asked(i):
    return (await ask(str(i))).text

budget = Budget(calls=int(sys.argv[3]), path=sys.argv[1] + "/budget.db")
run([asked(i) for i in range(30)], Budgeted(Served(), budget))
"""


def test_after_kills_and_restarts_it_still_holds(tmp_path: Path):
    ended = []
    for kill_at in (3, 9, 16, 10_000, 10_000):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(kill_at), "20"]
        ended.append(subprocess.run(command, capture_output=True).returncode)
        served = len((tmp_path / "served").read_text().splitlines())
        spent = Budget(path=tmp_path / "budget.db").spent.calls
        assert served <= spent <= 20
    assert ended[0] == -signal.SIGKILL
    assert ended[-2:] == [0, 0]
    assert spent == 20  # what was in flight at a kill is spent, and nothing is lost besides


def test_two_processes_share_one_budget(tmp_path: Path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), "100000", "37"]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in started:
        process.communicate()
    assert [process.returncode for process in started] == [0, 0]
    assert len((tmp_path / "served").read_text().splitlines()) == 37


RESTARTED = """
import os, sys
from promptlab import Reply, ask, run
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted

class Served:
    batched = False
    def generate(self, requests):
        if len(sys.argv) == 2:  # as if it were killed: another program takes its place, with its process id
            os.execv(sys.executable, [sys.executable, "-c", os.environ["PROGRAM"], sys.argv[1], str(os.getpid())])
        return [Reply("x") for _ in requests]

async def asked(i):
    return (await ask(str(i))).text

budget = Budget(calls=3, path=sys.argv[1])
if len(sys.argv) == 3:
    assert os.getpid() == int(sys.argv[2])
    print(budget.spent.calls)
print(run([asked(i) for i in range(4)], Budgeted(Served(), budget), max_in_flight=1).count("x"))
"""


def test_what_is_left_of_a_killed_process_is_spent_though_the_next_has_the_same_id(tmp_path: Path):
    command = [sys.executable, "-c", RESTARTED, str(tmp_path / "budget.db")]
    environment = {**os.environ, "PROGRAM": RESTARTED}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.split()) == (0, ["1", "2"])
    assert not list(tmp_path.glob("*.lock"))


FORKED = """
import os, sys
from promptlab import Reply, ask, run
from promptlab.backends.wrappers.budget import Budget
from promptlab.backends.wrappers.budgeted import Budgeted
from promptlab.errors import SetupError

class Served:
    batched = False
    def generate(self, requests):
        with open(sys.argv[1] + "/served", "a") as file:
            file.write("x\\n")
        return [Reply("x") for _ in requests]

async def asked(i):
    return (await ask(str(i))).text

def work():
    try:
        run([asked(i) for i in range(9)], Budgeted(Served(), budget))
    except SetupError as error:
        os.write(1, f"{error}\\n".encode())  # at once

path = sys.argv[1] + "/budget.db" if sys.argv[2] == "file" else None
budget = Budget(calls=10, path=path)
hold = budget.reserve((1, 0, 0))
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    children.append(child)
budget.settle(hold, (1, 0, 0))
for child in children:
    os.waitpid(child, 0)
work()
print(budget.spent.calls)
"""


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_a_fork_does_not_multiply_a_budget(tmp_path: Path, kept: str):
    command = [sys.executable, "-c", FORKED, str(tmp_path), kept]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    *told, spent = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr, spent) == (0, "", "10")
    assert len((tmp_path / "served").read_text().splitlines()) == 9
    assert len(told) == (0 if kept == "file" else 4)
    assert all("cannot be shared with a forked process: give it one" in line for line in told)
