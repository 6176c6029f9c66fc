"""What is another call on the wire is another entry of the cache: every field of a request, every option of a door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import chain
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab import Message, Reply, Request, model
from promptlab.backends import BACKENDS, load_attribute
from promptlab.backends.wrappers.cached import Cached
from promptlab.options import lacking
from promptlab.testing import FakeServer, Script
from promptlab.types import Token, ToolCall, ToolSpec

words = st.sampled_from(["", "a", "b", "é", "a\n", "1"])
some_json = st.recursive(words | st.integers(0, 2) | st.booleans() | st.none(), st.lists, max_leaves=3)
arguments = st.dictionaries(words, some_json, max_size=2)
schemas = st.builds(
    lambda title, name: {"type": "object", "title": title, "properties": {name: {"type": "string"}}}, words, words
)


def called(text: str, said: dict[str, Any], result: str) -> list[Message]:
    return [Message("assistant", text, (ToolCall("c", "t", said),)), Message("tool", result, call_id="c")]


plain = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), words)
turns = st.lists(plain.map(lambda turn: [turn]) | st.builds(called, words, arguments, words), max_size=2)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "messages": turns.map(lambda turns: (*chain(*turns), Message("user", "so?"))),
    "continuations": st.sampled_from([(), ("x",), ("x", "y")]),
    "max_tokens": st.none() | st.integers(1, 3),
    "temperature": st.sampled_from([None, 0, 0.5, 1]),
    "top_p": st.sampled_from([0.5, 1]),
    "stop": st.sampled_from([(), ("a",), ("a", "b")]),
    "seed": st.sampled_from([None, 0, 1]),
    "logprobs": st.booleans(),
    "tools": st.lists(st.builds(ToolSpec, st.just("t"), words, schemas), max_size=1).map(tuple),
    "schema": st.none() | schemas,
    "branch": st.sampled_from([(), (0,), (0, 0), (0, 1)]),
    "alternatives": st.booleans(),
    "to": st.sampled_from(["", "judge"]),
}
EXTRA = st.none() | st.dictionaries(st.sampled_from(["top_k", "user"]), some_json, max_size=2)
SHARED = {"stream": st.booleans(), "extra": EXTRA}
EFFORTS = st.sampled_from([None, "low", "high"])
OPENAI = {**SHARED, "reasoning": EFFORTS}


class Door(NamedTuple):
    """A way to ask, as a user opens it: what is always said, and what may be."""

    kind: str
    always: dict[str, Any]
    options: dict[str, st.SearchStrategy[Any]]

    def open(self, server: FakeServer, name: str = "m", **options: Any) -> Any:
        return model(f"{self.kind}:{name}@{server.url}", key="x", attempts=1, **self.always, **options)


DOORS = {
    "chat": Door("openai", {"api": "chat"}, OPENAI),
    "responses": Door("openai", {"api": "responses"}, OPENAI),
    "completions": Door("openai", {"api": "completions"}, {**SHARED, "reasoning": st.none()}),  # which it refuses
    "hf-inference": Door("hf-inference", {}, OPENAI),
    "anthropic": Door(
        "anthropic",
        {},
        {
            **SHARED,
            "effort": EFFORTS,
            "caches": st.booleans(),
            "thinking": st.sampled_from([None, 1024, "adaptive", "disabled"]),
        },
    ),
}
NOTHING = Request((Message("user", "so?"),))
# What only says how to get there, or what it costs.
NOT_ASKED = {"key", "timeout_s", "context_tokens", "usd_per_million", "api"}


def answered(request: Request) -> Reply:
    """What is to be scored is told letter by letter."""
    return Reply("ok", tokens=tuple(Token(letter, -1.0) for text in request.continuations for letter in text))


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer(Script(answered, scores=True)) as running:
        yield running


def test_every_field_of_a_request_is_tried():
    assert FIELDS.keys() == {field.name for field in fields(Request) if field.compare}


@pytest.mark.parametrize("name", DOORS)
def test_every_option_of_a_door_is_tried(name: str):
    made_by = [kind.__init__ for kind in load_attribute(BACKENDS[DOORS[name].kind]).__mro__]
    taken = {option for init in made_by for option in getattr(init, "__kwdefaults__", None) or ()}
    assert DOORS[name].options.keys() >= taken - NOT_ASKED


def on_the_wire(server: FakeServer, door: Any, request: Request) -> tuple[str, str, str]:
    door.generate([request])
    came = server.received[-1]
    headers = {name: value for name, value in came.headers.items() if name != "content-length"}
    return came.path, json.dumps(came.body), json.dumps(headers)


@pytest.mark.parametrize("name", DOORS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_calls_that_differ_in_a_byte_are_two_entries(
    name: str, server: FakeServer, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    door = DOORS[name]
    can_change = {**door.options, "name": st.sampled_from(["m", "n"]), **FIELDS}
    one = {what: data.draw(values, what) for what, values in can_change.items()}
    what = data.draw(st.sampled_from(sorted(can_change)), "what changes")
    other = one | {what: data.draw(can_change[what], "to")}
    asked = []
    for said in (one, other):
        opened = door.open(server, **{key: value for key, value in said.items() if key not in FIELDS})
        request = Request(**{key: value for key, value in said.items() if key in FIELDS})
        beyond = {field: getattr(NOTHING, field) for field in lacking(opened, request)}
        asked.append((opened, replace(request, **beyond)))
    sent = [on_the_wire(server, *each) for each in asked]
    file = tmp_path_factory.mktemp("cache") / "calls.db"
    before = len(server.received)
    answers = [Cached(opened, file).generate([request]) for opened, request in asked]
    reached = len(server.received) - before
    assert all(isinstance(reply, Reply) for [reply] in answers), answers
    assert reached == 2 or sent[0] == sent[1]
