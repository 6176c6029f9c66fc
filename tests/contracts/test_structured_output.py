"""Structured output wastes no generation: held to a schema, mended here, asked for once more, or a typed failure."""

from __future__ import annotations

import pytest
from doors import CHATS, Door
from pydantic import BaseModel

from promptlab import Message, Prompt, Reply, Request, Usage, model, run
from promptlab.backends.wire.common import is_closed
from promptlab.backends.wrappers.emulating import as_wished
from promptlab.errors import Malformed, SetupError, Truncated, Unsupported
from promptlab.strategies import structured
from promptlab.strategies.structured import closed
from promptlab.testing import Script


class Dose(BaseModel):
    """How much of what."""

    milligrams: int
    drug: str
    notes: list[str] = []


PROMPT = Prompt("Read the dose.", output=Dose)
GOOD = '{"milligrams": 5, "drug": "codeine", "notes": []}'
FOUND = Dose(milligrams=5, drug="codeine")
every_chat = pytest.mark.parametrize("door", CHATS, ids=lambda door: door.name)


@every_chat
def test_the_provider_is_held_to_the_schema_and_one_call_is_enough(door: Door):
    with door.opened([GOOD]) as at:
        assert run(structured("5 mg codeine", PROMPT), at.backend).value == FOUND
        [asked] = at.script.requests
    assert asked.schema == closed(Dose.model_json_schema())
    assert is_closed(asked.schema)


@pytest.mark.parametrize(
    "written",
    [
        f"```json\n{GOOD}\n```",
        f"Here it is: {GOOD} I hope that helps.",
        '{"milligrams": 5, "drug": "codeine", "notes": [],}',
        "{'milligrams': 5, 'drug': 'codeine', 'notes': []}",
        '{"milligrams": 5, "drug": "codeine", "notes": [] /* none */}',
        '{milligrams: 5, drug: "codeine"}',
    ],
)
def test_what_can_be_mended_without_a_call_is(written: str):
    script = Script([written])
    assert run(structured("5 mg codeine", PROMPT, native=False), script).value == FOUND
    assert len(script.requests) == 1
    assert script.requests[0].schema is None


def test_what_cannot_be_mended_is_asked_for_once_more_with_the_reason():
    script = Script(['{"milligrams": "five", "drug": "codeine"}', GOOD])
    assert run(structured("5 mg codeine", PROMPT), script).value == FOUND
    first, second = script.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert "milligrams" in second.messages[-1].content


def test_what_never_comes_is_a_failure_that_keeps_text_and_cost():
    paid = Usage(input_tokens=10, output_tokens=4, cost_usd=0.25)
    script = Script([Reply("no idea", usage=paid), Reply("still none", usage=paid)])
    with pytest.raises(Malformed, match="no JSON object") as caught:
        run(structured("5 mg codeine", PROMPT), script)
    assert caught.value.reply == Reply("still none", usage=paid + paid)
    assert len(script.requests) == 2


def test_a_truncated_reply_is_not_asked_for_again():
    script = Script([Truncated("cut", reply=Reply('{"milli', finish="length"))])
    with pytest.raises(Truncated):
        run(structured("5 mg codeine", PROMPT), script)
    assert len(script.requests) == 1


def test_only_pydantic_models_have_a_structure():
    with pytest.raises(SetupError, match="pydantic"):
        run(structured("x", Prompt(output=int)), Script([]))


# ---- what a backend cannot do


def asked(**options: object) -> Request:
    return Request((Message("system", "be brief"), Message("user", "count")), **options)  # type: ignore[arg-type]


class Bare(Script):
    """Can do nothing but answer."""

    can: frozenset[str] = frozenset()
    scores = False


def test_stop_strings_are_emulated_by_cutting_the_reply():
    bare = Bare(["one two three two", "nothing of the kind"])
    cut, whole = as_wished(bare, "emulate").generate([asked(stop=("three", "two")), asked(stop=("two",))])
    assert (cut.text, cut.finish) == ("one ", "stop")
    assert whole.text == "nothing of the kind"
    assert all(request.stop == () for request in bare.requests)


def test_a_schema_is_emulated_in_words():
    bare = Bare([GOOD])
    assert run(structured("5 mg codeine", PROMPT), as_wished(bare, "emulate")).value == FOUND
    [request] = bare.requests
    assert request.schema is None
    assert "JSON of this schema" in request.messages[-1].content


@pytest.mark.parametrize("option", [{"temperature": 0.5}, {"seed": 1}, {"logprobs": True}, {"top_p": 0.5}])
def test_what_cannot_be_emulated_is_refused_or_left_out_with_a_warning(option: dict[str, object]):
    with pytest.raises(Unsupported, match="cannot be emulated"):
        as_wished(Bare(["x"]), "emulate").generate([asked(**option)])
    bare = Bare(["x"])
    with pytest.warns(UserWarning, match="left out"):
        [reply] = as_wished(bare, "warn").generate([asked(**option)])
    assert reply.text == "x"
    assert bare.requests == [asked()]


def test_texts_to_score_can_be_neither_emulated_nor_left_out():
    for how in ("emulate", "warn"):
        with pytest.raises(Unsupported):
            as_wished(Bare(["x"]), how).generate([asked(continuations=("a",))])


def test_the_bundled_model_takes_a_schema_only_if_told_how():
    with pytest.raises(Unsupported, match="on_unsupported"):
        model("tiny").generate([asked(schema={"type": "object"})])
    [reply] = model("tiny", on_unsupported="emulate").generate([asked(schema={"type": "object"}, max_tokens=4)])
    assert isinstance(reply, Reply)
    with pytest.raises(SetupError, match="emulate"):
        model("tiny", on_unsupported="ignore")
