"""What holds of every backend, whatever stands behind it: order, texts, options, failures in place, cancellation."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from doors import CHATS, DOORS, HOSTED, KEY, Door

from promptlab import Message, ModelError, Reply, Request, Usage, arun, ask, call, gather, run, sample, tool
from promptlab.errors import ContextOverflow, Refused, Unsupported
from promptlab.options import OPTIONS
from promptlab.testing import Fault
from promptlab.types import Token, ToolCall, ToolSpec

every_door = pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
every_hosted_door = pytest.mark.parametrize("door", HOSTED, ids=lambda door: door.name)
every_chat = pytest.mark.parametrize("door", CHATS, ids=lambda door: door.name)

TEXTS = {
    "plain": "hi",
    "nothing": "",
    "around": "  spaces and\na line \n\n",
    "quotes": "\"quoted\" and \\ and 'single' and `ticks`",
    "accents": "café, naïve, Ωμέγα, Ελληνικά",
    "joined": "👩‍⚕️ 🏳️‍🌈 e\u0301",
    "right to left": "שלום مرحبا",
    "wide": "日本語 中文 한국어",
    "markup": '<script>alert(1)</script> &amp; {"a": 1} data: [DONE]',
    "odd spaces": "a\u00a0b\u200bc\u2028d\u0085e\tf",
    "beyond": "𝒳 𐍈 🧬",
    "long": "Überlang. " * 4_000,
}


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def prompted(text: str, **options: object) -> Request:
    return Request((Message("user", text),), **options)  # type: ignore[arg-type]


def echo(request: Request) -> str:
    return "said: " + request.messages[-1].content


@every_door
def test_replies_come_in_the_order_of_the_requests(door: Door):
    with door.opened(echo) as at:
        replies = at.backend.generate([prompted(f"question {i}") for i in range(12)])
    assert [reply.text for reply in replies] == [f"said: question {i}" for i in range(12)]


@every_door
def test_nothing_asked_is_nothing_answered(door: Door):
    with door.opened(echo) as at:
        assert at.backend.generate([]) == []


@every_door
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_come_through_as_they_are(door: Door, text: str):
    with door.opened([text]) as at:
        [reply] = at.backend.generate([prompted(f"[{text}]")])
        assert at.script.requests[-1].messages[-1].content == f"[{text}]"
    assert reply.text == text


@every_chat
def test_all_turns_of_a_chat_arrive(door: Door):
    calls = (ToolCall("call_a", "add", {"x": 1, "deep": {"y": [1, None, "é"]}}), ToolCall("call_b", "now"))
    chat = (
        Message("system", "be brief"),
        Message("user", "first"),
        Message("assistant", "", calls),
        Message("tool", "3", call_id="call_a"),
        Message("tool", "noon", call_id="call_b"),
        Message("assistant", "done"),
        Message("user", "second"),
    )
    with door.opened(["fine"]) as at:
        at.backend.generate([Request(chat)])
        assert at.script.requests[-1].messages == chat


@every_hosted_door
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.25),
        ("temperature", 0.0),
        ("top_p", 0.5),
        ("stop", ("END", "\n\n")),
        ("seed", 11),
        ("seed", 0),
        ("logprobs", True),
        ("tools", (ToolSpec("add", "adds", {"type": "object", "properties": {"x": {"type": "integer"}}}),)),
        ("schema", CLOSED),
    ],
)
def test_an_option_arrives_or_is_refused_before_anything_is_sent(door: Door, name: str, value: object):
    with door.opened(['{"a": "b"}']) as at:
        asked = prompted("hi", **{name: value})
        if name in at.backend.can:
            [reply] = at.backend.generate([asked])
            assert isinstance(reply, Reply)
            assert getattr(at.script.requests[-1], name) == value
        else:
            with pytest.raises(Unsupported, match=OPTIONS[name]):
                at.backend.generate([prompted("fine"), asked])
            assert at.server.received == []


@every_hosted_door
def test_what_is_not_asked_is_not_sent(door: Door):
    with door.opened(["hi"]) as at:
        at.backend.generate([prompted("hi")])
        sent = at.server.received[-1].body
    assert not {"temperature", "top_p", "stop", "stop_sequences", "seed", "logprobs", "tools", "n"} & sent.keys()


@every_hosted_door
def test_the_most_tokens_arrive_and_an_end_by_them_is_told(door: Door):
    with door.opened([Reply("cut", finish="length"), Reply("whole")]) as at:
        cut, whole = at.backend.generate([prompted("a", max_tokens=7)]) + at.backend.generate([prompted("b")])
        assert at.script.requests[0].max_tokens == 7
    assert (cut.text, cut.finish) == ("cut", "length")
    assert (whole.text, whole.finish) == ("whole", "stop")


@every_door
@pytest.mark.parametrize("error", [ModelError("no"), ContextOverflow("too long"), Refused("I will not")], ids=repr)
def test_a_failed_request_is_its_error_in_its_place(door: Door, error: ModelError):
    def answered(request: Request) -> str | ModelError:
        return error if "bad" in request.messages[-1].content else echo(request)

    with door.opened(answered) as at:
        first, failed, last = at.backend.generate([prompted("one"), prompted("bad"), prompted("two")])
    assert (first.text, last.text) == ("said: one", "said: two")
    assert isinstance(failed, ModelError)
    if not isinstance(error, Refused) or door.chats:  # completions have no way to decline
        assert isinstance(failed, type(error))


@every_hosted_door
def test_usage_adds_up(door: Door):
    told = Usage(input_tokens=40, cached_tokens=30, output_tokens=9, reasoning_tokens=0)
    with door.opened([Reply("hi", usage=told)]) as at:
        [reply] = at.backend.generate([prompted("hi")])
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (40, 9)
    assert reply.usage.cached_tokens == 30
    assert reply.usage.cost_usd is None


@every_door
def test_samples_of_one_prompt_differ(door: Door):
    counted = iter(range(100))

    async def five() -> list[str]:
        return [reply.text for reply in await sample("draw", 5)]

    with door.opened(lambda request: f"number {next(counted)}") as at:
        drawn = run(five(), at.backend)
    assert len(set(drawn)) == 5


@every_hosted_door
def test_samples_are_one_call_where_the_api_has_that(door: Door):
    async def three() -> list[Reply]:
        return await sample("draw", 3)

    with door.opened(lambda request: "x") as at:
        run(three(), at.backend)
        assert len(at.server.received) == (1 if at.backend.native_n else 3)


@every_hosted_door
def test_what_a_server_leaves_out_of_n_is_asked_again(door: Door):
    async def three() -> list[Reply]:
        return await sample("draw", 3)

    counted = iter(range(100))
    with door.opened(lambda request: str(next(counted)), [Fault.ignore_n()]) as at:
        replies = run(three(), at.backend)
    assert len({reply.text for reply in replies}) == 3


@every_hosted_door
def test_a_server_that_gives_no_several_is_asked_one_by_one(door: Door):
    async def three() -> list[Reply]:
        return await sample("draw", 3)

    counted = iter(range(100))
    with door.opened(lambda request: str(next(counted)), [Fault.status(400, message="n must be 1")]) as at:
        if not at.backend.native_n:
            pytest.skip("declares no n")
        assert {reply.text for reply in run(three(), at.backend)} == {"0", "1", "2"}
        assert len(at.server.received) == 4


@every_hosted_door
def test_that_a_server_gives_no_several_is_remembered_of_as_many_and_as_greedy(door: Door):
    """vLLM refuses where it is greedy, OpenAI more than 128."""

    async def drawn(n: int, temperature: float) -> None:
        await sample("draw", n, temperature=temperature)

    with door.opened(lambda request: "x", [Fault.status(400, message="n must be 1")]) as at:
        if not at.backend.native_n:
            pytest.skip("declares no n")
        for n, temperature in ((3, 0.0), (3, 0.0), (4, 0.0), (2, 0.0), (3, 0.5)):
            run(drawn(n, temperature), at.backend)
        asked = [received.body.get("n", 1) for received in at.server.received]
    assert asked == [3, *[1] * 3, *[1] * 3, *[1] * 4, 2, 3]


@every_hosted_door
def test_what_is_wrong_with_several_is_not_asked_of_each(door: Door):
    async def three() -> list[Reply]:
        return await sample("draw", 3)

    faults = [Fault.status(400, message="no such voice")] * 9
    with door.opened(["x"] * 9, faults) as at:
        with pytest.raises(ModelError, match="no such voice"):
            run(three(), at.backend)
        if at.backend.native_n:
            assert len(at.server.received) == 2


@every_hosted_door
def test_one_seed_is_another_in_every_branch(door: Door):
    async def one() -> str:
        return (await ask("draw", seed=5)).text

    async def three() -> list[str]:
        return await gather(one() for _ in range(3))

    with door.opened(lambda request: "x") as at:
        if "seed" not in at.backend.can:
            with pytest.raises(Unsupported):
                run(one(), at.backend)
            return
        run(one(), at.backend)
        assert at.script.requests[-1].seed == 5
        run(three(), at.backend)
        first = {request.seed for request in at.script.requests[-3:]}
        run(three(), at.backend)
        assert {request.seed for request in at.script.requests[-3:]} == first
    assert len(first) == 3


@every_door
def test_programs_go_on_by_what_was_answered(door: Door):
    async def twice(question: str) -> str:
        first = await ask(question)
        return (await ask([Message("user", question), first.message, Message("user", first.text + "!")])).text

    def last_words(request: Request) -> str:
        return "said: " + request.messages[-1].content.split("\n")[-1]

    with door.opened(last_words) as at:
        answers = run([twice("a"), twice("b")], at.backend)
    if door.chats:
        assert answers == ["said: said: a!", "said: said: b!"]
    else:  # one text holds all turns
        assert all(isinstance(answer, str) for answer in answers)


@every_door
def test_one_backend_serves_one_event_loop_after_another(door: Door):
    async def asked(text: str) -> str:
        return (await ask(text)).text

    async def main() -> list[str]:
        both = [await arun(asked("in a loop"), at.backend), await asyncio.to_thread(run, asked("beside"), at.backend)]
        if hasattr(at.backend, "aclose"):
            await at.backend.aclose()
        return both

    with door.opened(echo) as at:
        assert run(asked("first"), at.backend) == "said: first"
        assert asyncio.run(main()) == ["said: in a loop", "said: beside"]
        assert run(asked("last"), at.backend) == "said: last"


class Gate:
    """Answers "fast" once "slow" has been asked, and "slow" only when it is let go."""

    batched = False

    def __init__(self) -> None:
        self.arrived, self.let_go = threading.Event(), threading.Event()

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]:
        for request in requests:
            if request.messages[-1].content.startswith("slow"):
                self.arrived.set()
                self.let_go.wait(30)
            else:
                assert self.arrived.wait(20)
        return [Reply("done") for _ in requests]


@every_hosted_door
def test_what_nobody_waits_for_any_more_is_cancelled(door: Door):
    async def asked(question: str) -> str:
        return (await ask(question)).text

    async def first_of_two() -> list[str]:
        return await gather([asked("fast"), asked("slow")], until=bool)

    gate = Gate()
    with door.opened(gate) as at:
        started = time.monotonic()
        assert run(first_of_two(), at.backend) == ["done"]
        took = time.monotonic() - started
        gate.let_go.set()
    assert took < 20


@tool
def add(x: int, y: int) -> int:
    """Adds two numbers."""
    return x + y


@every_chat
def test_a_round_trip_of_tools(door: Door):
    def answered(request: Request) -> Reply:
        told = [message.content for message in request.messages if message.role == "tool"]
        if told:
            return Reply("it is " + " and ".join(told))
        calls = (ToolCall("call_1", "add", {"x": 2, "y": 3}), ToolCall("call_2", "add", {"x": 4, "y": 5}))
        return Reply(calls=calls, finish="calls")

    async def agent() -> tuple[Reply, str]:
        chat = [Message("user", "2 + 3, 4 + 5?")]
        wish = await ask(chat, tools=[add])
        chat += [wish.message, *await call(wish.calls, [add])]
        return wish, (await ask(chat, tools=[add])).text

    with door.opened(answered) as at:
        wish, said = run(agent(), at.backend)
        [told] = at.script.requests[0].tools
        assert (told.name, told.description) == ("add", "Adds two numbers.")
        assert told.parameters["properties"].keys() == {"x", "y"}
    assert wish.finish == "calls"
    assert [(c.name, dict(c.arguments)) for c in wish.calls] == [("add", {"x": 2, "y": 3}), ("add", {"x": 4, "y": 5})]
    assert said == "it is 5 and 9"


@every_chat
@pytest.mark.parametrize(
    "fault", [Fault.duplicate_ids, Fault.missing_ids, Fault.split_arguments], ids=lambda f: f.__name__
)
def test_every_call_has_an_id_of_its_own_whatever_the_server_gives(door: Door, fault: Callable[[], Fault]):
    calls = tuple(ToolCall(f"call_{i}", "add", {"x": i, "y": -i}) for i in range(3))
    with door.opened([Reply(calls=calls, finish="calls")], [fault()]) as at:
        [reply] = at.backend.generate([prompted("go", tools=(add.spec,))])
    assert len({c.id for c in reply.calls}) == 3
    assert all(c.id for c in reply.calls)
    assert [dict(c.arguments) for c in reply.calls] == [{"x": i, "y": -i} for i in range(3)]


@every_hosted_door
def test_the_tokens_of_a_reply_are_those_of_its_text(door: Door):
    """vLLM's server counts the token that ended the reply among them."""
    kept = (Token("a ", -0.1), Token("\ufffd", -0.2), Token("\ufffd", -0.3))
    told = Reply("a é", tokens=(*kept, Token("<eos>", -0.4)))
    with door.opened([told, replace(told, tokens=kept), replace(told, finish="length")]) as at:
        if "logprobs" not in at.backend.can:
            pytest.skip("declares that it tells no log-probabilities")
        read = [at.backend.generate([prompted("hi", logprobs=True)])[0].tokens for _ in range(3)]
    assert read == [kept, kept, told.tokens]


