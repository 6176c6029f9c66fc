"""Effects: all that a program may await, and the programs that combine programs.

A program is an `async def` without I/O. Awaiting an effect yields it, as plain data, to whoever drives the program
(`promptlab.runners`), which answers it. Here nothing is sent and nothing waits.
"""

from __future__ import annotations

import types
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from inspect import CORO_CREATED, CORO_SUSPENDED, getcoroutinelocals, getcoroutinestate, iscoroutine
from typing import Any, Generic, NamedTuple, TypeAlias, TypedDict, TypeVar, Unpack, get_args, overload

from promptlab.errors import ForeignAwaitable, ModelError, SetupError
from promptlab.jsonable import check_json
from promptlab.tool import Tool, as_specs, as_tools
from promptlab.types import Message, Reply, Request, Role, ToolCall, ToolSpec

T = TypeVar("T")
Program: TypeAlias = Coroutine[Any, Any, T]
Prompted: TypeAlias = str | Message | Sequence[Message]
ROLES = get_args(Role)
MOST_CANCELLED = 100  # times that a program is cancelled which goes on asking as it ends
Until: TypeAlias = Callable[[list[Any]], bool | int]


class Options(TypedDict, total=False):
    """What a request may say besides its messages; the meanings are Request's."""

    max_tokens: int | None
    temperature: float | None
    top_p: float
    stop: str | Sequence[str]
    seed: int | None
    logprobs: bool
    tools: Sequence[Tool | ToolSpec | Callable[..., Any]]
    schema: Mapping[str, Any] | None
    to: str


class Exchange(NamedTuple):
    """A request as it was sent, with its branch, and what came back."""

    request: Request
    reply: Reply | ModelError


@dataclass(frozen=True, slots=True)
class Effect(Generic[T]):
    """Something a program wants of its runner, which answers with a T."""

    def __await__(self) -> Generator[Effect[T], T, T]:
        try:
            return (yield self)
        except RuntimeError as error:
            if not str(error).startswith("Task got bad yield"):
                raise
            raise ForeignAwaitable(  # an asyncio task drives the program, and does not know effects
                "An effect of promptlab was awaited in an asyncio task of its own. Drive the program with run(program, "
                "model) or `await arun(program, model)`; inside it use promptlab's gather, not asyncio's."
            ) from None


