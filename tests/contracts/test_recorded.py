"""Recorded answers of OpenAI's servers, streamed and not, read through the real SDK.

What the calls are is in the recording too: the next request of each conversation tells them to the server again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from doors import KEY, answering

from promptlab import Message, Reply, Request, model
from promptlab.types import ToolSpec

yaml = pytest.importorskip("yaml", reason="PyYAML, which reads the recordings, is not installed")
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded" / "openai_tool_call_cassettes"
TOOL = ToolSpec("any", "any", {"type": "object", "properties": {}})


class Recorded(NamedTuple):
    """One exchange: what was asked, the bytes that came, and what was asked next in the same conversation."""

    name: str
    api: str
    sent: dict[str, Any]
    answer: bytes
    content_type: str
    then: dict[str, Any] | None


def recordings() -> Iterator[Recorded]:
    for path in sorted(RECORDED.rglob("*.yaml")):
        interactions = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
        bodies = [json.loads(each["request"]["body"]) for each in interactions]
        for i, each in enumerate(interactions):
            raw = each["response"]["body"]["string"]
            raw = raw.encode() if isinstance(raw, str) else raw
            headers = {name.lower(): values[0] for name, values in each["response"]["headers"].items()}
            raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            api = "responses" if each["request"]["uri"].endswith("/responses") else "chat"
            then = bodies[i + 1] if i + 1 < len(bodies) else None
            yield Recorded(f"{path.stem}-{i}", api, bodies[i], raw, headers["content-type"], then)


ALL = list(recordings())
if not ALL:
    pytest.skip("the recorded answers are not at hand", allow_module_level=True)


def answered(recorded: Recorded) -> Reply:
    with answering(recorded.answer, recorded.content_type) as url:
        backend = model(f"openai:m@{url}", api=recorded.api, stream=bool(recorded.sent.get("stream")), key=KEY)
        [reply] = backend.generate([Request((Message("user", "hi"),), tools=(TOOL,))])
    assert isinstance(reply, Reply), reply
    return reply


def told_again(recorded: Recorded) -> list[tuple[str, str, Any]]:
    """The calls (id, name, arguments) that the next request repeats and this one does not have yet."""
    then = recorded.then or {}
    if recorded.api == "responses":
        known = len(recorded.sent["input"])
        items = [item for item in then.get("input", [])[known:] if item.get("type") == "function_call"]
        return [(item["call_id"], item["name"], json.loads(item["arguments"])) for item in items]
    known = len(recorded.sent["messages"])
    calls = [call for m in then.get("messages", [])[known:] for call in m.get("tool_calls") or ()]
    return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]


@pytest.mark.parametrize("recorded", ALL, ids=lambda recorded: recorded.name)
def test_a_recorded_answer_has_the_calls_that_the_conversation_went_on_with(recorded: Recorded):
    reply, told = answered(recorded), told_again(recorded)
    if recorded.then is not None:  # the last answer of a conversation has nothing after it to compare with
        assert [(call.name, dict(call.arguments)) for call in reply.calls] == [(name, given) for _, name, given in told]
    for call, (id, _, _) in zip(reply.calls, told, strict=recorded.then is not None):
        assert call.id == id or f'"{id}"'.encode() not in recorded.answer  # one went on with an id of its own
    assert reply.finish == ("calls" if reply.calls else "stop")
    assert bool(reply.text) or bool(reply.calls)


def reasoned(recorded: Recorded) -> list[str]:
    """The encrypted reasoning that the next request repeats and this one does not have yet."""
    then = (recorded.then or {}).get("input", [])[len(recorded.sent.get("input", [])) :]
    return [item["encrypted_content"] for item in then if item.get("type") == "reasoning"]


@pytest.mark.parametrize("recorded", [r for r in ALL if reasoned(r)], ids=lambda recorded: recorded.name)
def test_reasoning_goes_back_as_it_came(recorded: Recorded):
    from promptlab.backends.wire.responses import items

    ours = [item.get("encrypted_content") for item in items(answered(recorded).message)]
    assert [secret for secret in ours if secret] == reasoned(recorded)


def test_there_are_recordings_of_every_kind():
    kinds = {(recorded.api, bool(recorded.sent.get("stream"))) for recorded in ALL}
    assert kinds == {(api, stream) for api in ("chat", "responses") for stream in (False, True)}
    assert sum(len(told_again(recorded)) for recorded in ALL) >= 10
    assert sum(len(reasoned(recorded)) for recorded in ALL) >= 2
