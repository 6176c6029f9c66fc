"""Effects and combinators, through scripted replies."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from promptlab import Message, ModelError, Reply, ask, attempt, call, gather, model, run, sample, score, tool, traced
from promptlab.backends.script import Script, replay
from promptlab.errors import ReplayMiss, SetupError, Unsupported
from promptlab.testing import FakeServer
from promptlab.types import Request, ToolCall, ToolSpec

ROOT = Path(__file__).parent.parent


def branches(model: Script) -> list[tuple[int, ...]]:
    return [request.branch for request in model.requests]


def by_branch(request: Request) -> str:
    return str(request.branch)


async def said(prompt: str) -> str:
    return (await ask(prompt)).text


@tool
def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


def test_ask_takes_a_text_a_message_or_a_chat():
    model = Script(["a", "b", "c"])
    chat = [Message("system", "Be short."), Message("user", "hi")]
    run([ask("hi"), ask(Message("user", "hi")), ask(chat)], model)
    assert [r.messages for r in model.requests] == [(Message("user", "hi"),), (Message("user", "hi"),), tuple(chat)]


def test_options_are_the_fields_of_a_request():
    model = Script(["a"])
    run(ask("hi", temperature=0.5, stop="\n", max_tokens=3, tools=[add, ToolSpec("t", "", {})]), model)
    [request] = model.requests
    assert (request.temperature, request.stop, request.max_tokens) == (0.5, ("\n",), 3)
    assert request.tools == (add.spec, ToolSpec("t", "", {}))


def test_numbers_of_numpy_are_options_like_any_others():
    numbers = {
        "temperature": np.float32(0.5),
        "top_p": np.float32(0.25),
        "seed": np.int64(7),
        "max_tokens": np.int32(3),
    }
    with FakeServer(["a", "b"]) as server:
        assert run(ask("hi", **numbers), model(f"openai:m@{server.url}")).text == "a"
        [asked] = server.received
    assert {name: asked.body[name] for name in numbers} == {
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 7,
        "max_tokens": 3,
    }


def test_an_unknown_option_is_a_type_error_that_names_the_known_ones():
    with pytest.raises(TypeError, match=r"temprature.*max_tokens.*temperature"):
        run(ask("hi", temprature=0.5), Script(["a"]))


@pytest.mark.parametrize("prompt", [[], ["a text in a list"], [Message("user", "x"), 3], 3, None])
def test_a_prompt_that_is_none_says_so(prompt):
    with pytest.raises(SetupError, match="A prompt is"):
        run(ask(prompt), Script(["a"]))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            lambda: ask([Message("usr", "x")]),
            "The role of a Message is one of system, user, assistant, tool, got 'usr'",
        ),
        (
            lambda: ask([Message("user", "x"), Message("assistant", None, (ToolCall("1", "add"),))]),
            "The content of a Message is a text, which may be empty; got None",
        ),
        (lambda: ask("x", stop=5), "stop is a text or a list of texts, got 5"),
        (lambda: ask("x", tools=add), "tools is a list of tools, got one Tool. Put it in a list"),
        (lambda: ask("x", tools=said), "tools is a list of tools, got the function said. Put it in a list"),
        (lambda: call(ToolCall("1", "add"), [add]), "call takes a list of calls, got one ToolCall. Put it in a list"),
        (lambda: call(["add"], [add]), "call takes the ToolCalls of a reply (reply.calls), got one str among them"),
        (lambda: call([ToolCall("1", "add")], add), "call takes a list of tools, got one Tool. Put it in a list"),
    ],
)
def test_one_thing_where_a_list_is_meant_and_the_like_say_what_to_do(program, said):
    with pytest.raises(SetupError, match=re.escape(said)):
        run(program(), Script(["a"]))


@pytest.mark.parametrize("replies", ["hello", Reply("hello"), 5, {"zz": 5}])
def test_a_script_that_is_none_says_so(replies):
    with pytest.raises(SetupError, match=r"Put it in a list|The reply to 'zz' is"):
        Script(replies)


def test_two_equal_asks_in_sequence_have_different_branches():
    async def twice():
        return await ask("x"), await ask("x")

    model = Script(by_branch)
    assert [reply.text for reply in run(twice(), model)] == ["(0,)", "(1,)"]


def test_samples_are_requests_of_their_own_and_one_batch():
    model = Script(by_branch)
    assert [reply.text for reply in run(sample("x", 3), model)] == ["(0, 0)", "(0, 1)", "(0, 2)"]
    assert model.batches == [3]


def test_no_samples_are_no_request_and_fewer_are_an_error():
    model = Script([])
    assert run(sample("x", 0), model) == []
    assert model.requests == []
    with pytest.raises(SetupError, match="n=-1"):
        run(sample("x", -1), model)


@pytest.mark.parametrize("batched", [True, False])
def test_gathered_programs_have_branches_by_round_and_place(batched):
    async def nested():
        await ask("first")
        return await gather(gather(said("a"), said("b")), said("c"))

    assert run(nested(), Script(by_branch, batched=batched)) == [["(1, 0, 0, 0, 0)", "(1, 0, 0, 1, 0)"], "(1, 1, 0)"]


def test_a_list_of_programs_starts_every_program_at_the_root():
    model = Script(by_branch)
    assert run([said("x"), said("x")], model) == ["(0,)", "(0,)"]
    assert model.requests[0] == model.requests[1]


@pytest.mark.parametrize(
    "gathering",
    [
        lambda: gather(said(q) for q in "ab"),
        lambda: gather([said("a"), said("b")]),
        lambda: gather(said("a"), said("b")),
    ],
)
def test_gather_takes_an_iterable_or_the_programs(gathering):
    assert replay(gathering(), {"a": "1", "b": "2"}) == ["1", "2"]


def test_a_generator_is_read_before_its_variables_move_on():
    program = gather(gather(said(p + q) for q in "12") for p in "ab")
    assert replay(program, {each: each for each in ("a1", "a2", "b1", "b2")}) == [["a1", "a2"], ["b1", "b2"]]


def test_gather_of_nothing_is_nothing():
    assert run(gather(), Script([])) == []
    assert run(gather([]), Script([], batched=False)) == []


def test_gathering_something_uncalled_says_to_call_it():
    with pytest.raises(SetupError, match=r"got function.*Call it"):
        run(gather(said("a"), said), Script([]))


def test_score_gives_the_scores_in_order():
    model = Script([], scores=lambda request: [-float(len(c)) for c in request.continuations])
    assert run(score("yes or no?", ["yes", "no"]), model) == [-3.0, -2.0]
    assert model.requests[0].continuations == ("yes", "no")
    assert run(score("anything?", []), model) == []


def test_scores_of_a_backend_without_them_are_unsupported_before_anything_is_sent():
    model = Script(["a", "b"])
    with pytest.raises(Unsupported, match="cannot take texts to score"):
        run([said("x"), score("q", ["a"])], model)
    assert model.requests == []


def test_a_program_may_do_without_scores():
    async def label():
        try:
            return await score("q", ["yes", "no"])
        except Unsupported:
            return await said("q")

    assert run(label(), Script(["yes"])) == "yes"


def test_one_text_as_continuations_is_a_mistake():
    with pytest.raises(TypeError, match="Put it in a list"):
        run(score("q", "yes"), Script([], scores=True))


def test_attempt_gives_a_model_error_as_a_value_and_nothing_else():
    async def broken():
        await ask("x")
        raise ValueError("a bug")

    refused = ModelError("refused")
    assert replay(attempt(said("x")), [refused]) is refused
    assert replay(attempt(said("x")), ["fine"]) == "fine"
    with pytest.raises(ValueError, match="a bug"):
        replay(attempt(broken()), ["x"])


def test_sample_raises_the_first_failure():
    with pytest.raises(ModelError, match="first"):
        replay(sample("x", 3), ["a", ModelError("first"), ModelError("second")])


@pytest.mark.parametrize("batched", [True, False])
def test_calls_are_answered_in_order_and_whatever_goes_wrong_is_said(batched):
    @tool
    async def slow(text: str) -> dict[str, str]:
        """Says it back."""
        return {"text": text}

    def broken() -> None:
        """Breaks."""
        raise OSError("disk full")

    calls = [
        ToolCall("1", "add", {"a": 2, "b": "3"}),
        ToolCall("2", "slow", {"text": "é"}),
        ToolCall("3", "broken"),
        ToolCall("4", "missing"),
        ToolCall("5", "add", {"b": "x"}),
    ]
    told = run(call(calls, [add, slow, broken]), Script([], batched=batched))
    assert [message.call_id for message in told] == list("12345")
    assert {message.role for message in told} == {"tool"}
    assert [message.content for message in told[:3]] == ["5", '{"text":"é"}', "Error: OSError: disk full"]
    assert told[3].content == "Error: there is no tool missing; the tools are: add, slow, broken"
    assert "wrong arguments for add: a: Missing required argument; b: " in told[4].content


def test_an_agent_calls_tools_until_it_answers():
    async def agent(question: str) -> str:
        chat = [Message("user", question)]
        while True:
            reply = await ask(chat, tools=[add])
            chat.append(reply.message)
            if not reply.calls:
                return reply.text
            chat += await call(reply.calls, [add])

    model = Script([Reply(calls=(ToolCall("1", "add", {"a": 2, "b": 3}),)), "It is 5."])
    assert run(agent("2 + 3?"), model) == "It is 5."
    assert model.requests[1].messages[-1] == Message("tool", "5", call_id="1")


@pytest.mark.parametrize("batched", [True, False])
def test_traced_notes_every_exchange_in_the_order_of_programs(batched):
    async def program():
        await ask("first")
        await gather(gather(said("a"), said("b")), sample("c", 2))
        return "done"

    result, exchanges = run(traced(program()), Script(by_branch, batched=batched))
    assert result == "done"
    assert [request.messages[-1].content for request, _ in exchanges] == ["first", "a", "b", "c", "c"]
    assert all(reply.text == str(request.branch) for request, reply in exchanges)


def test_traced_changes_no_branch():
    async def program():
        return await gather(said("a"), traced(said("b")))

    plain, noted = Script(by_branch), Script(by_branch)
    run(gather(said("a"), said("b")), plain)
    run(traced(program()), noted)
    assert branches(noted) == branches(plain)


def test_traced_keeps_failures_and_what_was_paid_for_beside_them():
    result, exchanges = replay(traced(attempt(sample("x", 2))), [ModelError("refused"), "paid for"])
    assert isinstance(result, ModelError)
    assert [getattr(reply, "text", reply) for _, reply in exchanges] == [result, "paid for"]


def test_a_traced_program_replays_from_its_exchanges():
    async def program():
        return await gather(said("same") for _ in range(3))

    first = run(traced(program()), Script(by_branch))
    for recorded in (first.exchanges, reversed(first.exchanges), dict(reversed(first.exchanges))):
        assert replay(program(), recorded) == first.result


def test_a_miss_in_a_replay_names_the_prompt():
    with pytest.raises(ReplayMiss, match="What is 2"):
        replay(said("What is 2 + 2?"), {"What is 3 + 3?": "6"})
    with pytest.raises(ReplayMiss, match="third"):
        replay(gather(said("first"), said("second"), said("third")), ["a", "b"])


def test_a_mapping_may_hold_several_replies_and_predicates():
    model = Script({"x": ["1", "2"], lambda request: request.max_tokens == 1: "short"})
    assert run(gather(said("x"), said("x")), model) == ["1", "2"]
    assert run(ask("y", max_tokens=1), model).text == "short"
    with pytest.raises(ReplayMiss):
        run(said("x"), model)


def test_a_dropped_or_unawaited_ask_is_a_type_error(tmp_path):
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from promptlab import ask, gather\n"
        "async def dropped() -> None:\n"
        "    ask('x')\n"
        "async def unawaited() -> str:\n"
        "    return ask('x').text\n"
        "async def misspelt() -> None:\n"
        "    await ask('x', temprature=1.0)\n"
        "async def typed() -> list[str]:\n"
        "    return await gather([str_of() for _ in range(2)])\n"
        "async def str_of() -> str:\n"
        "    return (await ask('x')).text\n"
    )
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--follow-imports=silent"]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *config, str(snippet)], capture_output=True, text=True, cwd=ROOT
    )
    lines = [line.split(":", 2)[1] for line in found.stdout.splitlines() if "snippet.py" in line and " error:" in line]
    assert sorted(set(lines)) == ["3", "5", "7"], found.stdout + found.stderr
    assert "[unused-coroutine]" in found.stdout


UNTOLD = [
    ("The schema cannot be told as JSON", "q", {"schema": {"type": "object", "default": {1, 2}}}),
    ("The schema of the tool f cannot", "q", {"tools": [ToolSpec("f", "Does.", {"x": object()})]}),
    ("What f is called with cannot", [Message("assistant", "", (ToolCall("1", "f", {"x": {1}}),))], {}),
]


@pytest.mark.parametrize(("said", "prompt", "options"), UNTOLD)
def test_what_json_cannot_carry_is_refused_before_anything_is_asked(said, prompt, options):
    model = Script(["yes"])
    with pytest.raises(SetupError, match=f"^{said}.* is not JSON serializable. Make it of text"):
        run(ask(prompt, **options), model)
    assert model.requests == []
