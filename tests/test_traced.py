"""Every call is in the ledger, whatever came of it, and the ledger adds up to the provider's own bill."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import ModelError, Reply, Request, Usage, ask, attempt, gather, model, run, sample
from promptlab.backends.wrappers.cached import Cached
from promptlab.backends.wrappers.record import Record
from promptlab.backends.wrappers.traced import Traced, totals
from promptlab.errors import Refused
from promptlab.testing import FakeServer, Fault, Script

KEY = "sk-planted-0123456789"


async def asked(question: str, **options: Any) -> str:
    return (await ask(question, **options)).text


class Bill:
    """What a provider has served, as it counts."""

    def __init__(self) -> None:
        self.lock, self.usage, self.calls = threading.Lock(), Usage(), 0

    def serve(self, request: Request) -> Reply:
        text = request.messages[-1].content
        usage = Usage(7 + len(text), len(text) // 2, 3 + len(text) % 5)
        with self.lock:
            self.usage, self.calls = self.usage + usage, self.calls + 1
        if "never" in text:
            return Refused("I will not", reply=Reply("no", usage=usage))  # type: ignore[return-value]
        return Reply(text[::-1], usage=usage)


@settings(deadline=None, max_examples=15)
@given(
    questions=st.lists(st.sampled_from(["a", "bb", "ccc", "never", "d" * 30]), min_size=1, max_size=8),
    faults=st.lists(
        st.sampled_from([None, Fault.status(500), Fault.status(429, retry_after="0.01"), Fault.status(400)]), max_size=6
    ),
    cached=st.booleans(),
    api=st.sampled_from(["openai", "anthropic"]),
)
def test_the_ledger_is_the_providers_bill(
    tmp_path_factory: Any, questions: list[str], faults: list[Any], cached: bool, api: str
):
    bill, record = Bill(), Record(tmp_path_factory.mktemp("ledger") / "calls.db")
    with FakeServer(bill.serve, faults=faults) as server:
        backend: Any = Traced(model(f"{api}:m@{server.url}", key=KEY, attempts=1), record)
        if cached:
            backend = Cached(backend, record)
        for _ in range(2):
            run([attempt(asked(question)) for question in questions], backend)
        sent = len(server.received)
    calls, usage = totals(list(record.calls()))
    assert calls == sent
    served = [call for call in record.calls() if call.decision == "sent" and call.outcome in ("ok", "Refused")]
    assert (len(served), usage.input_tokens, usage.output_tokens) == (
        bill.calls,
        bill.usage.input_tokens,
        bill.usage.output_tokens,
    )


def test_a_call_is_noted_with_all_that_came_of_it(tmp_path: Path):
    told = Usage(40, 30, 9, 4)
    with FakeServer([Reply("hi", usage=told)], faults=[Fault.status(500), None]) as server:
        backend = Traced(model(f"openai:m@{server.url}", key=KEY, attempts=1), tmp_path / "calls.db")
        run(attempt(asked("q", temperature=0.5)), backend)
        run(asked("q", temperature=0.5), backend)
    failed, fine = backend.ledger.calls()
    assert (failed.outcome, failed.usage) == ("Unavailable", Usage())
    assert "500" in failed.reply["message"]
    assert (fine.outcome, fine.usage, fine.reply["text"]) == ("ok", told, "hi")
    assert fine.request == Request(fine.request.messages, temperature=0.5, branch=(0,))
    assert fine.request.messages[0].content == "q"
    assert fine.seconds > 0
    assert fine.at >= failed.at
    assert (fine.identity["kind"], fine.identity["name"]) == ("openai", "m")
    with pytest.raises(sqlite3.DatabaseError, match="only appended to"):
        sqlite3.connect(tmp_path / "calls.db").execute("DELETE FROM calls")


class Slow:
    """Answers at once, unless it is asked slowly."""

    batched = False
    identity: ClassVar[dict[str, str]] = {"name": "slow"}

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        raise NotImplementedError

    async def agenerate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        if any(request.messages[-1].content == "slow" for request in requests):
            await asyncio.sleep(3600)
        return [Reply("x")] * len(requests)


def test_samples_that_were_cancelled_are_in_it(tmp_path: Path):
    backend = Traced(Slow(), tmp_path / "calls.db")

    async def first() -> list[str]:
        return await gather([asked("fast"), asked("slow")], until=bool)

    assert run(first(), backend) == ["x"]
    outcomes = sorted(call.outcome for call in backend.ledger.calls())
    assert outcomes == ["cancelled", "ok"]


def test_what_the_cache_answered_is_noted_and_costs_nothing(tmp_path: Path):
    record = Record(tmp_path / "calls.db")

    async def three() -> list[str]:
        return [reply.text for reply in await sample("draw", 3)]

    for _ in range(2):
        answered = Script(lambda request: Reply("x", usage=Usage(5, 0, 1, cost_usd=0.5)))
        run(three(), Cached(Traced(answered, record), record, identity={"a": 1}))
    assert [call.decision for call in record.calls()] == ["sent"] * 3 + ["kept"] * 3
    assert totals(list(record.calls())) == (3, Usage(15, 0, 3, cost_usd=1.5))
    assert [call.usage.cost_usd for call in record.calls()] == [0.5] * 3 + [0.0] * 3


def test_what_a_cache_of_its_own_answered_is_noted_under_its_name(tmp_path: Path):
    ledger = Record(tmp_path / "ledger.db")
    for _ in range(2):
        run(asked("q"), Cached(Traced(Script(["x"]), ledger), tmp_path / "cache.db", identity={"name": "mine"}))
    assert [(call.decision, call.identity["name"]) for call in ledger.calls()] == [("sent", "script"), ("kept", "mine")]


def test_no_key_is_in_the_file(tmp_path: Path):
    with FakeServer(["x"] * 9, faults=[Fault.status(400, message=f"cannot use {KEY}"), None]) as server:
        record = Record(tmp_path / "calls.db")
        backend = Cached(Traced(model(f"openai:m@{server.url}", key=KEY, attempts=1), record), record)
        run([attempt(asked("q")), asked("p")], backend)
        record.close()
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_money_is_added_up_only_where_all_of_it_is_known():
    def call(usage: Usage) -> Any:
        return type("Call", (), {"decision": "sent", "usage": usage})()

    known = [call(Usage(1, 0, 1, cost_usd=0.5)), call(Usage()), call(Usage(1, 0, 1, cost_usd=0.25))]
    assert totals(known)[1].cost_usd == 0.75
    assert totals([*known, call(Usage(1, 0, 1))])[1].cost_usd is None
