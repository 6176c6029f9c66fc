"""What only some backends are told: thinking, effort, reasoning, caches; and thoughts that have to go back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from promptlab import Message, Reply, Request, Usage, ask, call, model, run, tool
from promptlab.testing import FakeServer
from promptlab.types import ToolCall

KEY = "sk-planted-0123456789"
HI = Request((Message("user", "hi"),))
streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

THOUGHT = {"type": "thinking", "thinking": "It wants a sum.", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "eHl6"}
REASONED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eHl6"}


@tool
def add(x: int, y: int) -> int:
    """Adds two numbers."""
    return x + y


async def summed() -> str:
    chat = [Message("user", "2 + 3?")]
    wish = await ask(chat, tools=[add])
    chat += [wish.message, *await call(wish.calls, [add])]
    return (await ask(chat, tools=[add])).text


def sent(server: FakeServer) -> dict[str, Any]:
    return server.received[-1].body


# ---- thoughts go back as they came


@streamed_or_not
@pytest.mark.parametrize("input", [{"x": 2, "y": 3}, {}], ids=["arguments", "none"])
def test_signed_thoughts_go_back_with_the_call_that_they_led_to(stream: bool, input: dict[str, int]):
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": input}
    wish = Reply(calls=(ToolCall("toolu_1", "add", input),), opaque=(THOUGHT, HIDDEN, use))
    with FakeServer([wish, "5"]) as server:
        assert run(summed(), model(f"anthropic:m@{server.url}", key=KEY, stream=stream, thinking=2000)) == "5"
        turn = sent(server)["messages"][1]
    content = [{k: v for k, v in block.items() if k != "cache_control"} for block in turn["content"]]
    assert (turn["role"], content) == ("assistant", [THOUGHT, HIDDEN, use])


@streamed_or_not
def test_arguments_that_are_no_json_stay_unread_and_go_back_as_none(stream: bool):
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": "{x: 2"}
    with FakeServer([Reply(opaque=(THOUGHT, use), finish="calls"), "sorry"]) as server:
        server_url = f"anthropic:m@{server.url}"
        backend = model(server_url, key=KEY, stream=stream)
        [reply] = backend.generate([HI])
        told = Message("tool", "That is no JSON.", call_id="toolu_1")
        [second] = backend.generate([Request((*HI.messages, reply.message, told))])
        block = sent(server)["messages"][1]["content"][-1]
    assert "{x: 2" in reply.calls[0].unread
    assert (dict(reply.calls[0].arguments), block["input"], second.text) == ({}, {}, "sorry")


BROKEN = '{"x": 2, "y"'
BROKEN_ITEM = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": BROKEN}


@streamed_or_not
@pytest.mark.parametrize(
    ("api", "wish"),
    [
        ("chat", Reply(calls=(ToolCall("call_1", "add", unread=BROKEN),))),
        ("responses", Reply(calls=(ToolCall("call_1", "add", unread=BROKEN),))),
        ("responses", Reply(opaque=(REASONED, BROKEN_ITEM))),
    ],
    ids=["chat", "responses", "with reasoning"],
)
def test_an_agent_goes_on_after_arguments_that_are_no_json(api: str, wish: Reply, stream: bool):
    """Servers that read the arguments in a chat's history (llama.cpp's, vLLM's) refuse it where they are none."""
    with FakeServer([wish, "sorry"]) as server:
        assert run(summed(), model(f"openai:m@{server.url}", api=api, key=KEY, stream=stream)) == "sorry"
        told = server.backend.requests[-1].messages
        items = sent(server)["messages" if api == "chat" else "input"]
    assert told[-1].content == f"Error: the arguments of add are not a JSON object: {BROKEN}"
    made = [call for item in items for call in item.get("tool_calls", [])]
    written = [call["function"] for call in made] + [item for item in items if item.get("type") == "function_call"]
    assert [json.loads(function["arguments"]) for function in written] == [{}]


