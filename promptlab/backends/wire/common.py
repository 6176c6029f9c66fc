"""What the wire formats have in common: texts, tokens, tool calls and faults, as they come in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import chain, count
from typing import Any

from promptlab.errors import Malformed, ModelError, Truncated, Unavailable, reason
from promptlab.types import Finish, Reply, Request, Token, ToolCall

Json = dict[str, Any]


def calls_from(written: Iterable[tuple[str | None, str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls of (id, name, arguments), arguments as JSON text or an object already; every id is there and unique.

    Arguments that are no JSON object are the model's doing: they stay on the call, unread, for the program to answer.
    """
    listed = list(written)
    taken = {given for given, _, _ in listed if given}
    used: set[str] = set()
    calls: list[ToolCall] = []
    for i, (given, name, arguments) in enumerate(listed):
        id = given if given and given not in used else free(f"{given or 'call'}_{i}", taken)
        used.add(id)
        taken.add(id)
        try:
            read = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError):
            read = None
        if isinstance(read, dict):
            calls.append(ToolCall(id, name, read))
        else:
            calls.append(ToolCall(id, name, unread=arguments if isinstance(arguments, str) else json.dumps(arguments)))
    return tuple(calls)


def arguments_of(call: ToolCall) -> str:
    """A call's arguments as they can go back: an object as JSON, an empty one where what was written is none.

    Servers that read them (llama.cpp's, vLLM's) refuse the whole chat else. The tool's answer quotes what was written.
    """
    return json.dumps(dict(call.arguments))


def free(wanted: str, taken: Set[str]) -> str:
    """The name, or one that begins like it and is not taken."""
    names = chain([wanted], (f"{wanted}_{i}" for i in count(1)))
    return next(name for name in names if name not in taken)


def text_in(content: Any) -> str:
    """A text that came as a string, or in parts, which stand beside others (thoughts); null is an empty text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [p["text"] for p in content if p["type"] in ("text", "output_text")]
    return "".join(texts)


def tokens_of(rows: Sequence[Mapping[str, Any]], text: str, ended: bool) -> tuple[Token, ...]:
    """A text's tokens as chats and responses tell them; one that `ended` of itself is without its end."""
    tokens = tuple(Token(str(row["token"]), float(row["logprob"])) for row in rows)
    return without_end(tokens, text, rows[-1].get("bytes")) if ended and rows else tokens


def without_end(tokens: Sequence[Token], text: str, spelled: Iterable[int] | None = None) -> tuple[Token, ...]:
    """The tokens of a text without the one that ended it, which vLLM's server counts among them and OpenAI does not.

    `spelled` are the last token's bytes, where they are told. A token that is part of a character only reads as U+FFFD
    (vLLM) or as escaped bytes (OpenAI), and is kept.
    """
    if not tokens or "\ufffd" in tokens[-1].text:
        return tuple(tokens)
    end = bytes(spelled) if spelled else in_bytes(tokens[-1].text)
    return tuple(tokens if in_bytes(text).endswith(end) else tokens[:-1])


def in_bytes(token: str) -> bytes:
    """What a token stands for. OpenAI's completions write those that are part of a character "bytes:\\xe2\\x89"."""
    if token.startswith("bytes:") and "\\x" in token:
        return token.removeprefix("bytes:").encode().decode("unicode_escape").encode("latin-1")
    return token.encode("utf-8", "surrogatepass")


# Why a reply ended, in the words of OpenAI, the servers that speak its protocol (TGI, Mistral) and Anthropic.
FINISH: Mapping[str, Finish] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length"), "length"),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use"), "calls"),
}
BROKEN_OFF = frozenset({"error", "abort", "insufficient_system_resource"})  # vLLM, SGLang, OpenRouter, DeepSeek


def odd_end(said: Any, reply: Reply) -> ModelError:
    """What a reply is that ended for no reason, or for none of those known."""
    if said in BROKEN_OFF:
        broken = Unavailable(f"the provider broke the reply off: {said}")
        broken.reply = reply
        return broken
    if said is None:
        return Malformed("the reply ended without a reason: it was cut off on its way", reply=reply)
    return Malformed(f"the reply ended for a reason that is not known: {str(said)[:80]!r}", reply=reply)


def whole(reply: Reply, request: Request) -> Reply | ModelError:
    """The reply, unless it ended at its most tokens in the middle of what has to be whole."""
    if reply.finish != "length":
        return reply
    if reply.calls:
        return Truncated(f"the reply ended at {request.max_tokens or 'its most'} tokens in a tool call", reply=reply)
    if request.schema is not None:
        try:
            json.loads(reply.text)
        except (ValueError, RecursionError):
            most = request.max_tokens or "its most"
            return Truncated(f"the reply ended at {most} tokens before its JSON was whole", reply=reply)
    return reply


def parsed(text: str) -> Json:
    """An answer's JSON object. Raises Malformed for a proxy's HTML page and the like."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Malformed(f"the server's answer is no JSON object but begins {text.strip()[:80]!r}")
    return answer


def part(answer: Mapping[str, Any], name: str, kind: type) -> Any:
    """What an answer has under a name. Raises Malformed where it is not there or of another kind."""
    value = answer.get(name)
    if not isinstance(value, kind):
        raise Malformed(f"the server's answer has no {name}: {json.dumps(answer)[:100]}")
    return value


@contextmanager
def reading() -> Iterator[None]:
    """What an answer of another shape makes a reader raise is Malformed: one request's failure, not the run's end."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"the server's answer is not of its format: {reason(error)}") from None
