"""The server as the providers' own SDKs see it: requests understood, and well-formed answers."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sdks import (
    CHAT,
    COMPLETIONS,
    FORMATS,
    HI,
    MESSAGES,
    RESPONSES,
    anthropic,
    anthropic_client,
    asking,
    called,
    create,
    delta_of,
    lenient,
    openai,
    openai_client,
    raw,
    text_of,
)

from promptlab.errors import Refused
from promptlab.testing import FakeServer, Script
from promptlab.types import Message, Reply, Request, Token, ToolCall, ToolSpec, Usage

ADD = ToolSpec("add", "Adds.", {"type": "object", "properties": {"x": {"type": "integer"}}})
USAGE = Usage(input_tokens=10, cached_tokens=4, output_tokens=7, reasoning_tokens=3)

# ---- where it is


def test_no_server_has_the_address_of_one_before():
    def address() -> str:
        with FakeServer() as server:
            return server.url

    addresses = [address() for _ in range(200)]  # of some 14,000 that the system chooses from: some would come twice
    assert len(set(addresses)) == 200


# ---- text


@pytest.mark.parametrize("format", FORMATS)
def test_a_reply_arrives_whole_and_streamed(format):
    with FakeServer(["hello there", "hello again"]) as server, asking(server, format, **lenient(format)) as ask:
        assert text_of(ask("one")) == "hello there"
        parts = [part for event in ask("two", stream=True) if (part := delta_of(event))]
    assert "".join(parts) == "hello again"
    assert len(parts) > 1
    assert [request.messages[-1] for request in server.backend.requests] == [Message("user", p) for p in ("one", "two")]


def test_a_request_in_chunks_is_read_whole_and_the_next_one_of_its_connection_too():
    said = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with FakeServer(["one", "two"]) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        for reply in ("one", "two"):
            parts = (said[i : i + 20] for i in range(0, len(said), 20))
            headers = {"authorization": "Bearer k", "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", parts, headers, encode_chunked=True)
            answer = connection.getresponse()
            assert (answer.status, reply in answer.read().decode()) == (200, True)
        connection.close()
        assert [each.body for each in server.received] == [json.loads(said)] * 2


@pytest.mark.parametrize("format", FORMATS)
def test_async_clients_are_answered_too(format):
    async def main(url: str) -> tuple[str, str]:
        sdk, path = (anthropic.AsyncAnthropic, "") if format == MESSAGES else (openai.AsyncOpenAI, "/v1")
        async with sdk(api_key="k", base_url=url + path, max_retries=0, **lenient(format)) as client:
            ask = create(client, format)
            whole, stream = await ask(), await ask(stream=True)
            return text_of(whole), "".join([delta_of(event) async for event in stream])

    with FakeServer(["whole", "in parts"]) as server:
        assert asyncio.run(main(server.url)) == ("whole", "in parts")


@pytest.fixture(scope="module")
def echo() -> Iterator[dict[str, Callable[..., Any]]]:
    """Every format's `create` on a server that says what it is told."""
    with (
        FakeServer(lambda request: request.messages[-1].content) as server,
        openai_client(server, _strict_response_validation=False) as one,
        anthropic_client(server) as other,
    ):
        yield {format: create(other if format == MESSAGES else one, format) for format in FORMATS}


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), format=st.sampled_from(FORMATS))
def test_no_letter_is_lost_on_the_way_there_and_back(echo, text, format):
    assert text_of(echo[format](text)) == text
    assert "".join(map(delta_of, echo[format](text, stream=True))) == text


def test_a_stream_s_events_are_those_that_the_providers_document():
    with FakeServer(["hi"] * 3) as server:
        with openai_client(server) as client:
            responses = [(event.sequence_number, event.type) for event in create(client, RESPONSES)(stream=True)]
        chat = raw(server.url, "/v1/chat/completions", {"model": "m", "messages": HI, "stream": True})
        messages = raw(server.url, "/v1/messages", {"model": "m", "messages": HI, "max_tokens": 9, "stream": True})
    text = "output_item.added content_part.added output_text.delta output_text.delta output_text.done content_part.done"
    names = f"created in_progress {text} output_item.done completed".split()
    assert responses == [(i, f"response.{name}") for i, name in enumerate(names)]
    assert chat[2].endswith("\n\ndata: [DONE]\n\n")
    assert chat[1]["content-type"] == "text/event-stream"
    assert [line[7:] for line in messages[2].splitlines() if line.startswith("event: ")] == (
        "message_start ping content_block_start content_block_delta content_block_delta content_block_stop "
        "message_delta message_stop"
    ).split()


