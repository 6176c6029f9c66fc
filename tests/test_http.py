"""What goes over the wire to hosted models: events however they are cut, redirects, proxies, connections, headers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptlab import Message, ModelError, Reply, Request, Usage, ask, gather, run
from promptlab.backends import BACKENDS, load_attribute, needs
from promptlab.backends.http import named, proxy_for
from promptlab.errors import ContextOverflow, Malformed, Refused, SetupError, Unavailable
from promptlab.testing import FakeServer, Fault

HI = Request((Message("user", "hi"),))
KEY = "sk-planted-0123456789"
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}


def model(spec: str, **options: Any) -> Any:
    """The backend itself, without those that `promptlab.model` puts around it."""
    kind, _, name = spec.partition(":")
    return load_attribute(BACKENDS[kind])(name, **options)


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# ---- server-sent events


def read(content: bytes, cuts: list[int] | None = None) -> list[tuple[str, str]]:
    """The events in some bytes that arrive in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        at = [0, *sorted(cuts or []), len(content)]
        for start, end in pairwise(at):
            yield content[start:end]

    async def all_events() -> list[tuple[str, str]]:
        return [event async for event in named(pieces())]

    return asyncio.run(all_events())


@pytest.mark.parametrize(
    ("content", "events"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data:a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [("error", "a"), ("", "b")]),
        (b"data: a\nevent: late\n\n", [("late", "a")]),
        (b"data: a\ndata: b\n\n", [("", "a\nb")]),
        (b": comment\n\n: another\ndata: a\n\n", [("", "a")]),
        (b"id: 7\nretry: 10\ndata: a\n\n", [("", "a")]),
        (b"event: ping\n\ndata: a\n\n", [("", "a")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", "a"), ("", "b")]),
        (b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"data: a", [("", "a")]),
        (b"data: a\n\ndata: b\n", [("", "a"), ("", "b")]),
        (b"data:  two spaces\n\n", [("", " two spaces")]),
        ("data: a\u2028b\u0085c\x0cd\n\n".encode(), [("", "a\u2028b\u0085c\x0cd")]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_events_are_read_as_the_standard_says(content: bytes, events: list[tuple[str, str]]):
    assert read(content) == events
    assert read(content, list(range(len(content)))) == events


texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)


@given(
    st.lists(st.tuples(st.sampled_from(["", "error", "ping"]), texts)), st.sampled_from(["\n", "\r\n", "\r"]), st.data()
)
def test_events_are_the_same_however_their_bytes_are_cut(events, end, data):
    lines = [f"event: {name}{end}data: {text}{end}{end}" for name, text in events]
    content = "".join(lines).encode()
    cuts = data.draw(st.lists(st.integers(0, len(content))))
    assert read(content, cuts) == events


# ---- a server that answers as it is told


class Told(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, dict(self.headers.items()), sent, self.client_address[1]))
        self.server.answer(self)

    def page(self, status: int, content: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *said: Any) -> None:
        """Nobody reads it."""


@contextmanager
def answering(answer: Callable[[Told], None]) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    server.daemon_threads, server.answer, server.received = True, answer, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply_of(answer: Callable[..., None], *given: Any, **options: Any) -> Reply | ModelError:
    with answering(lambda at: answer(at, *given)) as server:
        [reply] = model(f"openai:m@{server.url}", key=KEY, **options).generate([HI])
    return reply


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(text: str, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}


def test_a_stream_may_hold_comments_lines_of_two_bytes_and_json_over_several():
    written = json.dumps(chunk("héllo", finish_reason="stop"), ensure_ascii=False, indent=1).encode()
    lines = b"".join(b"data: " + line + b"\r\n" for line in written.split(b"\n"))
    content = b": OPENROUTER PROCESSING\r\n\r\nevent: message\r\n" + lines + b"\r\ndata: [DONE]\r\n\r\n"
    reply = reply_of(lambda at: at.page(200, content, "text/event-stream"), stream=True)
    assert isinstance(reply, Reply), reply
    assert reply.text == "héllo"


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_what_is_no_stream_is_malformed(kind: str):
    content = b"<html>log in</html>" if kind == "text/html" else json.dumps(ANSWER).encode()
    failed = reply_of(lambda at: at.page(200, content, kind), stream=True)
    assert isinstance(failed, Malformed)
    assert content[:10].decode() in str(failed)


@pytest.mark.parametrize("content", [b'data: {"choices": [{"ind', b"data: what\n\n", b"data: [1]\n\n", b"data: 3\n\n"])
def test_an_event_that_is_no_object_is_malformed(content: bytes):
    assert isinstance(reply_of(lambda at: at.page(200, content, "text/event-stream"), stream=True), Malformed)


@both
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "overloaded", "type": "overloaded_error"}, Unavailable),
        ({"message": "busy", "code": 503}, Unavailable),
        ({"message": "too many", "code": 429}, Unavailable),
        ("just words", Unavailable),
        ({"message": "maximum context length is 9", "code": 400}, ContextOverflow),
        ({"message": "no such voice", "type": "invalid_request_error"}, ModelError),
        ({"message": "no such voice", "type": "BadRequestError", "code": 400}, ModelError),
        ({"message": "no", "code": "content_filter"}, Refused),
    ],
)
def test_an_error_in_place_of_a_reply_or_in_a_stream_is_of_its_kind(error: Any, kind: type, stream: bool):
    """A server that has begun to answer has told its status, 200, already."""
    content = sse(chunk("so"), {"error": error}) if stream else json.dumps({"error": error}).encode()
    written = "text/event-stream" if stream else "application/json"
    failed = reply_of(lambda at: at.page(200, content, written, **{"retry-after": "7"}), stream=stream)
    assert type(failed) is kind
    if isinstance(failed, Unavailable):
        assert failed.retry_after_s == (None if stream else 7.0)