@dataclass(frozen=True, slots=True)
class Requests(Effect[list[Exchange]]):
    """Requests to send together. Their branches are relative: the runner puts the program's own before them."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Calls(Effect[list[Message]]):
    """Tool calls to run one after the other."""

    calls: tuple[ToolCall, ...]
    tools: tuple[Tool, ...]


@dataclass(frozen=True, slots=True)
class Gather(Effect[list[Any]]):
    """Programs to run together, until their results decide. `branches` stand in the place of (round, number)."""

    programs: tuple[Program[Any], ...]
    until: Until | None = field(default=None)
    at_once: int | None = None
    branches: tuple[tuple[int, ...], ...] | None = None

    def branches_from(self, branch: tuple[int, ...], round: int) -> list[tuple[int, ...]]:
        """Where each program stands in the tree, under a program at `branch` in its so many-th effect."""
        own = self.branches or [(round, i) for i in range(len(self.programs))]
        return [(*branch, *each) for each in own]


async def ask(prompt: Prompted, **options: Unpack[Options]) -> Reply:
    """One reply to a prompt: a text (one user message), a message, or a chat. Raises the ModelError if it failed."""
    [exchange] = await Requests((_request(prompt, options),))
    return _reply(exchange)


async def sample(prompt: Prompted, n: int, **options: Unpack[Options]) -> list[Reply]:
    """n replies to one prompt, each a request of its own branch. Raises the first ModelError if any failed."""
    if n < 0:
        raise SetupError(f"sample takes n ≥ 0 replies, got n={n}.")
    drawn = await Requests(tuple(_request(prompt, options, branch=(j,)) for j in range(n)))
    return [_reply(exchange) for exchange in drawn]


async def score(context: Prompted, continuations: Sequence[str], *, alternatives: bool = False) -> list[float]:
    """The log-probability, summed over its tokens and in nats, of each continuation as the reply to `context`.

    It is that of replies which begin so. Of `alternatives`, one that begins another ("1", beside "10") has only those
    that do not go on to that, where a backend knows of tokens: tiny, hf, vllm and servers of completions do. Raises
    Unsupported, before anything is sent, where the backend does not give log-probabilities of given texts.
    """
    if isinstance(continuations, str):
        raise TypeError(f"score takes a list of continuations, got the text {continuations!r}. Put it in a list.")
    if not continuations:
        return []
    asked = _request(context, {}, continuations=tuple(continuations), alternatives=alternatives)
    [exchange] = await Requests((asked,))
    return list(_reply(exchange).scores)


async def call(calls: Iterable[ToolCall], tools: Iterable[Tool | Callable[..., Any]]) -> list[Message]:
    """Runs a model's tool calls, in order: one message of role "tool" for each.

    Whatever goes wrong in a call (an unknown tool, wrong arguments, an exception) is what its message says.
    """
    for name, given in (("calls", calls), ("tools", tools)):
        if not isinstance(given, Iterable):
            raise SetupError(f"call takes a list of {name}, got {_kind(given)}. Put it in a list.")
    made = tuple(calls)
    if strange := [each for each in made if not isinstance(each, ToolCall)]:
        raise SetupError(f"call takes the ToolCalls of a reply (reply.calls), got {_kind(strange[0])} among them.")
    return await Calls(made, as_tools(tools))


@overload
def gather(
    programs: Iterable[Program[T]],
    /,
    *,
    until: Until | None = None,
    at_once: int | None = None,
    branches: Iterable[tuple[int, ...]] | None = None,
) -> Program[list[T]]: ...
@overload
def gather(
    *programs: Program[T],
    until: Until | None = None,
    at_once: int | None = None,
    branches: Iterable[tuple[int, ...]] | None = None,
) -> Program[list[T]]: ...
def gather(
    *programs: Any,
    until: Until | None = None,
    at_once: int | None = None,
    branches: Iterable[tuple[int, ...]] | None = None,
) -> Program[list[Any]]:
    """Runs programs together; their results, in order. Takes one iterable of programs, or the programs themselves.

    `until` is asked about the results so far, in the programs' order and so independent of timing, beginning with
    none of them. It answers True, decided; False, not yet; or how many more results it takes at least before it could
    be decided, 0 being decided (False asks for one more). The results that decided are returned. What is in flight is
    cancelled then; an in-process engine is asked in the smallest batches that could decide. On a hosted model all
    start at once, or, with `at_once`, as many as could decide and at least so many ahead of the results: 1 asks for
    least, more wait less.

    An exception of a program is raised here when it is that program's turn: those before it still finish, those
    after it are closed. So which of two failures is raised does not depend on timing either.

    With `branches`, one for each program, a program's branch is that and not when and in which place it was gathered:
    programs on one branch, here or in another gather of the same program, draw the same random numbers, as two prompts
    should that are compared on one item. A first number below 0 keeps them apart from all others.
    """
    several = programs[0] if len(programs) == 1 and not iscoroutine(programs[0]) else programs
    # An iterable is read now: when this is awaited, the variables of a generator may have moved on.
    read = as_programs(several)
    own = None if branches is None else tuple(tuple(branch) for branch in branches)
    if own is not None and len(own) != len(read):
        discard(read)
        raise SetupError(f"gather got {len(read)} programs and {len(own)} branches: it takes one for each.")
    made: Any = _gathered(read, until, at_once, own)
    made.__qualname__ = "gather"  # what Python's own warnings call it
    return made  # type: ignore[no-any-return]


async def _gathered(
    programs: tuple[Program[Any], ...], until: Until | None, at_once: int | None, branches: Any
) -> list[Any]:
    return await Gather(programs, until, at_once, branches)


async def attempt(program: Program[T]) -> T | ModelError:
    """A program's result, or the ModelError that ended it, as a value."""
    try:
        return await program
    except ModelError as error:
        return error


class Traced(NamedTuple, Generic[T]):
    """A program's result and everything it asked of the model."""

    result: T
    exchanges: list[Exchange]


async def traced(program: Program[T]) -> Traced[T]:
    """A program's result with its exchanges: in the order it asked, those of gathered programs in the programs' order.

    An exception of the program is raised and its exchanges are lost with it; `traced(attempt(program))` keeps them.
    A request that was cancelled in flight has no exchange; one answered beyond the deciding results of an `until` has.
    """
    noting = _Noting()
    return Traced(await _passing_on(program, noting), noting.exchanges)


async def metered(program: Program[T], take: Callable[[int], None]) -> T:
    """A program's result; `take` is told how many requests are about to be sent, and may raise to end the program."""
    return await _passing_on(program, _Metering(take))


class _Watch:
    """What is told of a program's effects as they pass, and watches its children."""

    def asks(self, effect: Requests) -> None: ...
    def hears(self, exchanges: list[Exchange]) -> None: ...
    def child(self) -> _Watch:
        return self

    def ends(self, children: list[_Watch]) -> None: ...


