"""One step of one program: what both ways of driving programs share."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from inspect import iscoroutine, isgenerator
from types import CodeType, TracebackType
from typing import Any, ClassVar, NoReturn

from promptlab.errors import ForeignAwaitable, ModelError, PromptlabError, SetupError
from promptlab.options import check, name_of
from promptlab.program import Effect, Program, Requests, Until, discard
from promptlab.types import Reply, Request


@dataclass(slots=True, eq=False)
class Node:
    """A live program: its branch in the tree of its root (by number), and how many effects it has had.

    `name` is that of the root in traces: another one in every run.
    """

    program: Program[Any]
    branch: tuple[int, ...] = ()
    round: int = 0
    root: int = 0
    name: str = ""
    in_step: ClassVar[bool] = False  # with others, of which none has anything in flight while it is driven

    def step(self, answer: Any, error: BaseException | None) -> Effect[Any]:
        """Drives the program to its next effect. Raises StopIteration with the result, or what the program raises."""
        caller = asyncio._get_running_loop()
        # In its place a loop that refuses: else asyncio would put half of what the program awaits on the caller's.
        asyncio._set_running_loop(_IDLE if self.in_step and caller is not _BUSY else _BUSY)
        try:
            wish = self.send(answer, error)
        finally:
            asyncio._set_running_loop(caller)
        if isinstance(wish, Effect):
            return wish
        return self.step(None, _foreign(self.program, wish))

    def send(self, answer: Any, error: BaseException | None) -> Any:
        """As `step`, but in the caller's event loop, and it may return whatever the program awaits."""
        try:
            return self.program.send(answer) if error is None else self.program.throw(error)
        except PromptlabError as raised:
            _end_in_the_program(raised)
            raise

    def stamped(self, effect: Requests, model: Any) -> list[Request]:
        """The effect's requests with their branches. Raises Unsupported for what the model says it cannot do."""
        round = self.next_round()
        check(model, effect.requests)
        return [replace(r, branch=(*self.branch, round, *r.branch), program=self.name) for r in effect.requests]

    def next_round(self) -> int:
        self.round += 1
        return self.round - 1


def names(programs: Sequence[Any]) -> list[str]:
    """What the programs of a run are called in traces."""
    run = os.urandom(4).hex()
    return [f"{run}.{i}" for i in range(len(programs))]


@dataclass(slots=True)
class Prefix:
    """The results of a gather so far, in child order; `due` is how many of them there must be to decide.

    `until` is asked only when that many are there, so it sees the same prefixes whatever order results come in.
    """

    n: int
    until: Until | None
    results: list[Any] = field(default_factory=list)
    due: int = 0

    def __post_init__(self) -> None:
        self._consider()

    @property
    def decided(self) -> bool:
        return len(self.results) >= self.due

    def add(self, result: Any) -> None:
        self.results.append(result)
        if self.decided:
            self._consider()

    def _consider(self) -> None:
        done = len(self.results)
        if self.until is None or done == self.n:
            self.due = self.n
            return
        verdict: Any = self.until(list(self.results))
        verdict = verdict.item() if hasattr(verdict, "item") else verdict  # numpy's bool and int
        if not isinstance(verdict, int) or verdict < 0:
            raise SetupError(f"`until` answers True, False or how many more results it takes (≥ 0), got {verdict!r}.")
        more = (0 if verdict else 1) if isinstance(verdict, bool) else verdict
        self.due = min(self.n, done + more)


def checked(model: Any, requests: Sequence[Request], replies: Any) -> list[Reply | ModelError]:
    """The replies, if they are as many as the requests and of the right kind. Raises SetupError if not."""
    if not isinstance(replies, list | tuple) or len(replies) != len(requests):
        discard(replies)
        got = f"{len(replies)} replies" if isinstance(replies, list | tuple) else f"a {type(replies).__name__}"
        raise SetupError(f"{name_of(model)} answered {len(requests)} requests with {got}; it owes a list, one each.")
    for request, reply in zip(requests, replies, strict=True):
        if not isinstance(reply, Reply | ModelError):
            raise SetupError(f"{name_of(model)} owes a Reply or a ModelError for each request, got {reply!r}.")
        if request.continuations and isinstance(reply, Reply) and len(reply.scores) != len(request.continuations):
            count = f"{len(reply.scores)} scores for {len(request.continuations)} continuations"
            raise SetupError(f"{name_of(model)} gave {count}; it owes one each.")
    return list(replies)