FINISHES = [
    ("stop", ("stop", "completed", "stop", "end_turn")),
    ("length", ("length", "incomplete", "length", "max_tokens")),
]


@pytest.mark.parametrize(("finish", "expected"), FINISHES)
def test_why_a_reply_ended_is_said_in_the_provider_s_words(finish, expected):
    with (
        FakeServer(lambda _: Reply("x", finish=finish)) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        response = create(one, RESPONSES)()
        (*_, last) = create(one, RESPONSES)(stream=True)
        assert (last.type, last.response.status) == (f"response.{response.status}", response.status)
        found = (
            create(one, CHAT)().choices[0].finish_reason,
            response.status,
            create(one, COMPLETIONS)().choices[0].finish_reason,
            create(other, MESSAGES)().stop_reason,
        )
    assert found == expected
    assert (response.incomplete_details is None) == (finish == "stop")


def test_tokens_are_counted_as_each_provider_counts_them():
    with (
        FakeServer(lambda _: Reply("x", usage=USAGE)) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        chat, response = create(one, CHAT)().usage, create(one, RESPONSES)().usage
        message = create(other, MESSAGES)().usage
        with other.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            streamed = stream.get_final_message().usage
        with one.responses.stream(model="m", input="hi") as stream:
            assert stream.get_final_response().usage == response
        chunks = list(create(one, CHAT)(stream=True, stream_options={"include_usage": True}))
    assert (chat.prompt_tokens, chat.completion_tokens, chat.total_tokens) == (10, 7, 17)
    assert (chat.prompt_tokens_details.cached_tokens, chat.completion_tokens_details.reasoning_tokens) == (4, 3)
    assert (response.input_tokens, response.output_tokens, response.total_tokens) == (10, 7, 17)
    assert (response.input_tokens_details.cached_tokens, response.output_tokens_details.reasoning_tokens) == (4, 3)
    for usage in (message, streamed):
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (6, 4, 7)
    assert (chunks[-1].choices, chunks[-1].usage) == ([], chat)
    assert not any(chunk.usage for chunk in chunks[:-1])


# ---- what a request becomes


def test_a_chat_request_arrives_as_promptlab_s_own():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    chat = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1 +"}, {"type": "text", "text": "1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    function = {"name": "add", "description": "Adds.", "parameters": ADD.parameters}
    format = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}, "strict": True}}
    options = {"temperature": 0.5, "top_p": 0.9, "stop": ["a", "b"], "seed": 3, "logprobs": True, "max_tokens": 99}
    tools = [{"type": "function", "function": function}]
    with FakeServer(["x"] * 2) as server, asking(server, CHAT) as ask:
        ask(messages=chat, tools=tools, response_format=format, max_completion_tokens=5, **options)
        ask(stop="a")
    call_made = ToolCall("c1", "add", {"x": 1})
    turns = (
        Message("system", "Be brief."),
        Message("user", "1 +\n1?"),
        Message("assistant", calls=(call_made,)),
        Message("tool", "2", call_id="c1"),
    )
    full = Request(turns, (), 5, 0.5, 0.9, ("a", "b"), 3, True, (ADD,), {"type": "array"})
    assert server.backend.requests == [full, Request((Message("user", "hi"),), stop=("a",))]


def test_a_responses_request_arrives_as_promptlab_s_own():
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"x": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": '{"x": 2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Sure?"},
    ]
    tool = {"type": "function", "name": "add", "description": "Adds.", "parameters": ADD.parameters, "strict": False}
    format = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}, "strict": True}}
    options = {"max_output_tokens": 5, "temperature": 0, "include": ["message.output_text.logprobs"]}
    with FakeServer(["x"]) as server, asking(server, RESPONSES) as ask:
        ask(input=items, instructions="Be brief.", tools=[tool], text=format, **options)
    turns = (
        Message("system", "Be brief."),
        Message("user", "1 + 1?"),
        Message("assistant", "Let me see.", (ToolCall("c1", "add", {"x": 1}), ToolCall("c2", "add", {"x": 2}))),
        Message("tool", "2", call_id="c1"),
        Message("assistant", "Two."),
        Message("user", "Sure?"),
    )
    full = Request(turns, max_tokens=5, temperature=0, logprobs=True, tools=(ADD,), schema={"type": "array"})
    assert server.backend.requests == [full]