@streamed_or_not
def test_encrypted_reasoning_goes_back_with_the_call_that_it_led_to(stream: bool):
    arguments = '{"x": 2, "y": 3}'
    made = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": arguments}
    with FakeServer([Reply(opaque=(REASONED, made)), "5"]) as server:
        spec = f"openai:m@{server.url}"
        assert run(summed(), model(spec, api="responses", key=KEY, stream=stream, reasoning="low")) == "5"
        assert sent(server)["input"][1:3] == [REASONED, made]
        assert sent(server)["include"] == ["reasoning.encrypted_content"]


@streamed_or_not
def test_reasoning_that_came_without_its_content_is_not_sent_back(stream: bool):
    """It would be looked for by its id, and nothing is stored."""
    known_by_id = {name: value for name, value in REASONED.items() if name != "encrypted_content"}
    made = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": '{"x": 2, "y": 3}'}
    with FakeServer([Reply(opaque=(known_by_id, made)), "5"]) as server:
        assert run(summed(), model(f"openai:m@{server.url}", api="responses", key=KEY, stream=stream)) == "5"
        assert [item.get("type") for item in sent(server)["input"]] == [None, "function_call", "function_call_output"]
        assert "id" not in sent(server)["input"][1]


@pytest.mark.parametrize("said", [(), ({"type": "text", "text": "Well,"},)])
def test_thoughts_that_nothing_came_of_do_not_go_back(said: tuple[dict[str, str], ...]):
    with FakeServer([Reply(opaque=(*said, THOUGHT), finish="length"), "hi"]) as server:
        backend = model(f"anthropic:m@{server.url}", key=KEY)
        [cut] = backend.generate([HI])
        [reply] = backend.generate([Request((*HI.messages, cut.message, Message("user", "go on")))])
    assert reply.text == "hi"


# ---- turns with nothing in them


@pytest.mark.parametrize("empty", ["", " \n"])
def test_turns_with_nothing_in_them_are_left_out(empty: str):
    chat = (Message("user", "hi"), Message("assistant", empty), Message("user", "again"))
    with FakeServer(["yes"]) as server:
        [reply] = model(f"anthropic:m@{server.url}", key=KEY).generate([Request(chat)])
        [turn] = sent(server)["messages"]
    assert reply.text == "yes"
    assert [block["text"] for block in turn["content"]] == ["hi", "again"]


# ---- the cache


def marked(body: dict[str, Any]) -> list[str]:
    """What the blocks that are marked say."""
    system = body.get("system", [])
    blocks = [*system, *(block for turn in body["messages"] for block in turn["content"])]
    return [block.get("text") or block["type"] for block in blocks if "cache_control" in block]


SYSTEM, Q1, Q2 = Message("system", "be brief"), Message("user", "one"), Message("user", "two")


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        ((Q1,), []),
        ((SYSTEM, Q1), ["be brief"]),
        ((SYSTEM, Q1, Message("assistant", "1"), Q2), ["1"]),
        ((SYSTEM, Q1, Message("assistant", ""), Q2), ["one"]),
        ((SYSTEM, Message("assistant", ""), Q2), ["be brief"]),
        ((Q1, Message("assistant", "1", opaque=({"type": "text", "text": "1"}, THOUGHT, HIDDEN)), Q2), ["1"]),
    ],
)
def test_what_comes_before_the_question_is_marked_for_the_cache(chat: tuple[Message, ...], expected: list[str]):
    with FakeServer(["x", "x"]) as server:
        for caches in (True, False):
            [reply] = model(f"anthropic:m@{server.url}", key=KEY, caches=caches).generate([Request(chat)])
            assert isinstance(reply, Reply), reply
            assert marked(sent(server)) == (expected if caches else [])


