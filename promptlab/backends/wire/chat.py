"""OpenAI's chat completions, which most other servers speak too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from promptlab.backends.wire.common import Json, calls_from, described, is_closed, part, whole, without_end
from promptlab.errors import Malformed, ModelError, Refused
from promptlab.types import Message, Reply, Request, Token, Usage

FINISH = {"stop": "stop", "length": "length", "tool_calls": "calls", "function_call": "calls"}


def body(request: Request, n: int = 1, seed: int | None = None, most: str = "max_completion_tokens") -> Json:
    """The parameters of a request but for the model; `most` is how the server calls the most tokens of a reply."""
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
        schema = {"name": "reply", "schema": request.schema, "strict": is_closed(request.schema)}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
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
            "function": {"name": call.name, "arguments": call.unread or json.dumps(dict(call.arguments))},
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
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    tokens = tuple(Token(str(t["token"]), float(t["logprob"])) for t in logprobs)
    text, said = message.get("content") or "", choice.get("finish_reason")
    finish: Any = "calls" if calls and said == "stop" else FINISH.get(str(said), "stop")
    if finish == "stop" and not choice.get("stop_reason", request.stop):  # vLLM says which stop string it was, if any
        tokens = without_end(tokens, text)
    reply = Reply(text, calls, finish, tokens=tokens, usage=usage)
    if refusal := message.get("refusal"):
        return Refused(f"the model declined: {refusal}", reply=reply)
    if said == "content_filter":
        return Refused("the provider's content filter ended the reply", reply=reply)
    if said is None:
        return Malformed("the reply ended without a reason: it was cut off on its way", reply=reply)
    return whole(reply, request)


def usage_of(said: Mapping[str, Any]) -> Usage:
    read, written = said.get("prompt_tokens_details") or {}, said.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=said.get("prompt_tokens") or 0,
        cached_tokens=read.get("cached_tokens") or 0,
        output_tokens=said.get("completion_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )


async def collected(chunks: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that the chunks of a stream add up to.

    A stream that was cut off has choices without an end. Some servers never tell one, but do send the usage, which
    comes last: then nothing is missing.
    """
    choices: dict[int, Json] = {}
    usage: Any = None
    async for chunk in chunks:
        usage = chunk.get("usage") or usage
        for piece in chunk.get("choices") or ():
            blank: Json = {"message": {"content": "", "tool_calls": []}, "logprobs": {"content": []}}
            choice = choices.setdefault(piece["index"], {"index": piece["index"], "finish_reason": None, **blank})
            add(choice, piece)
    for choice in choices.values():
        choice["finish_reason"] = choice["finish_reason"] or ("stop" if usage else None)
    return {"choices": list(choices.values()), "usage": usage}


def add(choice: Json, piece: Mapping[str, Any]) -> None:
    """Add what a chunk says to its choice."""
    message, delta = choice["message"], piece.get("delta") or {}
    message["content"] += delta.get("content") or ""
    if delta.get("refusal"):
        message["refusal"] = message.get("refusal", "") + delta["refusal"]
    for wish in delta.get("tool_calls") or ():
        calls = message["tool_calls"]
        at = wish.get("index")
        if at is None:  # some servers number them not at all: a new id is a new call
            at = len(calls) if wish.get("id") or not calls else len(calls) - 1
        while len(calls) <= at:
            calls.append({"id": None, "function": {"name": "", "arguments": ""}})
        function = wish.get("function") or {}
        calls[at]["id"] = calls[at]["id"] or wish.get("id")
        named = calls[at]["function"]["name"] or function.get("name") or ""  # told twice by some
        calls[at]["function"]["name"] = named
        calls[at]["function"]["arguments"] += function.get("arguments") or ""
    choice["logprobs"]["content"] += (piece.get("logprobs") or {}).get("content") or ()
    choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if "stop_reason" in piece:
        choice["stop_reason"] = piece["stop_reason"]