def test_a_messages_request_arrives_as_promptlab_s_own():
    chat = [
        {"role": "user", "content": "1 + 1?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "…", "signature": "s"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    tool = {"name": "add", "description": "Adds.", "input_schema": ADD.parameters}
    with FakeServer(["x"]) as server, asking(server, MESSAGES) as ask:
        ask(
            messages=chat,
            system=[{"type": "text", "text": "Be brief."}],
            tools=[tool],
            stop_sequences=["a"],
            output_config={"format": {"type": "json_schema", "schema": {"type": "array"}}},
            extra_body={"temperature": 0.5, "top_p": 0.9},
        )
    turns = (
        Message("system", "Be brief."),
        Message("user", "1 + 1?"),
        Message("assistant", "Let me see.", (ToolCall("c1", "add", {"x": 1}),)),
        Message("tool", "2", call_id="c1"),
        Message("user", "Well?"),
    )
    options = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ("a",), "schema": {"type": "array"}}
    assert server.backend.requests == [Request(turns, tools=(ADD,), **options)]


def test_typed_output_is_asked_for_and_parsed_by_the_sdks():
    class Sum(BaseModel):
        total: int

    with (
        FakeServer(['{"total": 2}'] * 3) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        chat = one.chat.completions.parse(model="m", messages=HI, response_format=Sum)
        response = one.responses.parse(model="m", input="hi", text_format=Sum)
        message = other.messages.parse(model="m", max_tokens=9, messages=HI, output_format=Sum)
    parsed = [chat.choices[0].message.parsed, response.output_parsed, message.parsed_output]
    assert parsed == [Sum(total=2)] * 3
    assert [r.schema["properties"]["total"]["type"] for r in server.backend.requests] == ["integer"] * 3


MALFORMED = [
    ("/v1/chat/completions", {}, "messages"),
    ("/v1/chat/completions", {"messages": "hi"}, "messages is a list"),
    ("/v1/chat/completions", {"messages": [{"role": "alien"}]}, "alien"),
    ("/v1/chat/completions", {"messages": HI, "max_tokens": "five"}, "max_tokens is a whole number"),
    ("/v1/chat/completions", {"messages": HI, "n": 0}, "n is at least 1"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
    ("/v1/chat/completions", {"messages": HI, "tools": [{"type": "custom"}]}, "custom"),
    ("/v1/completions", {}, "prompt"),
    ("/v1/completions", {"prompt": [1, 2]}, "prompt is a string"),
    ("/v1/responses", {"input": "hi", "previous_response_id": "r"}, "keeps no conversations"),
    ("/v1/responses", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
    ("/v1/messages", {"messages": HI}, "max_tokens: Field required"),
    ("/v1/messages", {"messages": [], "max_tokens": 9}, "at least one message"),
    ("/v1/messages", {"messages": HI, "max_tokens": 9, "thinking": {"budget_tokens": 9}}, "equal to 1024"),
    ("/v1/messages", {"messages": HI, "max_tokens": 9, "thinking": {"budget_tokens": 2000}}, "must be greater than"),
    ("/v1/messages", {"model": 7}, "model is a string"),
    ("/v1/messages", "no JSON", "not a JSON object"),
]


BARE = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = {**BARE, "required": ["a"], "additionalProperties": False}
PLACES = {  # where a schema that is to be held to stands
    "/v1/chat/completions": lambda schema: {
        "messages": HI,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}},
    },
    "/v1/responses": lambda schema: {
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}},
    },
    "/v1/messages": lambda schema: {
        "max_tokens": 9,
        "messages": HI,
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    },
}
TOOLS = {
    "/v1/chat/completions": lambda schema: {
        "messages": HI,
        "tools": [{"type": "function", "function": {"name": "t", "strict": True, "parameters": schema}}],
    },
    "/v1/responses": lambda schema: {
        "input": "hi",
        "tools": [{"type": "function", "name": "t", "strict": True, "parameters": schema}],
    },
    "/v1/messages": lambda schema: {
        "max_tokens": 9,
        "messages": HI,
        "tools": [{"name": "t", "strict": True, "input_schema": schema}],
    },
}


