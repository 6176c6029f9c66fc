"""ReAct by a provider's own tool calls."""

from __future__ import annotations

from collections.abc import Sequence

from promptlab.errors import Truncated
from promptlab.jsonable import dumped
from promptlab.prompt import Prompt
from promptlab.strategies.acting.approval import Approval
from promptlab.strategies.acting.context import capped
from promptlab.strategies.acting.loop_guard import NUDGE, Verdict
from promptlab.strategies.acting.pairing import unanswered, with_own_ids
from promptlab.strategies.acting.talk import Stopped, Talk, carry_out
from promptlab.tool import Tool
from promptlab.types import Answer, Message, ToolCall

CUT_OFF = "Your reply was cut off before its tool call was whole. Make the call again, with less text in it."


def is_result(chat: Sequence[Message], i: int) -> bool:
    return chat[i].role == "tool"


async def calling(
    talk: Talk, tools: Sequence[Tool], prompt: Prompt, max_steps: int, approval: Approval
) -> Answer | Stopped:
    """A turn's calls are answered, each exactly once and in the model's order; a turn without any is the answer.

    A chat that ends in calls that nobody has answered yet is taken up there.
    """
    recall(talk)
    for step in range(max_steps + 1):
        if calls := unanswered(talk.chat):
            if stopped := await answered(talk, calls, tools, approval):
                return stopped
        elif talk.chat[-1].role == "assistant":
            return prompt.parse(talk.chat[-1].content)
        if step == max_steps:
            break
        try:
            reply = await talk.ask(tools=tools)
        except Truncated as error:
            if error.reply is not None and error.reply.text:
                talk.add(Message("assistant", error.reply.text))
            talk.add(Message("user", CUT_OFF))
            if stop := talk.guard.note(CUT_OFF, step, readable=False).stop:
                return Stopped(stop)
            continue
        talk.add(with_own_ids(reply.message, talk.chat))
    return Stopped(f"no answer in {max_steps} steps", may_conclude=True)


async def answered(talk: Talk, calls: Sequence[ToolCall], tools: Sequence[Tool], approval: Approval) -> Stopped | None:
    def answer(to: ToolCall, content: str) -> None:
        talk.add(Message("tool", capped(content, talk.rules.output_chars), call_id=to.id))

    if stopped := await carry_out(calls, tools, approval, answer):
        return stopped
    names = {tool.spec.name for tool in tools}
    verdict = noted(talk, readable=any(call.name in names and not call.unread for call in calls))
    if verdict.nudge:
        talk.add(Message("user", NUDGE))
    return Stopped(verdict.stop, may_conclude=True) if verdict.stop else None


def noted(talk: Talk, readable: bool) -> Verdict:
    """The last turn with its results, as a step."""
    turn = max(i for i, message in enumerate(talk.chat) if message.role == "assistant")
    return talk.guard.note(*as_step(talk.chat, turn), readable=readable)


def as_step(chat: Sequence[Message], i: int) -> tuple[bytes, tuple[str, ...]]:
    """What a turn did and what came of it, whatever the ids."""
    did = dumped([[call.name, dict(call.arguments), call.unread] for call in chat[i].calls])
    results = []
    for message in chat[i + 1 :]:
        if message.role != "tool":
            break
        results.append(message.content)
    return did, tuple(results)


def recall(talk: Talk) -> None:
    """What was done since the user last said something, of a chat that is taken up again."""
    said = max(
        (i for i, m in enumerate(talk.chat) if m.role == "user" and m.content not in (NUDGE, CUT_OFF)), default=0
    )
    for i, message in enumerate(talk.chat[said:], said):
        if message.calls and (did := as_step(talk.chat, i)) and len(did[1]) == len(message.calls):
            talk.guard.note(*did)
        talk.guard.nudged = talk.guard.nudged or message.content == NUDGE
