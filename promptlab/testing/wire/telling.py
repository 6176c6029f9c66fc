"""Telling what all formats have in common: events, texts cut in pieces, finishes, token counts, log-probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from typing import Any, NamedTuple, TypeVar

from promptlab.testing.wire.reading import Body
from promptlab.types import Finish, Reply, Token, ToolCall, Usage

T = TypeVar("T")


class Event(NamedTuple):
    """A server-sent event: its name, if the format names them, and its JSON (or a word, such as [DONE])."""

    name: str | None
    data: Mapping[str, Any] | str

    def encoded(self) -> bytes:
        data = self.data if isinstance(self.data, str) else json.dumps(self.data)
        return (f"event: {self.name}\n" if self.name else "").encode() + f"data: {data}\n\n".encode()


DONE = Event(None, "[DONE]")


def pieces(text: str) -> list[str]:
    """A text cut in deltas: three or more where it has the letters for it."""
    size = min(8, math.ceil(len(text) / 3))
    return [text[i : i + size] for i in range(0, len(text), size or 1)]


def slivers(text: str) -> list[str]:
    """A text cut in pieces of one, two, three, one … letters."""
    cut: list[str] = []
    for size in cycle((1, 2, 3)):
        if not text:
            break
        cut.append(text[:size])
        text = text[size:]
    return cut


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is being answered: its JSON, its number on this server, and how tool arguments are streamed."""

    body: Body
    number: int
    cut: Callable[[str], list[str]] = pieces


@dataclass(frozen=True, slots=True)
class Declined(Reply):
    """What a backend's errors.Refused becomes: the model answers, in the provider's own way, that it will not."""

    refusal: str = ""


def declined(reply: Reply) -> str | None:
    """What a model that declines says."""
    return reply.refusal if isinstance(reply, Declined) else None


def deltas(reply: Reply, logprobs: bool) -> list[tuple[str, Sequence[Token]]]:
    """The reply's text in pieces, each with its tokens where they are asked for: then a piece is a token."""
    tokens = reply.tokens if logprobs else ()
    if tokens and spell(tokens, reply.text):
        return [(token.text, (token,)) for token in tokens]
    cut = pieces(reply.text) or ([""] if tokens else [])
    return [(piece, tokens if i == 0 else ()) for i, piece in enumerate(cut)]


def spell(tokens: Iterable[Token], text: str) -> bool:
    return "".join(token.text for token in tokens) == text


def in_turn(streams: Iterable[Iterator[T]]) -> Iterator[T]:
    """The first of each, the second of each, …: several choices arrive together."""
    for row in zip_longest(*streams):
        yield from (each for each in row if each is not None)


def finish(reply: Reply) -> Finish:
    """A reply with calls stops for them, whether its script says so or not."""
    return "calls" if reply.calls and reply.finish == "stop" else reply.finish


def in_total(replies: Sequence[Reply], n: int = 1) -> Usage:
    """What replies took together: of n choices the prompt is read, and paid for, once."""
    total = Usage()
    for i, reply in enumerate(replies):
        usage = reply.usage
        total += usage if i % n == 0 else Usage(0, 0, usage.output_tokens, usage.reasoning_tokens)
    return total


def openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def token_logprobs(tokens: Iterable[Token], top: int | None) -> list[dict[str, Any]]:
    """OpenAI's form. Of the likeliest tokens only the one chosen is known."""
    rows = [{"token": t.text, "logprob": finite(t.logprob), "bytes": in_bytes(t.text)} for t in tokens]
    return [{**row, "top_logprobs": [row] if top else []} for row in rows]


def in_bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", "surrogatepass"))


def finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI says -9999."""
    return max(logprob, -9999.0)


def written(call: ToolCall) -> str:
    """A call's arguments as the model wrote them: JSON, or what was meant to be."""
    return call.unread or json.dumps(dict(call.arguments))


def identified(name: str, id: str) -> dict[str, str]:
    """An id under its name; a call without one is sent without one."""
    return {name: id} if id else {}