def _refuse(*given: Any, **named: Any) -> NoReturn:
    discard(given)
    name, frame = "", sys._getframe(1)
    while frame.f_back and _module(frame).startswith("asyncio"):
        discard(list(frame.f_locals.values()))  # the coroutines asyncio was given: nobody will await them now
        name, frame = frame.f_code.co_qualname.removesuffix(".__aenter__"), frame.f_back
    raise ForeignAwaitable(_explained(frame.f_code.co_qualname, f"asyncio.{name}" if name else "the event loop"))


class _NoLoop:
    """What a program under `run` finds as its event loop: whatever asyncio wants of it is refused, in that line."""

    __hash__: Any = _refuse  # by it asyncio looks up the loop's current task, as TaskGroup and timeout do

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself and those who scan modules look at, as vLLM's import does
            return object.__getattribute__(self, name)
        return _refuse


_IDLE: Any = _NoLoop()
_BUSY: Any = _NoLoop()  # in the place of a loop in which requests are in flight, or of one that such a one waits for


def waiting_task() -> asyncio.Task[Any] | None:
    """The task, if there is one, that waits in this thread for what a loop on another thread will bring.

    Raises ForeignAwaitable in a program that a busy loop drives: that would stand still, and what is in flight in it
    may hold the place, or the money, that is waited for.
    """
    running = asyncio._get_running_loop()
    if running is _BUSY:
        raise ForeignAwaitable(
            "A hosted model was asked by `run`, or by its `generate`, inside a program that `run` drives on a hosted "
            "model: all that is in flight there would stand still meanwhile. Await the other program itself, with to=… "
            "and Routed for another model; in a function that cannot await, such as a score, ask an engine in this "
            "process."
        )
    return None if running is None or running is _IDLE else asyncio.current_task()


def refuse_within() -> None:
    """Raises ForeignAwaitable in a program that `run` drives."""
    if asyncio._get_running_loop() in (_IDLE, _BUSY):
        raise ForeignAwaitable(
            "`arun` was awaited in a program that `run` drives. Await the other program itself, with to=… and Routed "
            "for another model; or drive this one with `await arun(program, model)` too."
        )


def _foreign(program: Any, wish: Any) -> ForeignAwaitable:
    """Names what was awaited by the object that reached us, and who did by the innermost coroutine that is not ours."""
    waiting = list(_waiting(program))
    inner: CodeType = waiting[-1].cr_code
    kind = "a bare yield" if wish is None else f"a {type(wish).__name__}"
    what = f"asyncio.{inner.co_qualname} ({kind})" if _module(waiting[-1].cr_frame).startswith("asyncio") else kind
    theirs = [each for each in waiting if not _module(each.cr_frame).startswith(("promptlab.", "asyncio"))]
    who: CodeType = (theirs or waiting[:1])[-1].cr_code
    return ForeignAwaitable(_explained(who.co_qualname, what))


def _waiting(program: Any) -> Iterator[Any]:
    """A program and the coroutines that it waits in, also through `traced`, which drives its program by hand."""
    while iscoroutine(program):
        yield program
        program = program.cr_await
        frame = program.gi_frame if isgenerator(program) else None
        if frame is not None and _module(frame) == "promptlab.program":
            program = frame.f_locals.get("program")


def _explained(program: str, what: str) -> str:
    return (
        f"{program} awaited {what}, which is not an effect. Under `run` a program awaits only ask, sample, score, "
        "call, gather, attempt and programs of these; use `await arun(program, model)` to await anything else too."
    )


def _end_in_the_program(error: BaseException) -> None:
    """Cuts the lines of effects off a traceback, so that it ends in the program's line."""
    below = ("promptlab.program", "promptlab.runners", "asyncio")
    last: TracebackType | None = None
    entry = error.__traceback__
    while entry is not None:
        if not _module(entry.tb_frame).startswith(below):
            last = entry
        entry = entry.tb_next
    if last is not None:
        last.tb_next = None


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""
