"""OpenAI's legacy completions: plain text that goes on. The only one that tells how likely a given text is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from promptlab.backends.wire.chat import usage_of
from promptlab.backends.wire.common import Json, part, whole, without_end
from promptlab.errors import Malformed, ModelError, Refused
from promptlab.types import Message, Reply, Request, Token, Usage


def text_of(messages: Sequence[Message]) -> str:
    """A chat as the text to go on with: a single message as it is, several as paragraphs, answers under questions."""
    if len(messages) == 1:
        return messages[0].content
    return "".join(m.content + ("\n" if m.role == "user" else "\n\n") for m in messages)


def body(request: Request, n: int = 1, seed: int | None = None) -> Json:
    """The parameters of a request but for the model; of one with continuations, a prompt for each of them."""
    context = text_of(request.messages)
    if request.continuations:
        whole_texts = [context + text for text in request.continuations]
        return {"prompt": whole_texts, "max_tokens": 0, "echo": True, "logprobs": 0}
    given: Json = {"prompt": context}
    options = {"temperature": request.temperature, "max_tokens": request.max_tokens, "seed": seed}
    given |= {name: value for name, value in options.items() if value is not None}
    if n > 1:
        given["n"] = n
    if request.top_p != 1:
        given["top_p"] = request.top_p
    if request.stop:
        given["stop"] = list(request.stop)
    if request.logprobs:
        given["logprobs"] = 0
    return given


def read(answer: Mapping[str, Any], request: Request) -> list[Reply | ModelError]:
    """A reply for every choice, or one with the scores of all continuations."""
    choices = sorted(part(answer, "choices", list), key=lambda choice: choice.get("index") or 0)
    if not choices:
        raise Malformed("the server's answer has no choices")
    usage = usage_of(answer.get("usage") or {})
    if request.continuations:
        if len(choices) != len(request.continuations):
            raise Malformed(f"the server scored {len(choices)} of {len(request.continuations)} texts")
        start = len(text_of(request.messages))
        return [Reply(scores=tuple(score(part(c, "logprobs", dict), start) for c in choices), usage=usage)]
    return [read_choice(choice, request, usage if i == 0 else Usage()) for i, choice in enumerate(choices)]


def score(logprobs: Mapping[str, Any], start: int) -> float:
    """Σ log p of the tokens that begin at `start` or behind it, in nats."""
    offsets = part(logprobs, "text_offset", list)
    values = part(logprobs, "token_logprobs", list)
    if start not in offsets and offsets and offsets[-1] > start:
        raise Malformed("one token holds the end of the prompt and the beginning of the text to score")
    return float(sum(p for at, p in zip(offsets, values, strict=True) if at >= start and p is not None))


def read_choice(choice: Mapping[str, Any], request: Request, usage: Usage) -> Reply | ModelError:
    said, logprobs = choice.get("finish_reason"), choice.get("logprobs") or {}
    written = zip(logprobs.get("tokens") or (), logprobs.get("token_logprobs") or (), strict=True)
    tokens = tuple(Token(token, p) for token, p in written if p is not None)
    text = choice.get("text") or ""
    if said == "stop" and not choice.get("stop_reason", request.stop):  # vLLM says which stop string it was, if any
        tokens = without_end(tokens, text)
    reply = Reply(text, (), "length" if said == "length" else "stop", tokens=tokens, usage=usage)
    if said == "content_filter":
        return Refused("the provider's content filter ended the reply", reply=reply)
    if said is None:
        return Malformed("the reply ended without a reason: it was cut off on its way", reply=reply)
    return whole(reply, request)


async def collected(chunks: AsyncIterator[Mapping[str, Any]]) -> Json:
    """The answer that the chunks of a stream add up to."""
    choices: dict[int, Json] = {}
    usage: Any = None
    async for chunk in chunks:
        usage = chunk.get("usage") or usage
        for piece in chunk.get("choices") or ():
            blank: Json = {"text": "", "finish_reason": None, "logprobs": {"tokens": [], "token_logprobs": []}}
            choice = choices.setdefault(piece["index"], {"index": piece["index"], **blank})
            choice["text"] += piece.get("text") or ""
            for name in ("tokens", "token_logprobs"):
                choice["logprobs"][name] += (piece.get("logprobs") or {}).get(name) or ()
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if "stop_reason" in piece:
                choice["stop_reason"] = piece["stop_reason"]
    return {"choices": list(choices.values()), "usage": usage}
