"""OpenAI's legacy completions: plain text that goes on. The only one that tells how likely a given text is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from promptlab.alternatives import scores_of
from promptlab.backends.wire.chat import usage_of
from promptlab.backends.wire.common import FINISH, Json, in_bytes, odd_end, part, text_in, whole, without_end
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
        context, told = text_of(request.messages), zip(choices, request.continuations, strict=True)
        log_p, tokens = zip(*(scored(part(c, "logprobs", dict), context, text) for c, text in told), strict=True)
        return [Reply(scores=scores_of(log_p, tokens, request.alternatives), usage=usage)]
    return [read_choice(choice, request, usage if i == 0 else Usage()) for i, choice in enumerate(choices)]


PARTIAL = "\ufffd".encode()  # how a token reads that is part of a character only


def scored(logprobs: Mapping[str, Any], context: str, text: str) -> tuple[float, list[str]]:
    """Σ log p of the tokens of `text` after `context`, in nats, and these. Raises Malformed where none begins there.

    Tokens are counted from the end: before the context a server may put tokens of its own, and their letters, and those
    of tokens that are part of a character, make `text_offset` another text's.
    """
    tokens, values = part(logprobs, "tokens", list), part(logprobs, "token_logprobs", list)
    if not tokens or len(tokens) != len(values):
        raise Malformed("the server tells no log-probabilities of the tokens of a prompt")
    written = [in_bytes(token) for token in tokens]
    begins = len(tokens) - ending(written, in_bytes(context), in_bytes(text))
    if begins == 0 and values[0] is None:  # nothing is before the very first token
        begins = 1
    if None in values[begins:]:
        raise Malformed("the server does not tell the log-probabilities of all tokens")
    return float(sum(values[begins:])), tokens[begins:]


def ending(tokens: Sequence[bytes], context: bytes, text: bytes) -> int:
    """How many tokens at the end spell the text; as many as may be, as one that reads as nothing begins a character."""
    exact = loose = None
    least, pattern = 0, b""
    for n in range(len(tokens) + 1):
        if n:
            token = tokens[-n]
            least += len(token) - token.count(PARTIAL) * (len(PARTIAL) - 1)
            pattern = like(token) + pattern
        if least > len(text):
            break
        if least == len(text) and b"".join(tokens[len(tokens) - n :]) == text:
            exact = n
        elif re.fullmatch(pattern, text) and follows(tokens[: len(tokens) - n], context, pattern):
            loose = n
    n_found = loose if exact is None else exact
    if n_found is None:
        raise Malformed("no token begins where the text to score begins, or the tokens do not spell it")
    return n_found


def like(token: bytes) -> bytes:
    """A pattern of what a token may stand for: vLLM's, of sentencepiece, have lost the space that they begin with."""
    return b" ?" + b"[\x80-\xff]{1,3}".join(map(re.escape, token.split(PARTIAL)))


def follows(before: Sequence[bytes], context: bytes, pattern: bytes) -> bool:
    """Whether what the pattern begins with can follow right behind a context that these tokens end."""
    if not before or not context:
        return not context and len(before) <= 1  # a token that begins every text
    if before[-1].endswith(PARTIAL):
        return context[-1] >= 0x80 and not pattern.startswith(b" ?[\x80")
    return context.endswith(before[-1].rpartition(PARTIAL)[2])


def read_choice(choice: Mapping[str, Any], request: Request, usage: Usage) -> Reply | ModelError:
    said, logprobs = choice.get("finish_reason"), choice.get("logprobs") or {}
    written = zip(logprobs.get("tokens") or (), logprobs.get("token_logprobs") or (), strict=True)
    tokens = tuple(Token(token, p) for token, p in written if p is not None)
    text = text_in(choice.get("text"))
    if said == "stop" and not choice.get("stop_reason", request.stop):  # vLLM says which stop string it was, if any
        tokens = without_end(tokens, text)
    reply = Reply(text, (), FINISH.get(str(said), "stop"), tokens=tokens, usage=usage)
    if said == "content_filter":
        return Refused("the provider's content filter ended the reply", reply=reply)
    return whole(reply, request) if said in FINISH else odd_end(said, reply)


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
