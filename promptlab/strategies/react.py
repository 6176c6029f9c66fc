"""Think, act, observe, until there is an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from promptlab.program import ask, call
from promptlab.prompt import Prompt, shown
from promptlab.tool import Tool, as_tool
from promptlab.types import Answer, Message, ToolCall

Tools = Sequence[Tool | Callable[..., Any]]

FORMAT = 'Each time write "Thought: ..." and then "Action: tool[argument]".'
ACTION = re.compile(r"^\s*Action:\s*(\w+)\[(.*)\]", re.MULTILINE)
OBSERVATION = "Observation: "


async def react(
    question: str | Mapping[str, str],
    tools: Tools,
    prompt: Prompt = Prompt(),
    max_steps: int = 8,
    native: bool = True,
    **options: Any,
) -> Answer:
    """Yao et al. 2022 (arXiv 2210.03629): a thought and an action a step, each answered by an observation.

    With `native` the model calls tools as its provider has it, and what it says without calling any is the answer.
    Without, the paper's text form, which any model can write: "Thought: …", "Action: lookup[Lorn]", and the action
    finish[…] for the answer; the argument of a tool with several parameters is a JSON object. `trace` is the chat.
    Differs from the paper: no demonstrations unless `prompt` has some, the thought and the action come in one request,
    and an action that cannot be read or fails is an observation that says why.
    """
    if native:
        return await calling(question, tools, prompt, max_steps, **options)
    return await writing(question, tools, prompt, max_steps, **options)


async def calling(
    question: str | Mapping[str, str], tools: Tools, prompt: Prompt, max_steps: int, **options: Any
) -> Answer:
    """ReAct by the provider's tool calls."""
    chat = prompt.render(question)
    for _ in range(max_steps):
        reply = await ask(chat, tools=tools, **options)
        chat.append(reply.message)
        if not reply.calls:
            return prompt.parse(reply.text).but(trace=tuple(chat))
        chat += await call(reply.calls, tools)
    return Answer(None, why=f"no answer in {max_steps} steps", trace=tuple(chat))


async def writing(
    question: str | Mapping[str, str], tools: Tools, prompt: Prompt, max_steps: int, **options: Any
) -> Answer:
    """ReAct in the paper's text form."""
    made = [as_tool(tool) for tool in tools]
    *before, _ = prompt.render(question)
    wanted = "".join(f"{message.content}\n" for message in before if message.role == "system")
    shots = [message for message in before if message.role != "system"]
    chat = [Message("system", wanted + told(made)), *shots, Message("user", f"Question: {shown(question)}")]
    for step in range(max_steps):
        reply = await ask(chat, stop=[f"\n{OBSERVATION.strip()}"], **options)
        chat.append(reply.message)
        name, argument = action_of(reply.text)
        if name == "finish":
            return prompt.parse(argument).but(trace=tuple(chat))
        if name is None:
            observed = f"Error: there is no action. {FORMAT}"
        else:
            [result] = await call([ToolCall(f"step-{step}", name, arguments(name, argument, made))], made)
            observed = result.content
        chat.append(Message("user", OBSERVATION + observed))
    return Answer(None, why=f"no answer in {max_steps} steps", trace=tuple(chat))


def told(tools: Sequence[Tool]) -> str:
    """What the model is told of the tools in the text form."""
    names = ", ".join(f"{t.spec.name}[{', '.join(t.spec.parameters.get('properties', {}))}]" for t in tools)
    return f"Use tools: {names}. End with finish[answer]. {FORMAT}"


def action_of(text: str) -> tuple[str | None, str]:
    """The first action that a reply writes, as (tool, argument); (None, "") if it writes none."""
    found = ACTION.search(text)
    return (found[1], found[2].strip()) if found else (None, "")


def arguments(name: str, argument: str, tools: Sequence[Tool]) -> dict[str, Any]:
    """The argument by its parameter's name, or the JSON object that names them all."""
    parameters = next((list(t.spec.parameters.get("properties", {})) for t in tools if t.spec.name == name), [])
    if len(parameters) > 1:
        try:
            given = json.loads(argument)
        except json.JSONDecodeError:
            given = None
        if isinstance(given, dict):
            return given
    return {parameters[0]: argument} if parameters and argument else {}
