"""Tools: typed functions that a model may call."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, islice
from typing import Annotated, Any, NamedTuple

from promptlab.errors import SetupError, WrongCall
from promptlab.types import Message, ToolCall, ToolSpec

Check = Callable[[Mapping[str, Any]], dict[str, Any]]
MOST_ITEMS = 1_000  # that are taken of a result that is an iterator, async ones too


@dataclass(frozen=True, slots=True)
class Tool:
    """A function and what a model is told about it. `check` turns a call's arguments into the function's.

    Without `check` the arguments are passed as they come: for tools whose schema comes from elsewhere. A call that has
    no result after `timeout_s` is answered by saying so: an async function is cancelled then, while a plain one cannot
    be and goes on on its thread; what must not go on belongs in a process of its own. The calls of one turn are run
    together, on threads where the function is a plain one; with `parallel=False` one after the other, and so under
    `run` on a model in this process, which drives programs in step and without threads.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    check: Check | None = field(default=None, repr=False, compare=False)
    timeout_s: float | None = None
    parallel: bool = True

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise SetupError(f"A tool's timeout_s is seconds, more than 0, or None; got {self.timeout_s!r}.")

    def __call__(self, **arguments: Any) -> Any:
        """Calls the function with checked arguments. Raises WrongCall saying which are missing, extra or mistyped."""
        return self.function(**(self.check(arguments) if self.check else arguments))


class Bound(NamedTuple):
    """What a call comes to: a function, its checked arguments, and how long it may take."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    timeout_s: float | None


def tool(function: Callable[..., Any], *, timeout_s: float | None = None, parallel: bool = True) -> Tool:
    """A tool from a typed function with a docstring; sync or async.

    The docstring's first paragraph describes the tool; `name: text` lines under "Args:" and `:param name: text`
    describe arguments, as does `Annotated[int, Field(description=…)]`. A partial function is told as what it fills in,
    without what is filled in; an object that can be called by its `__call__`, else by its class. Raises SetupError for
    a function without docstring or annotations.
    """
    behind = _behind(function)
    name = getattr(behind, "__name__", type(behind).__name__)
    text = _docstring(behind)
    if not text:
        raise SetupError(f"The tool {name} has no docstring. Write what it does: that is what the model is told.")
    signature = _signature(name, function, _argument_texts(text))
    parameters, check = _schema(name, signature)
    description = re.split(r"\n\s*\n|\n\s*(?:Args:|:param )", text)[0]
    return Tool(ToolSpec(name, " ".join(description.split()), parameters), function, check, timeout_s, parallel)


def as_tool(given: Tool | Callable[..., Any]) -> Tool:
    """A Tool as it is, a plain function as `tool` makes it."""
    if isinstance(given, Tool):
        return given
    if isinstance(given, ToolSpec) or not callable(given):
        raise SetupError(f"A tool that can be called is a Tool or a typed function, got {given!r}.")
    return tool(given)


def as_tools(given: Iterable[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """Tools that are called by name. Raises SetupError where two have one name."""
    made = tuple(as_tool(each) for each in given)
    _check_names(each.spec for each in made)
    return made


def as_specs(given: Iterable[Tool | ToolSpec | Callable[..., Any]]) -> tuple[ToolSpec, ...]:
    """What the model is told of tools. Raises SetupError where two have one name."""
    specs = tuple(each if isinstance(each, ToolSpec) else as_tool(each).spec for each in given)
    _check_names(specs)
    return specs


def _check_names(specs: Iterable[ToolSpec]) -> None:
    named = Counter(spec.name for spec in specs)
    if twice := [name for name, times in named.items() if times > 1]:
        raise SetupError(
            f"Several tools are named {', '.join(twice)}, and a call would reach only the first. Name them apart: a "
            "tool's name is its function's, or Tool(ToolSpec(name, …), …) gives one."
        )


def named_apart(made: Iterable[tuple[str, Tool]]) -> list[Tool]:
    """Tools, each with what it was made of ("search:FOLDER"), that are called by name.

    Of those that share one, the second is called `search_2`, and so on; all of them then tell what they were made of.
    """
    given = list(made)
    named = Counter(tool.spec.name for _, tool in given)
    taken, apart = set(named), list[Tool]()
    for of, tool in given:
        name, told = tool.spec.name, tool.spec.description
        if named[name] > 1:
            told = f"{told} ({of})"
        if any(name == each.spec.name for each in apart):
            name = next(other for i in count(2) if (other := f"{name}_{i}") not in taken)
            taken.add(name)
        apart.append(replace(tool, spec=replace(tool.spec, name=name, description=told)))
    return apart


def bound(call: ToolCall, tools: tuple[Tool, ...]) -> Bound:
    """What to do for a call. Raises WrongCall."""
    if call.unread:
        raise WrongCall(f"the arguments of {call.name} are not a JSON object: {textwrap.shorten(call.unread, 200)}")
    for each in tools:
        if each.spec.name == call.name:
            arguments = dict(call.arguments)
            return Bound(each.function, each.check(arguments) if each.check else arguments, each.timeout_s)
    raise WrongCall(f"there is no tool {call.name}; the tools are: {', '.join(t.spec.name for t in tools) or 'none'}")


@contextmanager
def observing(call: ToolCall, messages: list[Message]) -> Iterator[Callable[[Any], None]]:
    """Adds the message that answers a call: the result that the block tells, or what went wrong in it."""
    told: list[str] = []
    try:
        yield lambda result: told.append(_as_text(result))
    except WrongCall as wrong:
        told = [f"Error: {wrong}"]
    except (Exception, SystemExit) as error:  # a tool is somebody else's code: whatever it raises is an observation
        told = [f"Error: {textwrap.shorten(f'{type(error).__name__}: {error}', 300)}"]
    messages.append(Message("tool", told[0], call_id=call.id))


def _as_text(result: Any) -> str:
    if isinstance(result, str):
        return result
    if result is None:
        return "Done; no output."
    if isinstance(result, Iterator):  # which may have no end
        result = list(islice(result, MOST_ITEMS))
    from pydantic_core import to_json

    return to_json(result, fallback=str).decode()


def _signature(name: str, function: Callable[..., Any], texts: Mapping[str, str]) -> inspect.Signature:
    """The function's signature with its annotations evaluated and described."""
    from pydantic import Field

    try:
        hints = typing.get_type_hints(_called(_behind(function)), include_extras=True)
    except NameError as error:
        raise SetupError(f"The tool {name} has an annotation that cannot be found: {error}.") from None
    filled = function.keywords if isinstance(function, partial) else {}
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in filled:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SetupError(f"The tool {name} has the argument {parameter}; a tool's arguments are plain and named.")
        if parameter.name not in hints:
            raise SetupError(f"The tool {name} has no annotation for its argument {parameter.name}. Add its type.")
        hint = hints[parameter.name]
        if parameter.name in texts and not _described(hint):
            hint = Annotated[hint, Field(description=texts[parameter.name])]
        parameters.append(parameter.replace(annotation=hint))
    return inspect.Signature(parameters)


