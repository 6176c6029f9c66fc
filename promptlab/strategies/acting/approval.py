"""Which of a model's calls are run: a table of decisions by tool, some of which may be left to a human."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Literal, TypeAlias, get_args

from promptlab.errors import SetupError
from promptlab.program import call
from promptlab.tool import Tool
from promptlab.types import ToolCall, ToolSpec

Do = Literal["approve", "edit", "reject", "terminate", "wait"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a call. `why` is told to the model, or in the answer; `arguments` are those of an edited call.

    approve: it is run. edit: it is run with other arguments, and the model is told. reject: it is not, and the model is
    told why. terminate: neither it nor those beside it are run, and the run ends. wait: likewise, but nothing is
    answered, so that the chat, as it is saved, can be taken up again once somebody has decided.
    """

    do: Do
    why: str = ""
    arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.do not in get_args(Do) or (self.do == "edit") != (self.arguments is not None):
            raise SetupError(f"A decision is one of {', '.join(get_args(Do))}, and edit has arguments; got {self}.")


Approver: TypeAlias = Callable[[ToolCall], Decision | Do | Awaitable[Decision | Do]]
Approval: TypeAlias = Mapping[str, Decision | Do | Approver]  # by the tool's name; "*" is for all others


def check_approval(approval: Approval, tools: Sequence[Tool]) -> None:
    """Raises SetupError for a table that holds what is no decision or names no tool, before anything is asked."""
    if not isinstance(approval, Mapping):
        raise SetupError(f"approval is a table of decisions by tool, such as {{'lookup': 'reject'}}; got {approval!r}.")
    for rule in approval.values():
        if not callable(rule):
            _as_decision(rule)
    names = [tool.spec.name for tool in tools]
    if strange := [key for key in approval if key not in ("*", *names)]:
        raise SetupError(
            f"approval names {', '.join(map(repr, strange))}, but the tools are: {', '.join(names) or 'none'}. "
            "“*” is for all that are not named."
        )


async def decisions(calls: Sequence[ToolCall], approval: Approval) -> list[Decision]:
    """A decision for each call, in order. What the table does not name is approved.

    A function decides as a tool does its work: by the effect `call`, so that it may ask and wait. If it fails, the call
    is rejected.
    """
    return [await _decision(each, approval.get(each.name, approval.get("*", "approve"))) for each in calls]


async def _decision(asked: ToolCall, rule: Decision | Do | Approver) -> Decision:
    if not callable(rule):
        return _as_decision(rule)
    approver, heard = rule, list[Decision]()

    async def hear(answer: Awaitable[Decision | Do]) -> None:
        heard.append(_as_decision(await answer))

    def decide() -> Awaitable[None] | None:
        answer = approver(asked)
        if isawaitable(answer):
            return hear(answer)
        heard.append(_as_decision(answer))
        return None

    [said] = await call([ToolCall(asked.id, "approval")], [Tool(ToolSpec("approval", "", {}), decide)])
    return heard[0] if heard else Decision("reject", f"the approval failed ({said.content})")


def _as_decision(given: Any) -> Decision:
    return given if isinstance(given, Decision) else Decision(given)