@both
@pytest.mark.parametrize("odd", [{"choices": ["x"]}, {"choices": [{"index": 0, "message": []}]}, {"choices": 3}])
def test_an_answer_of_another_shape_is_malformed_and_ends_no_run(odd: Any, stream: bool):
    content = sse(odd) if stream else json.dumps(odd).encode()
    kind = "text/event-stream" if stream else "application/json"
    assert isinstance(reply_of(lambda at: at.page(200, content, kind), stream=stream), Malformed)


@both
def test_a_connection_that_breaks_in_the_middle_is_unavailable(stream: bool):
    def cut(at: Told) -> None:
        at.send_response(200)
        at.send_header("content-type", "text/event-stream" if stream else "application/json")
        at.send_header("content-length", "1000")
        at.end_headers()
        at.wfile.write(sse(chunk("so")) if stream else b'{"choices":')
        at.close_connection = True

    assert isinstance(reply_of(cut, stream=stream), Unavailable)


def test_a_stream_may_last_longer_than_any_pause_in_it_may():
    def slowly(at: Told) -> None:
        content = [sse(chunk(letter)) for letter in "abcdef"] + [sse(chunk("", finish_reason="stop"))]
        at.send_response(200)
        at.send_header("content-type", "text/event-stream")
        at.send_header("content-length", str(sum(map(len, content))))
        at.end_headers()
        for piece in content:
            at.wfile.write(piece)
            threading.Event().wait(0.1)

    reply = reply_of(slowly, stream=True, timeout_s=0.45)
    assert isinstance(reply, Reply), reply
    assert reply.text == "abcdef"


# ---- redirects, proxies


@both
def test_a_redirect_on_the_same_server_is_followed_with_the_body(stream: bool):
    def answer(at: Told) -> None:
        if at.path == "/v1/chat/completions":
            at.page(307, b"", location="/v1/chat/completions/")
        elif stream:
            at.page(200, sse(chunk("hello", finish_reason="stop")), "text/event-stream")
        else:
            at.page(200, json.dumps(ANSWER).encode())

    reply = reply_of(answer, stream=stream)
    assert isinstance(reply, Reply), reply
    assert reply.text == "hello"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_neither_key_nor_prompt_goes_to_another_server(status: int):
    with answering(lambda at: at.page(200, json.dumps(ANSWER).encode())) as other:
        failed = reply_of(lambda at: at.page(status, b"", location=f"{other.url}/v1/chat/completions"))
        assert other.received == []
    assert isinstance(failed, Malformed)
    assert other.url in str(failed)
    assert KEY not in str(failed)