@dataclass(slots=True)
class _Noting(_Watch):
    exchanges: list[Exchange] = field(default_factory=list)

    def hears(self, exchanges: list[Exchange]) -> None:
        self.exchanges += exchanges

    def child(self) -> _Noting:
        return _Noting()

    def ends(self, children: list[Any]) -> None:
        for child in children:
            self.exchanges += child.exchanges


@dataclass(slots=True)
class _Metering(_Watch):
    take: Callable[[int], None]

    def asks(self, effect: Requests) -> None:
        self.take(len(effect.requests))


async def _watched(program: Program[T], watch: _Watch) -> T:
    return await _passing_on(program, watch)


@types.coroutine
def _passing_on(program: Program[T], watch: _Watch) -> Generator[Any, Any, T]:
    """Drives a program by passing its effects on to whoever drives this one."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer, error = None, None
        children: list[_Watch] = []
        if isinstance(effect, Gather):
            children = [watch.child() for _ in effect.programs]
            inner = zip(effect.programs, children, strict=True)
            effect = replace(effect, programs=tuple(_watched(each, child) for each, child in inner))
        try:
            if isinstance(effect, Requests):
                watch.asks(effect)
            answer = yield effect
            if isinstance(effect, Requests):
                watch.hears(answer)
        except BaseException as raised:  # cancellation and closing too are for the program to see
            error = raised
        watch.ends(children)


def as_programs(programs: Any) -> tuple[Program[Any], ...]:
    """The programs of an iterable. Raises SetupError for what is not one, and closes those that are."""
    found = tuple(programs) if isinstance(programs, Iterable) else (programs,)
    for program in found:
        if not iscoroutine(program):
            for other in found:
                discard(other)
            hint = " Call it." if callable(program) else ""
            raise SetupError(f"A program is a call of an async function, got {type(program).__name__}.{hint}")
    return found


def discard(program: Any) -> None:
    """Closes a program, and if it never started, the programs it was given: nobody else will await them.

    It is cancelled, as in an event loop. What it asks as it ends is not answered, and what it raises is lost: nobody
    waits for it any more.
    """
    if isinstance(program, tuple | list | set):
        for each in program:
            discard(each)
    elif iscoroutine(program) and not program.cr_running:
        if getcoroutinestate(program) == CORO_CREATED:
            discard(list(getcoroutinelocals(program).values()))
        for _ in range(MOST_CANCELLED):
            if getcoroutinestate(program) == CORO_SUSPENDED:
                with suppress(Exception, CancelledError):  # not by `close`, which abandons an inner program that asks
                    program.throw(CancelledError())
        program.close()


def _request(prompt: Prompted, options: Any, **more: Any) -> Request:
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"Unknown option {', '.join(sorted(unknown))}. The options are {known}.")
    if options:
        more |= {name: _plain(value) for name, value in options.items()}
        if "stop" in more:
            more["stop"] = _stops(more["stop"])
        if "tools" in more:
            if not isinstance(more["tools"], Iterable):
                raise SetupError(f"tools is a list of tools, got {_kind(more['tools'])}. Put it in a list.")
            more["tools"] = as_specs(more["tools"])
    made = Request(_messages(prompt), **more)
    check_json(made)
    return made


def _plain(value: Any) -> Any:
    """A number of NumPy's, or of PyTorch's, as Python's own, which JSON can tell."""
    return value.item() if getattr(value, "shape", None) == () else value


def _stops(given: Any) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(stop, str) for stop in stops):
        raise SetupError(f"stop is a text or a list of texts, got {given!r}.")
    return stops


def _kind(given: Any) -> str:
    """What something is, for a message: a function by its name, all else by its type."""
    return f"the function {given.__qualname__}" if hasattr(given, "__qualname__") else f"one {type(given).__name__}"


def _messages(prompt: Any) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if not isinstance(prompt, Message | Iterable):
        raise SetupError(f"A prompt is a text, a Message or several, got {prompt!r}.")
    messages = (prompt,) if isinstance(prompt, Message) else tuple(prompt)
    if not messages:
        raise SetupError("A prompt is a text, a Message or several, got an empty list.")
    for message in messages:
        if not isinstance(message, Message):
            raise SetupError(f"A prompt is a text, a Message or several, got a {type(message).__name__} among them.")
        if message.role not in ROLES:
            raise SetupError(f"The role of a Message is one of {', '.join(ROLES)}, got {message.role!r}.")
        if not isinstance(message.content, str):
            raise SetupError(f"The content of a Message is a text, which may be empty; got {message.content!r}.")
    return messages


def _reply(exchange: Exchange) -> Reply:
    if isinstance(exchange.reply, ModelError):
        raise exchange.reply.with_traceback(None)
    return exchange.reply