def inside(schema: dict[str, Any]) -> dict[str, Any]:
    return {**CLOSED, "properties": {"a": schema}, "$defs": {"A": CLOSED}}


OPENAI_REFUSES = [
    (BARE, "'additionalProperties' is required to be supplied and to be false"),
    ({**CLOSED, "required": []}, "'required' is required to be supplied"),
    (inside({"type": "array", "items": BARE}), "('properties', 'a', 'items')"),
    (inside({"$ref": "#/$defs/A", "description": "a"}), "$ref cannot have keywords {'description'}"),
    (inside({"oneOf": [CLOSED]}), "'oneOf' is not permitted"),
    (inside({"description": "anything"}), "schema must have a 'type' key"),
    ({**CLOSED, "properties": {"a": {}, "default": BARE}, "required": ["a", "default"]}, "In context="),
]
ANTHROPIC_REFUSES = [
    (BARE, "'additionalProperties' must be explicitly set to false"),
    (inside({"anyOf": [BARE]}), "'additionalProperties' must be explicitly set to false"),
    (inside({"type": "integer", "minimum": 1, "maximum": 2}), "'integer' type, properties minimum, maximum are not"),
]


@pytest.mark.parametrize("places", [PLACES, TOOLS], ids=["replies", "tools"])
@pytest.mark.parametrize("path", PLACES)
def test_a_schema_that_a_strict_mode_does_not_take_is_a_400(places, path):
    with FakeServer(lambda _: "{}") as server:
        for schema, said in ANTHROPIC_REFUSES if path == "/v1/messages" else OPENAI_REFUSES:
            status, _, text = raw(server.url, path, {"model": "m", **places[path](schema)})
            assert (status, said in json.loads(text)["error"]["message"]) == (400, True), text
        assert raw(server.url, path, {"model": "m", **places[path](inside({"$ref": "#/$defs/A"}))})[0] == 200