def test_redirects_without_end_are_given_up():
    assert isinstance(reply_of(lambda at: at.page(307, b"", location=at.path)), Malformed)


def test_a_proxy_of_the_environment_is_asked_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with answering(lambda at: at.page(200, json.dumps(ANSWER).encode())) as proxy, FakeServer(["direct"]) as server:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pw@"))
        [reply] = model("openai:m@http://model.invalid/v1", key=KEY).generate([HI])
        [direct] = model(f"openai:m@{server.url}", key=KEY).generate([HI])
        [(path, headers, _, _)] = proxy.received
    assert (reply.text, direct.text) == ("hello", "direct")
    assert path == "http://model.invalid/v1/chat/completions"
    assert headers["Proxy-Authorization"].startswith("Basic ")
    monkeypatch.setenv("no_proxy", "model.invalid")
    assert proxy_for("http://model.invalid/v1") is None
    monkeypatch.setenv("all_proxy", "proxy:3128")
    assert proxy_for("https://elsewhere.invalid") == "http://proxy:3128"


# ---- connections


@both
def test_one_connection_serves_one_request_after_another(stream: bool):
    async def three() -> list[str]:
        return [(await ask(f"question {i}")).text for i in range(3)]

    def answer(at: Told) -> None:
        if stream:
            at.page(200, sse(chunk("hello", finish_reason="stop")) + b"data: [DONE]\n\n", "text/event-stream")
        else:
            at.page(200, json.dumps(ANSWER).encode())

    with answering(answer) as server:
        assert run(three(), model(f"openai:m@{server.url}", key=KEY, stream=stream)) == ["hello"] * 3
        assert len({port for *_, port in server.received}) == 1


def test_as_many_are_in_flight_as_may_be():
    meeting = threading.Barrier(150, timeout=30)

    def answer(at: Told) -> None:
        meeting.wait()
        at.page(200, json.dumps(ANSWER).encode())

    async def one(i: int) -> str:
        return (await ask(f"question {i}")).text

    with answering(answer) as server:
        server.socket.listen(200)
        programs = [one(i) for i in range(150)]
        assert run(programs, model(f"openai:m@{server.url}", key=KEY), max_in_flight=150) == ["hello"] * 150


def test_a_request_that_is_cancelled_hangs_up_and_harms_no_other():
    hung_up, arrived = threading.Event(), threading.Event()

    def answer(at: Told) -> None:
        if b"slow" in at.server.received[-1][2] and not arrived.is_set():
            arrived.set()
            if at.connection.recv(1) == b"":  # the other end is closed
                hung_up.set()
            at.close_connection = True
        else:
            arrived.wait(20)
            at.page(200, json.dumps(ANSWER).encode())

    async def asked(question: str) -> str:
        return (await ask(question)).text

    async def main() -> list[str]:
        first = await gather([asked("fast"), asked("slow")], until=bool)
        return [*first, await asked("after")]

    with answering(answer) as server:
        assert run(main(), model(f"openai:m@{server.url}", key=KEY)) == ["hello", "hello"]
        assert hung_up.wait(10)