@every_hosted_door
def test_the_key_is_sent_and_never_told(door: Door, capsys: pytest.CaptureFixture[str]):
    faults = [Fault.status(500, message=f"cannot use {KEY}"), Fault.html(), Fault.drop(), Fault.empty()]
    with door.opened(["x"] * 9, faults) as at:
        failures = [at.backend.generate([prompted("hi")])[0] for _ in faults]
        assert any(KEY in value for value in at.server.received[0].headers.values())
        told = [repr(at.backend), str(at.backend), *map(str, failures), *map(repr, failures)]
        told += [str(f.__cause__) + str(f.__context__) for f in failures]
    assert all(isinstance(failure, ModelError) for failure in failures)
    out = capsys.readouterr()
    assert KEY not in "".join([*told, out.out, out.err])


@every_hosted_door
def test_a_backend_may_be_sent_to_another_process(door: Door):
    with door.opened(echo) as at:
        at.backend.generate([prompted("before")])
        again = pickle.loads(pickle.dumps(at.backend))
        assert [reply.text for reply in again.generate([prompted("after")])] == ["said: after"]
        assert repr(again) == repr(at.backend)


@every_hosted_door
def test_a_server_on_this_machine_is_local(door: Door):
    with door.opened([]) as at:
        assert at.backend.local