TEXT, THOUGHT = {"type": "text", "text": "x"}, {"type": "thinking", "thinking": "x", "signature": "s"}
MARK = {"cache_control": {"type": "ephemeral"}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "2"}
USE = {"type": "tool_use", "id": "c", "name": "add", "input": {}}


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([[]], "messages.0: all messages must have non-empty content"),
        ([""], "messages.0: all messages must have non-empty content"),
        ([[TEXT], [], [TEXT]], "messages.1: all messages must have non-empty content"),
        ([[{"type": "text", "text": ""}]], "text content blocks must be non-empty"),
        ([[{"type": "text", "text": " "}]], "text content blocks must contain non-whitespace text"),
        ([[TEXT], [THOUGHT | MARK, TEXT], [TEXT]], "thinking.cache_control: Extra inputs are not permitted"),
        ([[TEXT], [TEXT, THOUGHT], [TEXT]], "cannot be `thinking`"),
        ([[TEXT | MARK] * 5], "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        ([[RESULT]], "unexpected `tool_use_id` found in `tool_result` blocks: c"),
        ([[TEXT], [USE], [TEXT], [TEXT], [RESULT]], "messages.4.content.0: unexpected `tool_use_id`"),
        ([[TEXT], [{**USE, "input": "{}"}], [RESULT]], "input is an object"),
        ([[TEXT], [THOUGHT, USE | MARK], [RESULT | MARK], [TEXT | MARK] * 2], None),
        ([[TEXT], []], None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_turns_that_anthropic_refuses_are_a_400(path, turns, said):
    chat = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    with FakeServer(["x"]) as server:
        status, _, text = raw(server.url, path, {"model": "m", "max_tokens": 9, "messages": chat})
    assert status == (400 if said else 200), text
    assert not said or said in json.loads(text)["error"]["message"]


def test_answers_of_tools_nobody_called_are_a_400():
    chat = {"messages": [*HI, {"role": "tool", "tool_call_id": "c", "content": "2"}]}
    items = {"input": [*HI, {"type": "function_call_output", "call_id": "c", "output": "2"}]}
    with FakeServer() as server:
        one = raw(server.url, "/v1/chat/completions", {"model": "m", **chat})
        other = raw(server.url, "/v1/responses", {"model": "m", **items})
    assert one[0] == other[0] == 400
    assert "must be a response to a preceeding message with 'tool_calls'" in one[2]
    assert "No tool call found for function call output with call_id c" in other[2]


def test_reasoning_is_given_encrypted_only_where_it_was_asked_for():
    asked = {"model": "m", "input": "hi", "include": ["reasoning.encrypted_content"], "store": False}
    known = {"type": "reasoning", "id": "rs_1", "summary": []}
    with FakeServer(["x"]) as server:
        refused = raw(server.url, "/v1/responses", asked)
        told = raw(server.url, "/v1/responses", {**asked, "reasoning": {"effort": "low"}})
        lost = raw(server.url, "/v1/responses", {"model": "m", "input": [*HI, known], "store": False})
    assert (refused[0], told[0], lost[0]) == (400, 200, 404)
    assert "Encrypted content is not supported with this model." in refused[2]
    assert "Item with id 'rs_1' not found" in lost[2]


@pytest.mark.parametrize(("path", "body", "said"), MALFORMED)
def test_what_cannot_be_read_is_a_400_that_says_why(path, body, said):
    with FakeServer() as server:
        status, _, text = raw(server.url, path, {"model": "m", **body} if isinstance(body, dict) else body)
    assert status == 400
    assert said in json.loads(text)["error"]["message"]


# ---- tools


def test_calls_and_their_answers_go_round_in_chat():
    with FakeServer([called({"x": 1}, {"x": 2}), "3"] * 2) as server, openai_client(server) as client:
        whole = create(client, CHAT)().choices[0]
        follow = [
            *HI,
            whole.message,
            *({"role": "tool", "tool_call_id": c, "content": "2"} for c in ("call_1", "call_2")),
        ]
        assert text_of(create(client, CHAT)(messages=follow)) == "3"
        with client.chat.completions.stream(model="m", messages=HI) as stream:
            streamed = stream.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert [(c.id, c.function.name) for c in choice.message.tool_calls] == [("call_1", "add"), ("call_2", "add")]
        assert [json.loads(c.function.arguments) for c in choice.message.tool_calls] == [{"x": 1}, {"x": 2}]
    assert server.backend.requests[1].messages[1:] == (
        called({"x": 1}, {"x": 2}).message,
        Message("tool", "2", call_id="call_1"),
        Message("tool", "2", call_id="call_2"),
    )


def test_calls_and_their_answers_go_round_in_responses():
    with (
        FakeServer([replace(called({"x": 1}), text="Let me see."), "3"] * 2) as server,
        openai_client(server) as client,
    ):
        whole = client.responses.create(model="m", input="hi")
        output = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
        follow = [*HI, *(item.model_dump(exclude_none=True) for item in whole.output), output]
        assert create(client, RESPONSES)(input=follow).output_text == "3"
        with client.responses.stream(model="m", input="hi") as stream:
            streamed = stream.get_final_response()
    for response in (whole, streamed):
        message, call = response.output
        assert response.output_text == message.content[0].text == "Let me see."
        assert (call.call_id, call.name, json.loads(call.arguments)) == ("call_1", "add", {"x": 1})
        assert response.status == "completed"
    assert server.backend.requests[1].messages[1:] == (
        Message("assistant", "Let me see.", called({"x": 1}).calls),
        Message("tool", "2", call_id="call_1"),
    )


def test_calls_and_their_answers_go_round_in_messages():
    with (
        FakeServer([replace(called({"x": 1}), text="Let me see."), "3"] * 2) as server,
        anthropic_client(server) as client,
    ):
        whole = create(client, MESSAGES)()
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "2"}]}
        follow = [*HI, {"role": "assistant", "content": whole.content}, result]
        assert text_of(create(client, MESSAGES)(messages=follow)) == "3"
        with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        text, call = message.content
        assert (text.text, call.id, call.name, call.input) == ("Let me see.", "call_1", "add", {"x": 1})
        assert message.stop_reason == "tool_use"
    assert server.backend.requests[1].messages[1:] == (
        Message("assistant", "Let me see.", called({"x": 1}).calls),
        Message("tool", "2", call_id="call_1"),
    )


