"""What providers get wrong, as a hosted backend tells of it: an error of its kind, with what was paid for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from doors import CHATS, HOSTED, KEY, STREAMS, Door

from promptlab import Message, ModelError, Reply, Request, model
from promptlab.errors import ContextOverflow, Malformed, SetupError, Truncated, Unauthorized, Unavailable
from promptlab.testing import FakeServer, Fault

every_hosted_door = pytest.mark.parametrize("door", HOSTED, ids=lambda door: door.name)
every_chat = pytest.mark.parametrize("door", CHATS, ids=lambda door: door.name)
every_stream = pytest.mark.parametrize("door", STREAMS, ids=lambda door: door.name)
HI = Request((Message("user", "hi"),))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def failure_of(door: Door, fault: Fault, request: Request = HI, reply: str | Reply = "hi there, you") -> ModelError:
    with door.opened([reply], [fault]) as at:
        [failed] = at.backend.generate([request])
        assert len(at.server.received) == 1, failed  # nothing is asked twice behind one's back
    assert isinstance(failed, ModelError), failed
    return failed


@every_hosted_door
@pytest.mark.parametrize(
    ("said", "seconds"), [("0.25", 0.25), ("7", 7.0), ("100000", 100_000.0), ("-3", 0.0), ("soon", None), (None, None)]
)
def test_a_rate_limit_says_when_to_come_back(door: Door, said: str | None, seconds: float | None):
    failed = failure_of(door, Fault.status(429, retry_after=said))
    assert isinstance(failed, Unavailable)
    assert failed.retry_after_s == seconds


@every_hosted_door
@pytest.mark.parametrize("ahead_s", [90, -90])
def test_a_date_to_come_back_is_read_by_the_servers_own_clock(door: Door, ahead_s: int):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    failed = failure_of(door, Fault.status(429, retry_after=date))
    assert isinstance(failed, Unavailable)
    assert failed.retry_after_s == pytest.approx(max(0, ahead_s), abs=3)


@every_hosted_door
@pytest.mark.parametrize("code", [408, 409, 500, 502, 503, 529])
def test_a_server_in_trouble_is_unavailable(door: Door, code: int):
    assert isinstance(failure_of(door, Fault.status(code)), Unavailable)


@every_hosted_door
@pytest.mark.parametrize(
    ("code", "kind"), [(400, "invalid_request_error"), (422, ""), (402, ""), (429, "insufficient_quota")]
)
def test_what_asking_again_cannot_mend_is_not_called_unavailable(door: Door, code: int, kind: str):
    failed = failure_of(door, Fault.status(code, kind=kind))
    assert type(failed) is ModelError


@every_hosted_door
def test_a_prompt_that_is_too_long_overflows(door: Door):
    assert isinstance(failure_of(door, Fault.context_length()), ContextOverflow)


@every_hosted_door
def test_a_refused_key_ends_the_run_and_names_its_variable(door: Door):
    with door.opened(["hi"], [Fault.unauthorized()]) as at, pytest.raises(Unauthorized) as caught:
        at.backend.generate([HI])
    assert at.backend.key_variable in str(caught.value)
    assert KEY not in str(caught.value)


@every_hosted_door
def test_a_connection_that_drops_is_unavailable(door: Door):
    assert isinstance(failure_of(door, Fault.drop()), Unavailable)


@every_hosted_door
def test_no_server_at_all_is_unavailable(door: Door):
    with FakeServer() as server:
        url = server.url
    backend = model(door.spec.replace("URL", url), key="x", attempts=1, **door.options)
    [failed] = backend.generate([HI])
    assert isinstance(failed, Unavailable)


@every_hosted_door
def test_an_answer_that_takes_too_long_is_unavailable(door: Door):
    with door.opened(["late"], [Fault.slow(20)], timeout_s=0.3) as at:
        [failed] = at.backend.generate([HI])
    assert isinstance(failed, Unavailable)


@every_hosted_door
@pytest.mark.parametrize("fault", [Fault.html(), Fault.empty()], ids=["html", "{}"])
def test_what_is_no_answer_is_malformed(door: Door, fault: Fault):
    assert isinstance(failure_of(door, fault), Malformed)


@every_hosted_door
def test_a_reply_without_a_reason_to_end_is_malformed_unless_its_usage_came_after_it(door: Door):
    if door.name in ("openai chat stream", "hf-inference stream"):  # some real servers stream so: see the recordings
        with door.opened(["hi there"], [Fault.no_finish()]) as at:
            assert at.backend.generate([HI])[0].text == "hi there"
    else:
        assert isinstance(failure_of(door, Fault.no_finish()), Malformed)


@every_stream
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stream_that_is_cut_off_is_no_reply(door: Door, after: int):
    assert isinstance(failure_of(door, Fault.cut_stream(after)), Malformed)


@every_stream
def test_an_error_in_the_middle_of_a_stream_is_unavailable(door: Door):
    assert isinstance(failure_of(door, Fault.error_in_stream(2)), Unavailable)


@every_chat
def test_json_that_is_cut_off_is_truncated_and_keeps_what_was_paid_for(door: Door):
    with door.opened([Reply('{"a": ', finish="length")]) as at:
        [failed] = at.backend.generate([Request(HI.messages, schema=SCHEMA, max_tokens=3)])
    assert isinstance(failed, Truncated)
    assert failed.reply is not None
    assert failed.reply.text == '{"a": '


@every_hosted_door
@pytest.mark.parametrize(
    ("there", "said"),
    [(["em", "other"], "Did you mean em?"), (["other", "another"], "It has other, another.")],
    ids=["near", "far"],
)
def test_an_unknown_model_ends_the_run_with_those_there_are(door: Door, there: list[str], said: str):
    with FakeServer(["hi"], models=there) as server:
        backend = model(door.spec.replace("URL", server.url), key="x", **door.options)
        with pytest.raises(SetupError, match="Is 'm' a model there") as caught:
            backend.generate([HI])
    assert said in str(caught.value)


@pytest.mark.parametrize(("spec", "variable"), [("openai:m", "OPENAI_BASE_URL"), ("anthropic:m", "ANTHROPIC_BASE_URL")])
def test_the_providers_own_variable_for_the_url_is_read_and_told(monkeypatch, spec, variable):
    with FakeServer(["hi"]) as server:
        monkeypatch.setenv(variable, server.url)
        backend = model(spec, key="x")
        [reply] = backend.generate([HI])
        assert server.url in repr(backend)
    assert reply.text == "hi"


@pytest.mark.parametrize(("spec", "variable"), [("openai:m", "OPENAI_API_KEY"), ("anthropic:m", "ANTHROPIC_API_KEY")])
@pytest.mark.parametrize(
    ("key", "said"),
    [(None, "No key: set {}"), ("", "No key: set {}"), ("two\nlines", "paste it again"), ("a key", "paste it again")],
)
def test_a_key_that_cannot_be_one_is_told_of_at_once(monkeypatch, spec, variable, key, said):
    monkeypatch.delenv(variable, raising=False)
    if key is not None:
        monkeypatch.setenv(variable, key)
    with pytest.raises(Unauthorized) as caught:
        model(spec)
    assert said.format(variable) in str(caught.value)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("spec", ["openai:m", "anthropic:m"])
@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_a_servers_address_may_end_in_v1_or_not(spec: str, tail: str):
    with FakeServer(["hi"]) as server:
        [reply] = model(f"{spec}@{server.url}{tail}").generate([HI])
    assert reply.text == "hi"


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://user:secret@host", "http://host?key=1"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(SetupError, match="address"):
        model(f"openai:m@{url}")


@pytest.mark.parametrize(
    "address",
    [
        "http://user:{}@host:80a/v1",
        "https://user:{}@host:99999/v1",
        "ftp://user:{}@host/v1",
        "https://user:{}/more@host/v1",
        "https://{}/more@host/v1",
        "https://user:{}@/v1",
        "https://host:x/v1?api_key={}",
        "https://host:x/v1#{}",
        "user:{}@host:8000",
        "user:{}@[::1",
    ],
)
def test_a_key_in_an_address_is_in_no_message(monkeypatch: pytest.MonkeyPatch, address: str):
    spec = f"m@{address.format(KEY)}"
    refused: list[tuple[str, dict[str, Any]]] = [("openai", {}), ("opnai", {}), ("anthropic", {"timeout": 1})]
    for kind, options in refused:
        with pytest.raises(SetupError) as caught:
            model(f"{kind}:{spec}", **options)
        assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", address.format(KEY))
    with pytest.raises(SetupError, match="holds no user, password or query: pass the key as key="):
        model("openai:m", key="x")
