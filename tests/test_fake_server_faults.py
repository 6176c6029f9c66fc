"""The server as the providers' own SDKs see it: what goes wrong, who is let in, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sdks import (
    CHAT,
    COMPLETIONS,
    FORMATS,
    HI,
    MESSAGES,
    RESPONSES,
    SDKS,
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

from promptlab.errors import ContextOverflow, ModelError, SetupError, Unauthorized, Unavailable, Unsupported
from promptlab.testing import FakeServer, Fault, Script, no_network
from promptlab.types import Message, Reply, Request

# ---- what a backend cannot answer


ERRORS = [
    (ModelError("out of luck"), 500, "out of luck"),
    (ContextOverflow("9 tokens of 8"), 400, "9 tokens of 8"),
    (Unavailable("come back later"), 503, "come back later"),
    (Unsupported("no tools here"), 400, "no tools here"),
    (Unauthorized("no key"), 401, "no key"),
    (RuntimeError("a slip"), 500, "RuntimeError: a slip"),
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("error", "status", "said"), ERRORS)
def test_a_backend_s_error_is_told_in_the_provider_s_form(format, error, status, said):
    def fail(request: Request) -> Any:
        if isinstance(error, ModelError):
            return error
        raise error

    sdk = anthropic if format == MESSAGES else openai
    with FakeServer(fail) as server, asking(server, format) as ask:
        for stream in (False, True):
            with pytest.raises(sdk.APIStatusError, match=said) as caught:
                ask(stream=stream)
            assert caught.value.status_code == status
    if isinstance(error, ContextOverflow):
        if sdk is openai:
            assert caught.value.code == "context_length_exceeded"
        else:
            assert "prompt is too long" in str(caught.value)


@pytest.mark.parametrize(("after", "header"), [(1.5, "1.5"), (None, None)])
def test_when_to_come_back_is_said_where_a_backend_knows(after, header):
    with FakeServer([Unavailable("later", retry_after_s=after)]) as server:
        status, headers, _ = raw(server.url, "/v1/chat/completions", {"model": "m", "messages": HI})
    assert (status, headers.get("retry-after")) == (503, header)


def test_nothing_written_for_a_prompt_is_told_once_and_not_tried_again():
    with FakeServer([]) as server, asking(server, CHAT, max_retries=3) as ask:
        with pytest.raises(openai.InternalServerError, match=r"ReplayMiss.*'hi'"):
            ask()
        assert len(server.received) == 1
    never = pytest.raises(openai.InternalServerError, match="ReplayMiss")
    with FakeServer(Script([], scores=True)) as server, asking(server, COMPLETIONS) as ask, never:
        ask(echo=True, logprobs=1, max_tokens=0)


def test_one_failed_choice_of_several_fails_the_request():
    failed = pytest.raises(openai.InternalServerError, match="out of luck")
    with FakeServer(["a", ModelError("out of luck")]) as server, asking(server, CHAT) as ask, failed:
        ask(n=2)


# ---- faults


STATUSES = [
    (400, "BadRequestError", "invalid_request_error"),
    (401, "AuthenticationError", "invalid_request_error authentication_error"),
    (404, "NotFoundError", "invalid_request_error not_found_error"),
    (429, "RateLimitError", "rate_limit_error"),
    (500, "InternalServerError", "server_error api_error"),
    (503, "InternalServerError", "server_error api_error"),
    (529, "InternalServerError", "server_error overloaded_error"),
]


@pytest.mark.parametrize("provider", SDKS)
@pytest.mark.parametrize(("code", "error", "kinds"), STATUSES)
def test_a_status_is_the_sdk_s_own_error(provider, code, error, kinds):
    sdk, format = SDKS[provider][0], CHAT if provider == "openai" else MESSAGES
    with FakeServer(["unused"], faults=[Fault.status(code, message="told so")]) as server:
        with asking(server, format) as ask, pytest.raises(getattr(sdk, error), match="told so") as caught:
            ask()
        assert caught.value.status_code == code
        assert caught.value.type == kinds.split()[0 if provider == "openai" else -1]
        assert caught.value.request_id == "req_1"
        assert server.backend.requests == []


def test_the_kind_of_an_error_can_be_chosen():
    fault = Fault.status(429, kind="insufficient_quota", message="pay first")
    poor = pytest.raises(openai.RateLimitError, match="pay first")
    with FakeServer(faults=[fault]) as server, asking(server, CHAT) as ask, poor as caught:
        ask()
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")


@pytest.mark.parametrize("format", [CHAT, RESPONSES, MESSAGES])
def test_a_prompt_too_long_and_a_wrong_key_are_told_as_each_provider_tells_them(format):
    sdk = anthropic if format == MESSAGES else openai
    with FakeServer(faults=[Fault.context_length(), Fault.unauthorized()]) as server, asking(server, format) as ask:
        with pytest.raises(sdk.BadRequestError, match="prompt is too long") as caught:
            ask()
        with pytest.raises(sdk.AuthenticationError):
            ask()
    assert caught.value.type == "invalid_request_error"
    if sdk is openai:
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("format", [CHAT, MESSAGES])
def test_the_sdks_try_again_when_told_to_and_faults_go_wrong_in_order(format):
    faults = [Fault.status(429, retry_after="0.01"), None, Fault.drop()]
    with (
        FakeServer(["first", "second", "third"], faults=faults) as server,
        asking(server, format, max_retries=1) as ask,
    ):
        assert [text_of(ask()) for _ in range(3)] == ["first", "second", "third"]
        retries = [request.headers["x-stainless-retry-count"] for request in server.received]
    assert retries == ["0", "1", "0", "1", "0"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_dropped_connection_is_a_connection_error(format):
    sdk = anthropic if format == MESSAGES else openai
    with FakeServer(["later"], faults=[Fault.drop()]) as server, asking(server, format) as ask:
        with pytest.raises(sdk.APIConnectionError):
            ask()
        assert text_of(ask()) == "later"


@pytest.mark.parametrize("format", FORMATS)
def test_pages_and_empty_objects_are_not_what_a_strict_sdk_expects(format):
    sdk = anthropic if format == MESSAGES else openai
    with FakeServer(["later"], faults=[Fault.html(), Fault.empty()] * 2) as server:
        with asking(server, format) as ask:
            for _ in range(2):
                with pytest.raises(sdk.APIResponseValidationError):
                    ask()
        with asking(server, format, _strict_response_validation=False) as ask:
            assert "<html>" in ask()
            assert ask().id is None
            assert text_of(ask()) == "later"


def test_a_slow_answer_comes_late_or_is_a_timeout_that_uses_up_no_reply():
    with FakeServer(["a", "b"], faults=[Fault.slow(0.05), Fault.slow(30)]) as server, asking(server, CHAT) as ask:
        began = time.monotonic()
        assert text_of(ask()) == "a"
        assert time.monotonic() - began >= 0.05
        with pytest.raises(openai.APITimeoutError):
            ask(timeout=0.1)
        assert text_of(ask()) == "b"


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_that_is_cut_ends_in_silence(format):
    with FakeServer(["a long reply"] * 2, faults=[Fault.cut_stream(2)]) as server:
        client = asking(server, format, **lenient(format))
        with client as ask:
            cut, whole = list(ask(stream=True)), list(ask(stream=True))
    assert len(cut) == (1 if format == MESSAGES else 2)  # that SDK keeps the ping to itself
    assert [type(event) for event in cut] == [type(event) for event in whole[: len(cut)]]
    assert "".join(map(delta_of, whole)) == "a long reply" != "".join(map(delta_of, cut))


def test_an_error_in_a_stream_comes_after_what_was_said():
    with (
        FakeServer(["a long reply"] * 3, faults=[Fault.error_in_stream(2)] * 3) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        chat = create(one, CHAT)(stream=True)
        assert [delta_of(next(chat)) for _ in range(2)] == ["", "a lo"]
        with pytest.raises(openai.APIError, match="told to fail"):
            next(chat)
        events = list(create(one, RESPONSES)(stream=True))
        assert [event.type for event in events] == ["response.created", "response.in_progress", "error"]
        message = create(other, MESSAGES)(stream=True)
        assert next(message).type == "message_start"
        with pytest.raises(anthropic.APIStatusError) as caught:
            next(message)
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")


def test_n_can_be_ignored():
    with FakeServer(["a"], faults=[Fault.ignore_n()]) as server, asking(server, CHAT) as ask:
        assert text_of(ask(n=3)) == "a"


def test_streamed_arguments_can_come_letter_by_letter():
    arguments = {"x": 12345, "y": 'a "quoted" word and an ü'}
    with (
        FakeServer(lambda _: called(arguments), faults=[Fault.split_arguments()] * 3) as server,
        openai_client(server) as one,
        anthropic_client(server) as other,
    ):
        deltas = [chunk.choices[0].delta for chunk in create(one, CHAT)(stream=True)]
        chat = [delta.tool_calls[0].function.arguments for delta in deltas if delta.tool_calls][1:]
        kind = "response.function_call_arguments.delta"
        response = [event.delta for event in create(one, RESPONSES)(stream=True) if event.type == kind]
        events = [e for e in create(other, MESSAGES)(stream=True) if e.type == "content_block_delta"]
    for cut in (chat, response, [event.delta.partial_json for event in events]):
        assert {len(piece) for piece in cut} == {1, 2, 3}
        assert json.loads("".join(cut)) == arguments


def test_ids_of_calls_can_be_the_same_or_missing():
    both = called({"x": 1}, {"x": 2})
    faults = [Fault.duplicate_ids(), Fault.missing_ids(), Fault.duplicate_ids(), Fault.missing_ids()]
    with (
        FakeServer(lambda _: both, faults=faults) as server,
        openai_client(server, _strict_response_validation=False) as one,
        anthropic_client(server, _strict_response_validation=False) as other,
    ):
        chat = [[c.id for c in create(one, CHAT)().choices[0].message.tool_calls] for _ in range(2)]
        messages = [[block.id for block in create(other, MESSAGES)().content] for _ in range(2)]
    assert chat == messages == [["call_0", "call_0"], [None, None]]


@pytest.mark.parametrize("stream", [False, True])
def test_why_a_reply_ended_can_be_left_unsaid(stream):
    with FakeServer(["x"] * 3, faults=[Fault.no_finish()] * 3) as server:
        told = {
            path: raw(server.url, path, {"model": "m", "max_tokens": 9, "stream": stream, **body})[2]
            for path, body in {
                "/v1/chat/completions": {"messages": HI},
                "/v1/responses": {"input": "hi"},
                "/v1/messages": {"messages": HI},
            }.items()
        }
    for path, name in zip(told, ("finish_reason", "status", "stop_reason"), strict=True):
        assert f'"{name}": null' in told[path]
    assert '"stop"' not in told["/v1/chat/completions"]
    assert "end_turn" not in told["/v1/messages"]


# ---- the server


def test_what_was_sent_is_kept_and_keys_are_not_printed():
    with FakeServer(["x"] * 2) as server:
        with asking(server, CHAT) as ask:
            ask("one", extra_headers={"X-Extra": "yes"})
        with asking(server, MESSAGES) as ask:
            ask("two")
        one, two = server.received
    assert (one.path, two.path) == ("/v1/chat/completions", "/v1/messages")
    assert one.body == {"model": "m", "messages": [{"role": "user", "content": "one"}]}
    assert (one.headers["x-extra"], one.headers["authorization"]) == ("yes", "Bearer secret-key")
    assert two.body["max_tokens"] == 9
    assert "secret-key" not in repr([one, two])


def test_many_clients_are_answered_at_once_each_its_own():
    def shout(request: Request) -> str:
        return request.messages[-1].content.upper()

    with FakeServer(shout) as server, openai_client(server) as client, ThreadPoolExecutor(16) as pool:
        prompts = [f"question {i}" for i in range(64)]
        answers = list(pool.map(lambda prompt: text_of(create(client, CHAT)(prompt)), prompts))
        assert answers == [prompt.upper() for prompt in prompts]
        assert sorted(r.body["messages"][0]["content"] for r in server.received) == sorted(prompts)


class Meeting:
    """A backend that answers once as many requests as given are with it at the same time."""

    def __init__(self, parties: int, batched: bool) -> None:
        self.batched, self.barrier = batched, threading.Barrier(parties)

    def generate(self, requests):
        self.barrier.wait(timeout=0.3)
        return [Reply("met")] * len(requests)


def test_a_hosted_backend_is_asked_concurrently_and_an_engine_is_not():
    for batched in (False, True):
        server = FakeServer(Meeting(2, batched))
        with server, openai_client(server) as client, ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(create(client, CHAT)) for _ in range(2)]
        errors = [future.exception() for future in futures]
        if batched:
            assert all(isinstance(error, openai.InternalServerError) for error in errors)
        else:
            assert errors == [None, None]


def test_the_server_closes_promptly_whoever_still_waits():
    with ThreadPoolExecutor(1) as pool:
        with FakeServer(["x"], faults=[None, Fault.slow(60)]) as server:
            url, client = server.url, openai_client(server)
            create(client, CHAT)()  # this connection stays open, idle
            waiting = pool.submit(create(client, CHAT))
            while len(server.received) < 2 and not waiting.done():
                time.sleep(0.005)
            began = time.monotonic()
        assert time.monotonic() - began < 1
        assert isinstance(waiting.exception(timeout=1), openai.APIConnectionError)
        client.close()
    with pytest.raises(ConnectionRefusedError):
        raw(url, "/v1/models", {}, "GET")


def test_there_is_an_address_only_while_the_server_runs():
    server = FakeServer()
    with pytest.raises(SetupError, match="with FakeServer"):
        server.url  # noqa: B018
    with server, pytest.raises(SetupError, match="runs already"):
        server.__enter__()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/models"])
def test_without_a_key_nobody_is_let_in(path):
    with FakeServer(["x"]) as server:
        for key in ("", "Bearer ", "Bearer", "Basic abc"):
            status, _, text = raw(server.url, path, {}, "GET" if path == "/v1/models" else "POST", Authorization=key)
            assert status == 401
            assert json.loads(text).get("type") == ("error" if path == "/v1/messages" else None)
        body = {"model": "m", "messages": HI, "max_tokens": 9}
        assert raw(server.url, "/v1/messages", body, Authorization="", **{"x-api-key": "k"})[0] == 200


def test_an_unknown_path_or_model_is_a_404_and_known_models_are_listed():
    with FakeServer(["x"], models=("a", "b")) as server:
        assert raw(server.url, "/v1/embeddings", {})[0] == 404
        assert "GET /v1/messages" in raw(server.url, "/v1/messages", "", "GET")[2]
        with openai_client(server) as client:
            assert [model.id for model in client.models.list()] == ["a", "b"]
            with pytest.raises(openai.NotFoundError, match="'c'") as caught:
                create(client, CHAT)(model="c")
            assert caught.value.code == "model_not_found"
            assert text_of(create(client, CHAT)(model="a")) == "x"
        with anthropic_client(server) as client:
            assert [model.id for model in client.models.list()] == ["a", "b"]
            with pytest.raises(anthropic.NotFoundError, match="'c'"):
                create(client, MESSAGES)(model="c")


def test_tokens_are_counted_in_words_where_a_backend_counts_none():
    with FakeServer() as server, anthropic_client(server) as client:
        assert client.messages.count_tokens(model="m", system="Be brief.", messages=HI).input_tokens == 3


def test_only_this_machine_is_reached():
    with no_network(loopback=True), FakeServer(["x"]) as server, asking(server, CHAT) as ask:
        assert text_of(ask()) == "x"


def test_the_bundled_model_answers_on_the_wire():
    pytest.importorskip("torch")
    from promptlab.backends import model

    tiny: Any = model("tiny")
    (expected,) = tiny.generate([Request((Message("user", "hi"),), max_tokens=4, logprobs=True)])
    with FakeServer(tiny) as server, openai_client(server) as one, anthropic_client(server) as other:
        answer = create(one, CHAT)(max_tokens=4, logprobs=True, n=2)
        counted = other.messages.count_tokens(model="m", messages=HI).input_tokens
        with pytest.raises(openai.BadRequestError, match="tools"):
            create(one, CHAT)(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
        with pytest.raises(openai.BadRequestError) as caught:
            create(one, CHAT)("word " * 5000)
    assert [choice.message.content for choice in answer.choices] == [expected.text] * 2
    assert [t.token for t in answer.choices[0].logprobs.content] == [t.text for t in expected.tokens]
    assert answer.usage.prompt_tokens == counted == tiny.count_tokens([Message("user", "hi")])
    assert caught.value.code == "context_length_exceeded"