# ---- log-probabilities, several choices, legacy completions

TOKENS = (Token("he", -0.25), Token("llo", float("-inf")))


def test_log_probabilities_are_told_where_they_are_asked_for():
    with FakeServer(lambda _: Reply("hello", tokens=TOKENS)) as server, openai_client(server) as client:
        silent = create(client, CHAT)()
        chat = create(client, CHAT)(logprobs=True, top_logprobs=1).choices[0].logprobs.content
        told = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
        part = create(client, RESPONSES)(**told).output[0].content[0]
        legacy = create(client, COMPLETIONS)(logprobs=1).choices[0].logprobs
        chunks = [c.choices[0] for c in create(client, CHAT)(logprobs=True, stream=True)]
        events = [e for e in create(client, RESPONSES)(stream=True, **told) if e.type == "response.output_text.delta"]
    assert silent.choices[0].logprobs is None
    for tokens in (chat, part.logprobs):
        assert [(t.token, t.logprob) for t in tokens] == [("he", -0.25), ("llo", -9999.0)]
        assert [t.top_logprobs[0].token for t in tokens] == ["he", "llo"]
    assert (legacy.tokens, legacy.token_logprobs, legacy.text_offset) == (["he", "llo"], [-0.25, -9999.0], [0, 2])
    assert [(c.delta.content, c.logprobs.content[0].logprob) for c in chunks if c.logprobs] == [
        ("he", -0.25),
        ("llo", -9999.0),
    ]
    assert [(e.delta, e.logprobs[0].logprob) for e in events] == [("he", -0.25), ("llo", -9999.0)]


def test_n_choices_are_n_branches_of_a_prompt_that_is_read_once():
    replies = [Reply(f"{i}", usage=USAGE) for i in range(6)]
    with FakeServer(replies) as server, openai_client(server) as client:
        whole = create(client, CHAT)(n=3)
        said = ["", "", ""]
        for chunk in create(client, CHAT)(n=3, stream=True):
            said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert [(choice.index, choice.message.content) for choice in whole.choices] == [(0, "0"), (1, "1"), (2, "2")]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (10, 21)
    assert said == ["3", "4", "5"]
    assert [request.branch for request in server.backend.requests] == [(0,), (1,), (2,)] * 2


def test_several_prompts_are_completed_in_order():
    with FakeServer(lambda request: request.messages[0].content * 2) as server, asking(server, COMPLETIONS) as ask:
        done = ask(["a", "b"], n=2)
        echoed = ask("a", echo=True, max_tokens=5)
        nothing = ask("a", echo=True, max_tokens=0)
    assert [(choice.index, choice.text) for choice in done.choices] == [(0, "aa"), (1, "aa"), (2, "bb"), (3, "bb")]
    assert [echoed.choices[0].text, nothing.choices[0].text] == ["aaa", "a"]
    assert len(server.backend.requests) == 5


def reads_letters(request: Request) -> Reply:
    """A backend that reads a prompt as a continuation of nothing, a letter a token."""
    text = "".join(request.continuations) or "ok"
    tokens = tuple(Token(letter, -float(i)) for i, letter in enumerate(text))
    return Reply("" if request.continuations else text, tokens=tokens, usage=Usage(len(text)))


def test_a_prompt_s_own_log_probabilities_are_told_by_a_backend_that_spells_it():
    with (
        FakeServer(Script(reads_letters, scores=True)) as server,
        openai_client(server, _strict_response_validation=False) as client,
    ):
        ask = create(client, COMPLETIONS)
        (read,) = ask("abc", echo=True, logprobs=0, max_tokens=0).choices
        (both,) = ask("abc", echo=True, logprobs=1, max_tokens=2).choices
        streamed = [c.choices[0] for c in ask("abc", echo=True, logprobs=1, max_tokens=2, stream=True)]
    assert server.backend.requests[0] == Request((), continuations=("abc",), logprobs=True)
    assert (read.text, read.logprobs.tokens, read.finish_reason) == ("abc", ["a", "b", "c"], "length")
    assert (read.logprobs.token_logprobs, read.logprobs.text_offset) == ([None, -1.0, -2.0], [0, 1, 2])
    assert (both.text, both.logprobs.token_logprobs) == ("abcok", [None, -1.0, -2.0, 0.0, -1.0])
    offsets = [at for choice in streamed if choice.logprobs for at in choice.logprobs.text_offset]
    assert ("".join(c.text for c in streamed), offsets) == ("abcok", both.logprobs.text_offset)