def test_connections_that_nobody_closed_are_left_in_silence():
    code = """
import asyncio
from promptlab import arun, ask
from promptlab.backends.openai import OpenAI
from promptlab.testing import FakeServer
async def program():
    return (await ask("x")).text
with FakeServer(lambda request: "hi") as server:
    backend = OpenAI(f"m@{server.url}")
    assert [asyncio.run(arun(program(), backend)) for _ in range(3)] == ["hi"] * 3
    async def dropped():
        return await arun(program(), OpenAI(f"m@{server.url}"))
    assert asyncio.run(dropped()) == "hi"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- what is sent, and heard


def test_the_headers_are_those_of_the_providers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    with FakeServer(["hi"] * 3) as server:
        for kind in ("openai", "anthropic", "hf-inference"):
            model(f"{kind}:m@{server.url}", key=KEY).generate([HI])
        openai, anthropic, _ = (received.headers for received in server.received)
    for headers in (openai, anthropic):
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("promptlab/")
    at_home = model("openai:m", key=KEY).headers()
    assert (at_home["OpenAI-Organization"], at_home["OpenAI-Project"]) == ("org-1", "proj-1")
    assert not {"openai-organization", "openai-project"} & openai.keys()
    assert "anthropic-version" in anthropic
    assert not {"openai-organization", "openai-project"} & anthropic.keys()


def test_what_authenticates_and_the_version_are_as_the_sdk_sends_them():
    sdk = pytest.importorskip("anthropic")
    sent = sdk.Anthropic(api_key=KEY).default_headers
    ours = model("anthropic:m", key=KEY).headers()
    for name in ("Authorization", "anthropic-version", "Content-Type"):
        assert ours[name] == sent[name]


@both
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_headers_of_every_response_are_heard(kind: str, stream: bool):
    heard: list[Any] = []
    with FakeServer(["hi"] * 2, faults=[None, Fault.status(429, retry_after="7")]) as server:
        backend = model(f"{kind}:m@{server.url}", key=KEY, stream=stream)
        backend.heard = heard.append
        backend.generate([HI])
        backend.generate([HI])
    assert [("x-request-id" in headers or "request-id" in headers) for headers in heard] == [True, True]
    assert heard[1]["retry-after"] == "7"
    assert all(name == name.lower() for headers in heard for name in headers)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_extra_is_part_of_what_is_sent(kind: str):
    with FakeServer(["hi"]) as server:
        model(f"{kind}:m@{server.url}", key=KEY, extra={"top_k": 7, "model": "other"}).generate([HI])
        body = server.received[-1].body
    assert (body["top_k"], body["model"]) == (7, "other")


@both
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("text", ["half \ud83d of a pair", "long. " * 400_000], ids=["half", "long"])
def test_half_a_surrogate_pair_and_megabytes_pass(kind: str, stream: bool, text: str):
    with FakeServer(lambda request: "read: " + request.messages[-1].content[:20]) as server:
        asked = [HI, Request((Message("user", text),)), HI]
        replies = model(f"{kind}:m@{server.url}", key=KEY, stream=stream).generate(asked)
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
        "read: hi",
        "read: " + text[:20],
        "read: hi",
    ]


@both
@pytest.mark.parametrize(("kind", "options"), [("anthropic", {}), ("openai", {}), ("openai", {"api": "responses"})])
def test_tokens_written_to_a_cache_are_told(kind: str, options: dict[str, str], stream: bool):
    told = Usage(input_tokens=40, cached_tokens=10, cache_write_tokens=20, output_tokens=3)
    with FakeServer([Reply("hi", usage=told)]) as server:
        [reply] = model(f"{kind}:m@{server.url}", key=KEY, stream=stream, **options).generate([HI])
    assert isinstance(reply, Reply), reply
    assert reply.usage == told
    assert (told + told).cache_write_tokens == 40


def test_a_provider_counts_tokens_or_says_why_not():
    with FakeServer(faults=[None, Fault.status(500, message=f"no {KEY}"), Fault.unauthorized()]) as server:
        backend = model(f"anthropic:m@{server.url}", key=KEY)
        assert backend.count_tokens([Message("user", "one two three")]) == 3
        with pytest.raises(Unavailable) as caught:
            backend.count_tokens(HI.messages)
        assert KEY not in str(caught.value)
        with pytest.raises(SetupError, match="ANTHROPIC_API_KEY"):
            backend.count_tokens(HI.messages)


def test_no_error_holds_the_key_even_where_it_is_cut():
    for before in (70, 78, 190, 480, 495):
        echo = ("x" * before + KEY).encode()
        for status in (200, 400):
            for stream in (False, True):
                for kind in ("text/html", "application/json", "text/event-stream"):
                    content = b"data: " + echo + b"\n\n" if kind == "text/event-stream" else echo
                    failed = reply_of(lambda at, *given: at.page(*given), status, content, kind, stream=stream)
                    assert isinstance(failed, ModelError)
                    assert KEY[:6] not in str(failed)


def test_what_asks_models_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("promptlab.backends.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="openai,anthropic"):
        needs("aiohttp")