def _behind(function: Any) -> Any:
    """What a partial function fills in."""
    return _behind(function.func) if isinstance(function, partial) else function


def _called(function: Any) -> Any:
    """The function that is run: of an object of one's own, its `__call__`."""
    return function if hasattr(function, "__name__") else getattr(function, "__call__", None)  # noqa: B004


def _docstring(function: Any) -> str | None:
    called = _called(function)
    return None if called is None else inspect.getdoc(called if called.__doc__ else function)


def _described(hint: Any) -> bool:
    return any(getattr(extra, "description", None) for extra in getattr(hint, "__metadata__", ()))


def _schema(name: str, signature: inspect.Signature) -> tuple[dict[str, Any], Check]:
    """The JSON schema of a signature's arguments, and the function that checks them."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    # pydantic validates a function's arguments before calling it: this one borrows the signature and hands them back.
    accept: Any = lambda **arguments: arguments  # noqa: E731  a def would be given a type without __signature__
    accept.__signature__ = signature
    accept.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(accept)
        parameters = adapter.json_schema()
    except PydanticUserError as error:
        raise SetupError(f"The tool {name} has an argument of a type that JSON cannot carry: {error.message}") from None
    for entry in parameters.get("properties", {}).values():
        entry.pop("title", None)

    def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            checked: dict[str, Any] = adapter.validate_python(dict(arguments))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise WrongCall(f"wrong arguments for {name}: {textwrap.shorten(faults, 300)}") from None
        return checked

    return parameters, check


def _argument_texts(text: str) -> dict[str, str]:
    """What a docstring says of each argument; what does not fit on its line is indented below it."""
    section = re.search(r"^\s*Args:\s*\n(.*?)(?=\n\s*\n|\n\S|\Z)", text, re.MULTILINE | re.DOTALL)
    listed = textwrap.dedent(section.group(1)) if section else ""
    found = re.findall(r"^(\w+)(?: \([^)]*\))?: (.+(?:\n[ \t]+.+)*)", listed, re.MULTILINE)
    found += re.findall(r"^\s*:param (\w+): (.+(?:\n[ \t]+[^\s:].*)*)", text, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in found}
