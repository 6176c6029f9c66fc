"""ReAct in the paper's text form."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from promptlab.prompt import Prompt
from promptlab.strategies.acting.actions import (
    FINISH,
    FORMAT,
    LABEL,
    OBSERVATION,
    Action,
    arguments,
    first_turn,
    is_whole,
    quoted,
    repaired,
    strict,
    without_observation,
)
from promptlab.strategies.acting.approval import Approval
from promptlab.strategies.acting.context import capped
from promptlab.strategies.acting.loop_guard import NUDGE
from promptlab.strategies.acting.talk import Stopped, Talk, carry_out
from promptlab.tool import Tool
from promptlab.types import Answer, Message, Reply, ToolCall

STOP = f"\n{OBSERVATION.strip()}"


def is_result(chat: Sequence[Message], i: int) -> bool:
    return chat[i].role == "user" and chat[i].content.startswith(OBSERVATION)


async def writing(
    talk: Talk, tools: Sequence[Tool], prompt: Prompt, max_steps: int, approval: Approval
) -> Answer | Stopped:
    """A turn's action is answered by an observation; finish[…] is the answer.

    A chat that ends in an action that nobody has answered yet is taken up there.
    """
    names = {tool.spec.name for tool in tools} | {FINISH}
    recall(talk, names)
    cut_off = False
    for step in range(max_steps + 1):
        if talk.chat[-1].role == "assistant":
            action = action_in(talk.chat[-1].content, talk, names, cut_off)
            if action is not None and action.name == FINISH:
                return prompt.parse(action.argument)
            if stopped := await observed(talk, action, cut_off, tools, approval):
                return stopped
        if step == max_steps:
            break
        reply = await talk.ask(stop=[STOP])
        cut_off = reply.finish == "length"
        talk.add(turn_of(reply, talk, names))
    return Stopped(f"no answer in {max_steps} steps", may_conclude=True)


def turn_of(reply: Reply, talk: Talk, names: Collection[str]) -> Message:
    """A reply as a turn of the chat, without what it makes up of the turns that follow."""
    text = without_observation(reply.text)
    if talk.rules.repair and (action := repaired(text, names)):
        text = first_turn(text, action)
    return reply.message if text == reply.text else Message("assistant", text)


def action_in(text: str, talk: Talk, names: Collection[str], cut_off: bool) -> Action | None:
    action = (repaired if talk.rules.repair else strict)(text, names)
    return None if action is not None and cut_off and not is_whole(text, action) else action


async def observed(
    talk: Talk, action: Action | None, cut_off: bool, tools: Sequence[Tool], approval: Approval
) -> Stopped | None:
    seen: list[str] = []
    if action is None:
        seen = [not_an_action(talk.chat[-1].content, cut_off)]
    else:
        asked = ToolCall(f"step-{len(talk.chat)}", action.name, arguments(action, tools))
        stopped = await carry_out([asked], tools, approval, lambda _, content: seen.append(content))
        if stopped is not None and not seen:  # it waits, and is to be taken up with the action still open
            return stopped
        if stopped is not None:
            talk.add(Message("user", OBSERVATION + seen[0]))
            return stopped
    text = quoted(capped(seen[0], talk.rules.output_chars))
    readable = action is not None and action.name in {tool.spec.name for tool in tools}
    did = action[:2] if action is not None else wished(talk.chat[-1].content) or talk.chat[-1].content
    verdict = talk.guard.note(did, text, readable=readable)
    talk.add(Message("user", f"{OBSERVATION}{text}\n{NUDGE}" if verdict.nudge else OBSERVATION + text))
    return Stopped(verdict.stop, may_conclude=True) if verdict.stop else None


def not_an_action(text: str, cut_off: bool) -> str:
    if cut_off:
        return f"Error: the reply was cut off before its action was whole. Be brief. {FORMAT}"
    said = capped(wished(text), 200)
    return f"Error: there is no action{f' in “{said}”' if said else ''}. {FORMAT}"


def wished(text: str) -> str:
    """What stands for an action where none can be read."""
    label = LABEL.search(text)
    return text[label.end() :].strip() if label else ""


def recall(talk: Talk, names: Collection[str]) -> None:
    """What was done since the question, of a chat that is taken up again."""
    users = [i for i, message in enumerate(talk.chat) if message.role == "user" and not is_result(talk.chat, i)]
    for i in range(max(users, default=0) + 1, len(talk.chat) - 1):
        if is_result(talk.chat, i + 1):
            text, seen = talk.chat[i].content, talk.chat[i + 1].content.removeprefix(OBSERVATION)
            action = action_in(text, talk, names, cut_off=False)
            talk.guard.note(action[:2] if action else wished(text) or text, seen.removesuffix(f"\n{NUDGE}"))
            talk.guard.nudged = talk.guard.nudged or seen.endswith(NUDGE)
