"""What both forms of ReAct share: the chat, the rules that keep a run in bounds, and how calls are carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from promptlab.errors import ContextOverflow, SetupError, Unsupported
from promptlab.program import ask, call, gather
from promptlab.strategies.acting.approval import Approval, Decision, decisions
from promptlab.strategies.acting.context import BYTES_PER_TOKEN, Count, IsResult, capped, estimated_tokens, shortened
from promptlab.strategies.acting.loop_guard import Guard
from promptlab.tool import Tool
from promptlab.types import Message, Reply, ToolCall


@dataclass(frozen=True, slots=True)
class Rules:
    """What keeps a run of ReAct in bounds.

    `repair`: actions in text are read with forbearance; else only as the paper's code reads them. `repeats`: so often
    running may the same action have the same result before the model is told once, and stopped the next time; also
    stopped are two that take turns. `malformed`: so often running may an action not be readable, or name no tool.
    0 is never, for both. `output_chars`: of a longer result head and tail are shown. `context_tokens`: where a chat
    would grow beyond it (less `max_tokens`), old results are cleared, then old steps left out, to half of it;
    `count_tokens` counts, roughly unless the backend's own is given. `conclude`: where a run ends without an answer
    because of its steps or a circle, the model is asked once more for one. `watch` is given the chat whenever it has
    grown: to show it, and to keep it for `react` to go on with. It should be quick: it holds up the run.
    """

    repair: bool = True
    repeats: int = 3
    malformed: int = 3
    output_chars: int = 16_000
    context_tokens: int | None = None
    count_tokens: Count = estimated_tokens
    conclude: bool = False
    watch: Callable[[Sequence[Message]], None] | None = None

    def __post_init__(self) -> None:
        numbers = {"repeats": self.repeats, "malformed": self.malformed, "output_chars": self.output_chars}
        if wrong := [f"{name}={value!r}" for name, value in numbers.items() if value < 0]:
            raise SetupError(f"The numbers in Rules are 0 or more, got {', '.join(wrong)}.")
        if self.repeats == 1:
            raise SetupError("Rules(repeats=1) would stop at the first action; it is 2 or more, or 0 for never.")


class Stopped(NamedTuple):
    """Why a run ended without an answer, and whether the model may still be asked for one."""

    why: str
    may_conclude: bool = False


@dataclass(slots=True)
class Talk:
    """A chat as it happened, and as it is sent: the same, until it has to be shortened."""

    chat: list[Message]
    rules: Rules
    is_result: IsResult
    options: dict[str, Any]
    sent: list[Message] = field(init=False)
    began: int = field(init=False)
    guard: Guard = field(init=False)
    stops: bool = True  # whether the backend takes stop strings, as far as is known

    def __post_init__(self) -> None:
        self.sent, self.began = list(self.chat), len(self.chat)
        self.guard = Guard(self.rules.repeats, self.rules.malformed)
        self._make_room()

    def add(self, message: Message) -> None:
        """The next turn. Whether it fits is seen before anything is sent."""
        self.chat.append(message)
        self.sent.append(message)
        self._make_room()
        if self.rules.watch is not None:
            self.rules.watch(tuple(self.chat))

    def _make_room(self) -> None:
        """Shortens what is sent to half of the context if it is more than all of it, its last result too if need be."""
        if self.rules.context_tokens is None:
            return
        count, room = self.rules.count_tokens, self.rules.context_tokens - int(self.options.get("max_tokens") or 0)
        if count(self.sent) <= room:
            return
        self.sent = shortened(self.sent, room // 2, count, self.is_result)
        last, over = self.sent[-1], count(self.sent) - room
        if over > 0 and self.is_result(self.sent, len(self.sent) - 1):
            fits = max(len(last.content) - BYTES_PER_TOKEN * over - 100, 0)
            self.sent[-1] = replace(last, content=capped(last.content, fits))

    async def ask(self, stop: Sequence[str] = (), **more: Any) -> Reply:
        """The next reply. Where the context overflows it is asked once more, with half of the chat.

        Backends that take no stop strings are asked without.
        """
        try:
            return await self._ask(stop if self.stops else (), more)
        except ContextOverflow:
            half = self.rules.count_tokens(self.sent) // 2
            shorter = shortened(self.sent, half, self.rules.count_tokens, self.is_result)
            if shorter == self.sent:
                raise
            self.sent = shorter
            return await self._ask(stop if self.stops else (), more)

    async def _ask(self, stop: Sequence[str], more: dict[str, Any]) -> Reply:
        stopping: dict[str, Any] = {"stop": stop} if stop else {}
        try:
            return await ask(self.sent, **stopping, **more, **self.options)
        except Unsupported:
            if not stop:
                raise
            reply = await ask(self.sent, **more, **self.options)  # raises again if it was not for the stop strings
            self.stops = False
            return reply


async def carry_out(
    calls: Sequence[ToolCall], tools: Sequence[Tool], approval: Approval, answer: Callable[[ToolCall, str], None]
) -> Stopped | None:
    """Decides about a turn's calls and runs them together; `answer` is told each one's result, in the calls' order.

    All are decided before any is run. Where one of their tools is not `parallel`, they are run one after the other.
    """
    decided = await decisions(calls, approval)
    for each, decision in zip(calls, decided, strict=True):
        if decision.do == "wait":
            return Stopped(f"waiting for a decision on {each.name}{reason(decision)}")
    ended = next((pair for pair in zip(calls, decided, strict=True) if pair[1].do == "terminate"), None)
    if ended is not None:
        for each in calls:
            answer(each, "Error: not run; the run was ended.")
        return Stopped(f"ended before {ended[0].name} was run{reason(ended[1])}")
    results: dict[int, str] = {}
    told = 0

    async def run(i: int) -> None:
        nonlocal told
        results[i] = await result(calls[i], decided[i], tools)
        while told in results:  # a result waits for those of the calls before it
            answer(calls[told], results[told])
            told += 1

    if len(calls) > 1 and all(tool.parallel for tool in tools if tool.spec.name in {each.name for each in calls}):
        await gather(run(i) for i in range(len(calls)))
    else:
        for i in range(len(calls)):
            await run(i)
    return None


async def result(asked: ToolCall, decision: Decision, tools: Sequence[Tool]) -> str:
    if decision.do == "reject":
        return f"Error: not run; the call was rejected{reason(decision)}."
    if decision.do == "edit":
        assert decision.arguments is not None
        asked = replace(asked, arguments=decision.arguments, unread="")
    [message] = await call([asked], tools)
    if decision.do == "edit":
        return f"Run with other arguments, {dict(asked.arguments)}{reason(decision)}.\n{message.content}"
    return message.content


def reason(decision: Decision) -> str:
    return f": {decision.why}" if decision.why else ""
