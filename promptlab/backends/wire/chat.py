"""OpenAI's chat completions, which most other servers speak too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from promptlab.backends.wire.common import (
    FINISH,
    Json,
    arguments_of,
    calls_from,
    odd_end,
    part,
    text_in,
    tokens_of,
    whole,
)
from promptlab.backends.wire.schemas import OPENAI, described, strict
from promptlab.errors import Malformed, ModelError, Refused
from promptlab.types import Message, Reply, Request, Usage


def body(request: Request, n: int = 1, seed: int | None = None, most: str = "max_completion_tokens") -> Json:
    """The parameters of a request but for the model; `most` is how the server calls the most tokens of a reply.

    A schema is held to strictly where it can be, and then adapted as `schemas.held` says.
    """
    given: Json = {"messages": [turn(message) for message in request.messages]}
    if n > 1:
        given["n"] = n
    options = {"temperature": request.temperature, most: request.max_tokens, "seed": seed}
    given |= {name: value for name, value in options.items() if value is not None}
    if request.top_p != 1:
        given["top_p"] = request.top_p
    if request.stop:
        given["stop"] = list(request.stop)
    if request.logprobs:
        given["logprobs"] = True
    if request.tools:
        given["tools"] = [{"type": "function", "function": described(tool)} for tool in request.tools]
    if request.schema is not None:
        schema, is_strict = strict(request.schema, OPENAI)
        form = {"name": "reply", "schema": schema, "strict": is_strict}
        given["response_format"] = {"type": "json_schema", "json_schema": form}
    return given


def turn(message: Message) -> Json:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}
    if not message.calls:
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": arguments_of(call)},
        }
        for call in message.calls
    ]
    return {"role": message.role, "content": message.content or None, "tool_calls": calls}


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    """A reply for every choice; the first has the usage of the prompt, which is paid for once."""
    choices = part(answer, "choices", list)
    if not choices:
        raise Malformed("the server's answer has no choices")
    usage = usage_of(answer.get("usage") or {})
    replies: list[Reply | ModelError] = []
    for i, choice in enumerate(sorted(choices, key=lambda choice: choice.get("index") or 0)):
        replies.append(read_choice(choice, request, usage if i == 0 else Usage()))
    return replies


def read_choice(choice: Mapping[str, Any], request: Request, usage: Usage) -> Reply | ModelError:
    message = part(choice, "message", dict)
    functions = [(call.get("id"), call.get("function") or {}) for call in message.get("tool_calls") or ()]
    calls = calls_from((id, str(f.get("name") or ""), f.get("arguments")) for id, f in functions)
    text, said = text_in(message.get("content")), choice.get("finish_reason")
    finish = FINISH.get(str(said), "stop")
    if calls and finish == "stop":
        finish = "calls"
    ended = finish == "stop" and not choice.get("stop_reason", request.stop)  # vLLM says which stop string it was
    tokens = tokens_of((choice.get("logprobs") or {}).get("content") or (), text, ended)
    reply = Reply(text, calls, finish, tokens=tokens, usage=usage)
    if refusal := message.get("refusal"):
        return Refused(f"the model declined: {refusal}", reply=reply)
    if said == "content_filter":
        return Refused("the provider's content filter ended the reply", reply=reply)
    return whole(reply, request) if said in FINISH else odd_end(said, reply)


def usage_of(said: Mapping[str, Any]) -> Usage:
    """Some servers (xAI's) count what was reasoned beside the completion: here it is part of the output, always."""
    read, details = said.get("prompt_tokens_details") or {}, said.get("completion_tokens_details") or {}
    prompt, written = said.get("prompt_tokens") or 0, said.get("completion_tokens") or 0
    thought = details.get("reasoning_tokens") or 0
    beside = thought > written or (thought > 0 and prompt + written + thought == said.get("total_tokens"))
    return Usage(
        input_tokens=prompt,
        cached_tokens=read.get("cached_tokens") or 0,
        output_tokens=written + thought if beside else written,
        reasoning_tokens=thought,
        cache_write_tokens=read.get("cache_write_tokens") or 0,
    )


async def collected(chunks: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that the chunks of a stream add up to.

    A stream that was cut off has choices without an end. Some servers never tell one, but do send the usage, which
    comes last and with nothing else: then nothing is missing. Others (vLLM's continuous_usage_stats) count as they go,
    and there the usage is no sign of the end.
    """
    choices: dict[int, Json] = {}
    usage: Any = None
    over, begun = False, False
    async for chunk in chunks:
        pieces = chunk.get("choices") or ()
        silent = not any(
            value for piece in pieces for name, value in (piece.get("delta") or {}).items() if name != "role"
        )
        if told := chunk.get("usage"):
            over = not pieces or (silent and begun and usage is None)
            usage = told
        elif not silent:
            over = False
        begun = True
        for piece in pieces:
            blank: Json = {"message": {"content": "", "tool_calls": []}, "logprobs": {"content": []}}
            choice = choices.setdefault(piece["index"], {"index": piece["index"], "finish_reason": None, **blank})
            add(choice, piece)
    for choice in choices.values():
        choice["message"]["tool_calls"].sort(key=lambda call: call["index"] or 0)
        choice["finish_reason"] = choice["finish_reason"] or ("stop" if over else None)
    return {"choices": list(choices.values()), "usage": usage}


def add(choice: Json, piece: Mapping[str, Any]) -> None:
    """Add what a chunk says to its choice."""
    message, delta = choice["message"], piece.get("delta") or {}
    message["content"] += text_in(delta.get("content"))
    if delta.get("refusal"):
        message["refusal"] = message.get("refusal", "") + delta["refusal"]
    for wish in delta.get("tool_calls") or ():
        call = call_of(wish, message["tool_calls"])
        function, told = call["function"], wish.get("function") or {}
        call["id"] = call["id"] or wish.get("id")
        function["name"] = function["name"] or told.get("name") or ""  # told twice by some
        function["arguments"] += told.get("arguments") or ""
    choice["logprobs"]["content"] += (piece.get("logprobs") or {}).get("content") or ()
    choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if "stop_reason" in piece:
        choice["stop_reason"] = piece["stop_reason"]


def call_of(wish: Mapping[str, Any], calls: list[Json]) -> Json:
    """The call that a chunk goes on with: the last of its index. Where all have one (Gemini) or none, ids tell."""
    at, id = wish.get("index"), wish.get("id")
    known = [call for call in calls if call["index"] == at]
    if known and (not id or not known[-1]["id"] or id == known[-1]["id"]):
        return known[-1]
    calls.append({"index": at, "id": None, "function": {"name": "", "arguments": ""}})
    return calls[-1]
