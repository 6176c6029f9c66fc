"""Tools from typed functions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from promptlab import Tool, ask, call, run, tool
from promptlab.backends.script import Script
from promptlab.errors import SetupError, WrongCall
from promptlab.strategies import react
from promptlab.types import ToolCall, ToolSpec


class Place(BaseModel):
    city: str


@tool
def forecast(
    place: Place, days: int = 3, unit: Literal["C", "F"] = "C", json: Annotated[bool, Field(description="Raw?")] = False
) -> str:
    """The weather
    of a place.

    Args:
        place: Where, as a city.
        days (int): How many days.
    """
    return f"{place.city} {days} {unit} {json}"


def told(made: object, *calls: ToolCall) -> list[str]:
    return [message.content for message in run(call(calls, [made]), Script([]))]


def test_a_tool_tells_its_name_purpose_and_arguments():
    assert (forecast.spec.name, forecast.spec.description) == ("forecast", "The weather of a place.")
    schema = forecast.spec.parameters
    assert schema["required"] == ["place"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["days"] == {"type": "integer", "default": 3, "description": "How many days."}
    assert schema["properties"]["unit"]["enum"] == ["C", "F"]
    assert schema["properties"]["json"]["description"] == "Raw?"
    assert "Where, as a city." in str(schema["properties"]["place"])


def test_param_lines_describe_arguments_too():
    @tool
    def look(word: str) -> str:
        """Looks it up.

        :param word: What to look up.
        """
        return word

    assert look.spec.parameters["properties"]["word"]["description"] == "What to look up."


def test_what_is_said_of_an_argument_may_take_several_lines():
    @tool
    def look(word: str, most: int, note: str = "") -> str:
        """Looks it up.

        :param note: Whose
          note
          it is.

        Args:
            word: What to look up, which
                may be several; note: quotes count.
            most (int): How many
               at most.
        """
        return word

    said = {name: each["description"] for name, each in look.spec.parameters["properties"].items()}
    assert said == {
        "word": "What to look up, which may be several; note: quotes count.",
        "most": "How many at most.",
        "note": "Whose note it is.",
    }


def test_calling_a_tool_checks_and_converts_its_arguments():
    assert forecast(place={"city": "Oslo"}, days="2") == "Oslo 2 C False"
    with pytest.raises(WrongCall, match=r"unit: Input should be 'C' or 'F'"):
        forecast(place={"city": "Oslo"}, unit="K")
    with pytest.raises(WrongCall, match=r"wrong arguments for forecast: place: Missing.*dys: Unexpected"):
        forecast(dys=1)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        (None, "Done; no output."),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
        (Place(city="Oslo"), '{"city":"Oslo"}'),
    ],
)
def test_a_result_is_told_as_text(result, text):
    def give() -> object:
        """Gives it."""
        return result

    assert told(give, ToolCall("1", "give")) == [text]


@pytest.mark.parametrize("batched", [True, False], ids=["in step", "concurrent"])
@pytest.mark.parametrize("limit", [None, 5.0])
def test_of_a_tool_that_gives_items_over_time_the_items_are_told(batched: bool, limit: float | None):
    ended = []

    async def lines(n: int) -> AsyncIterator[str]:
        """Lines of a file."""
        try:
            for i in range(n):
                await asyncio.sleep(0)
                yield f"line {i}"
        finally:
            ended.append(n)

    calls = [ToolCall("1", "lines", {"n": 2}), ToolCall("2", "lines", {"n": 10**9})]
    few, many = run(call(calls, [tool(lines, timeout_s=limit)]), Script([], batched=batched))
    assert few.content == '["line 0","line 1"]'
    assert len(json.loads(many.content)) == 1_000
    assert ended == [2, 10**9]


@pytest.mark.parametrize("batched", [True, False], ids=["in step", "concurrent"])
def test_a_tool_whose_items_come_slowly_is_held_to_its_time(batched: bool):
    def lines() -> Iterator[str]:
        """Lines of a file."""
        for _ in range(5):
            time.sleep(0.1)
            yield "line"

    [message] = run(call([ToolCall("1", "lines")], [tool(lines, timeout_s=0.15)]), Script([], batched=batched))
    assert message.content.startswith("Error: TimeoutError: no result within 0.15 s")


def test_a_validation_error_inside_the_tool_is_not_blamed_on_its_arguments():
    @tool
    def parse(text: str) -> Place:
        """Parses."""
        return Place.model_validate_json(text)

    [message] = told(parse, ToolCall("1", "parse", {"text": "{}"}))
    assert message.startswith("Error: ValidationError")
    assert "wrong arguments" not in message


def test_a_long_failure_is_shortened():
    @tool
    def fail() -> None:
        """Fails."""
        raise RuntimeError("word " * 1000)

    assert len(told(fail, ToolCall("1", "fail"))[0]) < 400


def test_a_docstring_is_required():
    def bare(a: int) -> int:
        return a

    with pytest.raises(SetupError, match="bare has no docstring"):
        tool(bare)


class Counting:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, by: int) -> int:
        self.count += by
        return self.count


class Doubling:
    def __call__(self, x: int) -> int:
        """Twice as much."""
        return 2 * x


def test_a_partial_function_and_an_object_that_can_be_called_are_tools():
    beds = partial(partial(look_up, object()), place="Lorn")
    assert tool(beds).spec == ToolSpec("look_up", "Looks up.", tool(beds).spec.parameters)
    assert list(tool(beds).spec.parameters["properties"]) == ["what"]
    assert told(beds, ToolCall("1", "look_up", {"what": "beds"})) == ["beds of Lorn"]
    assert told(beds, ToolCall("1", "look_up", {"what": "beds", "place": "Vask"}))[0].startswith("Error: wrong")
    assert [tool(each()).spec.description for each in (Counting, Doubling)] == ["Counts.", "Twice as much."]
    assert told(Counting(), ToolCall("1", "Counting", {"by": 3})) == ["3"]
    assert told(Doubling(), ToolCall("1", "Doubling", {"x": 3})) == ["6"]
    with pytest.raises(SetupError, match="The tool <lambda> has no docstring"):
        tool(partial(lambda x: x, 1))


def look_up(where: object, place: str, what: str) -> str:
    """Looks up."""
    return f"{what} of {place}"


def test_annotations_are_required():
    def half(a: int, b) -> int:
        """Adds."""
        return a + b

    with pytest.raises(SetupError, match="no annotation for its argument b"):
        tool(half)


def test_an_annotation_that_cannot_be_found_is_named():
    def lost(a: Nowhere) -> None:  # noqa: F821
        """Lost."""

    with pytest.raises(SetupError, match="Nowhere"):
        tool(lost)


def test_variable_arguments_are_refused():
    def many(*numbers: int) -> int:
        """Adds them."""
        return sum(numbers)

    with pytest.raises(SetupError, match=r"\*numbers"):
        tool(many)


def test_a_type_that_json_cannot_carry_is_refused():
    class Opaque: ...

    def take(it) -> None:
        """Takes it."""

    take.__annotations__["it"] = Opaque
    with pytest.raises(SetupError, match="take has an argument of a type"):
        tool(take)


def test_a_tool_with_a_schema_from_elsewhere_gets_its_arguments_as_they_come():
    made = Tool(ToolSpec("echo", "Says it back.", {"type": "object"}), lambda **given: given)
    assert told(made, ToolCall("1", "echo", {"x": [1]})) == ['{"x":[1]}']


def test_a_spec_alone_cannot_be_called():
    with pytest.raises(SetupError, match="typed function"):
        told(ToolSpec("echo", "", {}), ToolCall("1", "echo"))


@pytest.mark.parametrize("native", [True, False])
def test_two_tools_of_one_name_are_refused_before_anything_is_asked(native):
    other = Tool(ToolSpec("forecast", "Another one.", {}), lambda: "fog")
    script = Script(["never asked"])
    for program in (
        react("q", [forecast, other], native=native),
        call([ToolCall("1", "forecast")], [forecast, other]),
        ask("q", tools=[forecast, other.spec]),
    ):
        with pytest.raises(SetupError, match=r"Several tools are named forecast, and a call would reach only the fi"):
            run(program, script)
    assert not script.requests