def test_thoughts_are_never_marked():
    use = {"type": "tool_use", "id": "t", "name": "add", "input": {}}
    turns = (Message("assistant", opaque=(THOUGHT, {"type": "text", "text": ""}, use)), Message("tool", "5", (), "t"))
    with FakeServer(["x"]) as server:
        [reply] = model(f"anthropic:m@{server.url}", key=KEY).generate([Request((Q1, *turns, Q2))])
        assert marked(sent(server)) == ["tool_result"]
    assert reply.text == "x"


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_is_told_by_a_key_which_questions_begin_alike(api: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rules, others = (Message("system", f"{word} " * 1000) for word in ("rules", "others"))
    short = Message("system", "Be brief.")
    with FakeServer(lambda request: "yes") as server:
        monkeypatch.setattr("promptlab.backends.openai.OpenAI.home", f"{server.url}/v1")
        for name in ("openai:m", f"openai:m@{server.url.replace('127.0.0.1', 'localhost')}"):  # at home, and elsewhere
            for chat in ([rules], [rules], [others], [short], []):
                run(ask([*chat, Message("user", f"question {len(server.received)}")]), model(name, api=api, key=KEY))
            run(ask(rules.content), model(name, api=api, key=KEY))  # nothing that is asked begins as another does
        keys = [received.body.get("prompt_cache_key") for received in server.received]
    assert keys[0] == keys[1] != keys[2]
    assert all(isinstance(key, str) and 0 < len(key) <= 64 for key in keys[:3])
    assert keys[3:] == [None] * 9


def test_what_was_read_from_the_cache_and_written_there_is_counted():
    told = Usage(input_tokens=50, cached_tokens=30, cache_write_tokens=15, output_tokens=2)
    with FakeServer([Reply("x", usage=told)] * 2) as server:
        for stream in (False, True):
            [reply] = model(f"anthropic:m@{server.url}", key=KEY, stream=stream).generate([HI])
            assert reply.usage == told


# ---- options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"max_tokens": 100}),
        ({"thinking": 2000}, {"max_tokens": 2100, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ({"thinking": "adaptive"}, {"max_tokens": 100, "thinking": {"type": "adaptive"}}),
        ({"effort": "high"}, {"max_tokens": 100, "output_config": {"effort": "high"}}),
        ({"extra": {"temperature": 0.5, "max_tokens": 7}}, {"max_tokens": 7, "temperature": 0.5}),
    ],
)
def test_anthropics_own_options_arrive(options: dict[str, Any], expected: dict[str, Any]):
    with FakeServer(["x"]) as server:
        [reply] = model(f"anthropic:m@{server.url}", key=KEY, **options).generate(
            [Request(HI.messages, max_tokens=100)]
        )
        body = sent(server)
    assert reply.text == "x"
    names = {"max_tokens", "thinking", "output_config", "temperature"}
    assert {name: value for name, value in body.items() if name in names} == expected


def test_effort_and_a_schema_are_told_together():
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    with FakeServer(["{}"]) as server:
        backend = model(f"anthropic:m@{server.url}", key=KEY, effort="low")
        backend.generate([Request(HI.messages, schema=schema)])
        assert sent(server)["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


def test_a_chat_is_counted_by_the_provider():
    chat = [SYSTEM, Q1, Message("assistant", "a b c"), Q2]
    with FakeServer() as server:
        assert model(f"anthropic:m@{server.url}", key=KEY).count_tokens(chat) == 7
        assert server.received[-1].path == "/v1/messages/count_tokens"
        assert sent(server).keys() == {"model", "messages", "system"}


@streamed_or_not
def test_openais_own_options_arrive(stream: bool):
    with FakeServer(["x"] * 4) as server:
        for api in ("chat", "responses"):
            options: dict[str, Any] = {"api": api, "stream": stream, "key": KEY}
            [reply] = model(f"openai:m@{server.url}", **options, reasoning="low", extra={"top_k": 5}).generate([HI])
            body = sent(server)
            assert reply.text == "x"
            assert body["top_k"] == 5
            assert body.get("reasoning_effort", body.get("reasoning")) == (
                "low" if api == "chat" else {"effort": "low"}
            )
            model(f"openai:m@{server.url}", **options).generate([HI])
            assert not {"reasoning", "reasoning_effort", "include", "top_k"} & sent(server).keys()


@streamed_or_not
def test_log_probabilities_and_reasoning_are_included_together(stream: bool):
    with FakeServer(["x"]) as server:
        backend = model(f"openai:m@{server.url}", api="responses", key=KEY, stream=stream, reasoning="low")
        backend.generate([Request(HI.messages, logprobs=True)])
        assert set(sent(server)["include"]) == {"reasoning.encrypted_content", "message.output_text.logprobs"}
