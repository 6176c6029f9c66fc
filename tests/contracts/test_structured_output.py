"""Structured output wastes no generation: held to a schema, mended here, asked for once more, or a typed failure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from doors import CHATS, KEY, Door
from pydantic import BaseModel, Field, RootModel

from promptlab import Message, ModelError, Prompt, Reply, Request, Usage, ask, model, run, tool
from promptlab.backends.wire.schemas import ANTHROPIC, OPENAI, held
from promptlab.backends.wrappers.emulating import as_wished
from promptlab.errors import Malformed, SetupError, Truncated, Unsupported
from promptlab.strategies import structured
from promptlab.strategies.structured import closed
from promptlab.testing import FakeServer, Script
from promptlab.types import Token, ToolCall, ToolSpec


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
        body = at.server.received[-1].body
    assert asked.schema == closed(Dose.model_json_schema())
    if not door.name.startswith("anthropic"):  # which knows no other way
        form = body["text"]["format"] if "responses" in door.name else body["response_format"]["json_schema"]
        assert form["strict"] is True


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


class Doses(RootModel[list[Dose]]):
    """Several."""


@pytest.mark.parametrize(
    "written", [f"[{GOOD}, {GOOD}]", f"Two:\n```json\n[{GOOD}, {GOOD}]\n```", f"[{GOOD}, {GOOD},]"]
)
def test_a_root_model_may_be_a_list(written: str):
    answer = run(structured("twice 5 mg codeine", Prompt(output=Doses)), Script([written]))
    assert answer.value == Doses([FOUND, FOUND])


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


@pytest.mark.parametrize("native", [True, False])
def test_a_reply_cut_off_in_its_json_is_one_failure_whoever_wrote_it(native: bool):
    cut = Reply(f"[{GOOD}, " + GOOD[:-3], finish="length")
    script = Script([cut])
    with pytest.raises(Truncated, match="ended at its most tokens before its JSON was whole") as caught:
        run(structured("twice 5 mg codeine", Prompt(output=Doses), native=native), script)
    assert caught.value.reply == cut
    assert len(script.requests) == 1
    whole = Reply(GOOD + " and so on and", finish="length")
    assert run(structured("5 mg codeine", PROMPT, native=native), Script([whole])).value == FOUND


def test_only_pydantic_models_have_a_structure():
    for wrong in (Prompt(output=int), int, dict):
        with pytest.raises(
            SetupError, match=r"Prompt\(output=…\) with a pydantic model as its output, got .*(int|dict)"
        ):
            run(structured("x", wrong), Script([]))


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
    with pytest.raises(Unsupported, match="cannot take"):
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


def test_a_schema_is_taken_only_if_told_how_where_it_cannot_be():
    served = "openai:m@http://localhost:1/v1"
    with pytest.raises(Unsupported, match="on_unsupported"):
        model(served, api="completions", key=KEY).generate([asked(schema={"type": "object"})])
    with pytest.raises(SetupError, match="emulate"):
        model("tiny", on_unsupported="ignore")


class Limits(BaseModel):
    """What strict modes of providers leave to the words."""

    share: Annotated[float, Field(ge=0, le=1)]
    days: Annotated[int, Field(gt=3, le=21)]
    code: Annotated[str, Field(pattern=r"^[A-Z]\d{2}$")]
    names: Annotated[list[Annotated[str, Field(max_length=6)]], Field(min_length=1, max_length=3)]


class Tree(BaseModel):
    """One that holds itself."""

    word: Literal["a", 'b"', "é"]
    below: Tree | None


@pytest.mark.parametrize("kind", [Limits, Tree, RootModel[tuple[bool, None, Literal[3, "3"]]]])
@pytest.mark.parametrize("engine", ["tiny", "hf"])
def test_engines_here_write_nothing_but_what_the_schema_allows(
    random_tiny: Any, random_folder: Any, engine: str, kind: type[BaseModel]
):
    """A model of random weights at a high temperature, to which every token is about as likely."""
    backend = random_tiny if engine == "tiny" else model(f"hf:{random_folder}", dtype="float32")
    schema = kind.model_json_schema()
    replies = backend.generate(
        [asked(schema=schema, temperature=2.0, branch=(i,), max_tokens=200, logprobs=True) for i in range(12)]
    )
    whole = [reply for reply in replies if reply.finish == "stop"]
    assert len(whole) >= 4  # others have trees that were still growing
    for reply in whole:
        kind.model_validate_json(reply.text)
        assert all(-25 < token.logprob < 0 for token in reply.tokens)  # the model's own, who was not held
        assert len(reply.tokens) == reply.usage.output_tokens - 1


@pytest.mark.parametrize("engine", ["tiny", "hf"])
def test_a_schema_that_says_nothing_fails_in_its_place(random_tiny: Any, random_folder: Any, engine: str):
    backend = random_tiny if engine == "tiny" else model(f"hf:{random_folder}", dtype="float32")
    schemas: list[Any] = [{"type": "strange"}, None, {"$ref": "#/nowhere"}, {"enum": ["a"]}]
    replies = backend.generate([asked(schema=schema, max_tokens=12) for schema in schemas])
    assert [isinstance(reply, ModelError) for reply in replies] == [True, False, True, False]
    assert "cannot be held to this schema" in str(replies[0])
    assert replies[3].text == '"a"'


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        (("one", " two", " three"), 1),
        (("on", "e ", "two", " three"), 2),
        (("one \ufffd", "\ufffd", "two three"), 0),
        ((), 0),
    ],
)
def test_what_comes_after_an_emulated_stop_is_cut_too(tokens: tuple[str, ...], kept: int):
    told = tuple(Token(text, -1.0) for text in tokens)
    calls = (ToolCall("call_1", "add"),)
    bare = Bare([Reply("one two three", calls, "calls", tokens=told, opaque=({"type": "thinking"},))])
    [reply] = as_wished(bare, "emulate").generate([asked(stop=("two",))])
    assert reply == Reply("one ", tokens=told[:kept])
    assert reply.opaque is None


# ---- schemas of which a provider's strict mode knows a part only


class Route(BaseModel):
    kind: Literal["oral"]
    tablets: Annotated[int, Field(ge=1, le=8)]


class Drip(BaseModel):
    kind: Literal["drip"]
    code: Annotated[str, Field(min_length=2, pattern="^[A-Z]+$")]


class Plan(BaseModel):
    """A field is called as a keyword is, a nested model is described, a union has a discriminator."""

    default: Dose
    title: Dose = Field(description="The dose at night.")
    route: Route | Drip = Field(discriminator="kind")
    on: Annotated[list[str], Field(max_length=3)] = []


class Node(BaseModel):
    name: str
    next: Node | None = Field(None, description="What comes then.")
    other: "Node" = Field(description="Beside it.")  # noqa: UP037


class Nodes(RootModel[Node]):
    """One that is another at its root."""


class Table(BaseModel):
    cells: dict[str, int]


class Default(BaseModel):
    """An open object hides under a name that is a keyword too."""

    default: dict[str, int]


class Anything(BaseModel):
    any: Any


def of(kind: type[BaseModel]) -> dict[str, Any]:
    return closed(kind.model_json_schema())


def unwrapped(schema: Any, root: Any = None) -> Any:
    """With unions of one reference in place of which stands what they refer to: so OpenAI's SDK has it."""
    root = root or schema
    if isinstance(schema, list):
        return [unwrapped(inner, root) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if [*schema] and len(schema.get("anyOf", ())) == 1:
        [one] = schema["anyOf"]
        target = root["$defs"][one["$ref"].rpartition("/")[2]]
        schema = {**target, **{name: value for name, value in schema.items() if name != "anyOf"}}
    return {name: unwrapped(value, root) for name, value in schema.items()}


def without(schema: Any, *names: str) -> Any:
    if isinstance(schema, list):
        return [without(inner, *names) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without(value, *names) for name, value in schema.items() if name not in names}


def test_a_schema_is_adapted_as_openais_sdk_does():
    strictly = pytest.importorskip("openai.lib._pydantic").to_strict_json_schema
    assert held(of(Dose), OPENAI) == without(strictly(Dose), "default")
    theirs, ours = strictly(Plan), unwrapped(held(of(Plan), OPENAI))
    assert ours["properties"].keys() == {"default", "title", "route", "on"}
    assert ours["properties"]["title"] == without(theirs["properties"]["title"], "default")
    assert ours["properties"]["route"]["anyOf"] == theirs["properties"]["route"]["oneOf"]  # which the API refuses
    assert ours["$defs"]["Dose"] == without(theirs["$defs"]["Dose"], "default")
    assert ours["$defs"]["Route"] == theirs["$defs"]["Route"]


def test_a_schema_is_adapted_as_anthropics_sdk_does():
    transform = pytest.importorskip("anthropic.lib._parse._transform").transform_schema
    for kind in (Dose, Route, Drip):  # where all values are told, the SDK says no type
        assert without(held(of(kind), ANTHROPIC), "type") == without(transform(of(kind)), "type")
    ours, theirs = held(of(Plan), ANTHROPIC), transform(of(Plan))
    assert ours["$defs"]["Route"]["properties"]["tablets"] == theirs["$defs"]["Route"]["properties"]["tablets"]
    assert ours["$defs"]["Route"]["properties"]["tablets"]["description"] == "{maximum: 8, minimum: 1}"
    assert ours["properties"]["route"]["anyOf"] == theirs["properties"]["route"]["anyOf"]
    assert ours["properties"]["title"]["anyOf"] == [{"$ref": "#/$defs/Dose"}]
    assert ours["properties"]["title"]["description"] == "The dose at night."  # the SDK leaves it out


@pytest.mark.parametrize("kind", [Dose, Plan, Node, Nodes, Route, Drip])
@every_chat
def test_no_provider_refuses_what_pydantic_writes(door: Door, kind: type[BaseModel]):
    with door.opened(["{}"]) as at:
        [reply] = at.backend.generate([Request((Message("user", "hi"),), schema=of(kind))])
    assert isinstance(reply, Reply), reply


@pytest.mark.parametrize("kind", [Table, Default, Anything])
@every_chat
def test_a_model_that_cannot_be_held_to_a_schema_is_not(door: Door, kind: type[BaseModel]):
    schema = of(kind)
    with door.opened(["{}"]) as at:
        asked_for = Request((Message("user", "hi"),), schema=schema)
        if door.name.startswith("anthropic"):
            with pytest.raises(Unsupported, match="strict mode"):
                at.backend.generate([asked_for])
            assert at.server.received == []
            return
        [reply] = at.backend.generate([asked_for])
        [request] = at.script.requests
        assert isinstance(reply, Reply), reply
        assert request.schema == schema  # as it was, and not strict


@every_chat
def test_what_comes_back_is_checked_against_the_model_itself(door: Door):
    wrong = '{"kind": "oral", "tablets": 9}'
    with door.opened([wrong, '{"kind": "oral", "tablets": 8}']) as at:
        answer = run(structured("eight", Prompt("How many?", output=Route)), at.backend)
        assert len(at.script.requests) == 2
    assert answer.value == Route(kind="oral", tablets=8)


@every_chat
def test_an_empty_reply_is_asked_for_again(door: Door):
    with door.opened(["", GOOD]) as at:
        assert run(structured("5 mg codeine", PROMPT), at.backend).value == FOUND
        assert len(at.script.requests) == 2


@tool
def prescribe(dose: Annotated[Dose, Field(description="How much.")], times: Annotated[int, Field(ge=1)]) -> str:
    """Writes it down."""
    return f"{dose} {times}"


@every_chat
def test_no_provider_refuses_a_tool(door: Door):
    given: dict[str, Any] = {"type": "object", "properties": {"default": {"type": "object"}}, "required": ["default"]}
    anything = ToolSpec("anything", "Takes all.", {**given, "additionalProperties": False})
    with door.opened(["done"]) as at:
        reply = run(ask("go", tools=[prescribe, anything]), at.backend)
        told = at.script.requests[0].tools[1]
    assert reply.text == "done"
    assert told.parameters == anything.parameters


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {**of(Dose), "allOf": []},
        {"type": "object", "properties": {"a": {"type": "array"}}, "required": ["a"], "additionalProperties": False},
        {"$ref": "#/$defs/Gone", "$defs": {}},
    ],
)
def test_a_schema_that_openai_cannot_hold_to_goes_as_it_is(schema: dict[str, Any]):
    with FakeServer(["{}"]) as server:
        [reply] = model(f"openai:m@{server.url}").generate([asked(schema=schema)])
        form = server.received[0].body["response_format"]["json_schema"]
    assert isinstance(reply, Reply), reply
    assert (form["strict"], form["schema"]) == (False, schema)


def test_anthropic_is_told_that_objects_have_no_other_keys():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with FakeServer(['{"a": "b"}']) as server:
        [reply] = model(f"anthropic:m@{server.url}").generate([asked(schema=schema)])
        sent = server.received[0].body["output_config"]["format"]["schema"]
    assert isinstance(reply, Reply), reply
    assert sent == {**schema, "additionalProperties": False}