@pytest.mark.parametrize("backend", [Script(["x"]), Script(["x"], scores=True), Script(scores=lambda _: [-1.0])])
def test_a_backend_that_cannot_tell_a_prompt_s_tokens_is_a_400(backend):
    with FakeServer(backend) as server, asking(server, COMPLETIONS) as ask, pytest.raises(openai.BadRequestError):
        ask(echo=True, logprobs=1, max_tokens=0)


# ---- what providers want back, and how they decline


def test_thinking_blocks_are_told_as_they_are_and_come_back_unharmed():
    thinking = {"type": "thinking", "thinking": "It greets me.", "signature": "abc="}
    hidden = {"type": "redacted_thinking", "data": "xyz="}
    reply = Reply("hi", opaque=(thinking, hidden, {"type": "text", "text": "hi"}))
    with FakeServer([reply, reply, "bye"]) as server, anthropic_client(server) as client:
        whole = create(client, MESSAGES)()
        with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            streamed = stream.get_final_message()
        create(client, MESSAGES)(messages=[*HI, {"role": "assistant", "content": streamed.content}, *HI])
        assert server.received[-1].body["messages"][1]["content"][0]["signature"] == "abc="
    for message in (whole, streamed):
        first, second, text = message.content
        assert (first.thinking, first.signature, second.data, text.text) == ("It greets me.", "abc=", "xyz=", "hi")
    assert server.backend.requests[-1].messages[1] == Message("assistant", "hi")


def test_reasoning_items_are_told_as_they_are():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz="}
    part = {"type": "output_text", "text": "hi", "annotations": []}
    message = {"type": "message", "id": "m_1", "role": "assistant", "status": "completed", "content": [part]}
    with FakeServer([Reply("hi", opaque=(reasoning, message))] * 2) as server, openai_client(server) as client:
        whole = create(client, RESPONSES)()
        with client.responses.stream(model="m", input="hi") as stream:
            streamed = stream.get_final_response()
    for response in (whole, streamed):
        assert response.output[0].encrypted_content == "xyz="
        assert response.output_text == "hi"


def test_a_model_declines_in_the_provider_s_own_way():
    with (
        FakeServer(lambda _: Refused("I will not", reply=Reply("", usage=USAGE))) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        chat, response = create(one, CHAT)(), create(one, RESPONSES)()
        legacy, message = create(one, COMPLETIONS)(), create(other, MESSAGES)()
        with one.chat.completions.stream(model="m", messages=HI) as stream:
            chat_streamed = stream.get_final_completion()
        with one.responses.stream(model="m", input="hi") as stream:
            events = list(stream)
            response_streamed = stream.get_final_response()
        with other.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            message_streamed = stream.get_final_message()
    for answer in (chat, chat_streamed):
        assert (answer.choices[0].message.refusal, answer.choices[0].message.content) == ("I will not", None)
    for answer in (response, response_streamed):
        assert [part.refusal for item in answer.output for part in item.content] == ["I will not"]
    assert "".join(event.delta for event in events if event.type == "response.refusal.delta") == "I will not"
    assert legacy.choices[0].finish_reason == "content_filter"
    assert (message.stop_reason, message_streamed.stop_reason, message.content) == ("refusal", "refusal", [])
    assert chat.usage.completion_tokens == message.usage.output_tokens == 7


def test_arguments_that_are_no_json_go_there_and_back_as_they_were_written():
    broken = Reply(calls=(ToolCall("call_1", "add", unread='{"x": 1'),))
    with FakeServer([broken, "sorry"]) as server, openai_client(server) as client:
        message = create(client, CHAT)().choices[0].message
        assert message.tool_calls[0].function.arguments == '{"x": 1'
        create(client, CHAT)(messages=[*HI, message, {"role": "tool", "tool_call_id": "call_1", "content": "Error"}])
    assert server.backend.requests[1].messages[1] == broken.message
