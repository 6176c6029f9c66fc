"""OpenAI's legacy completions: POST /v1/completions. The one format that can tell a prompt's own log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from promptlab.testing.wire.reading import Body, branches, how_many, nested, options, strings
from promptlab.testing.wire.rejections import Rejected
from promptlab.testing.wire.telling import (
    DONE,
    Asked,
    Event,
    declined,
    deltas,
    finish,
    finite,
    in_total,
    in_turn,
    openai_usage,
    spell,
)
from promptlab.types import Message, Reply, Request, Token


def requests(body: Body) -> list[Request]:
    """A prompt is one user message. For `echo` with `logprobs` the prompt is also asked as what continues nothing.

    What a backend says to that is of use if its tokens spell the prompt; `scores` alone are not split into tokens.
    """
    wanted = replace(options(body, limits=("max_tokens",)), logprobs=_told(body))
    asked: list[Request] = []
    for prompt in _prompts(body):
        if _reads(body):
            asked.append(Request((), continuations=(prompt,), logprobs=True))
        if _writes(body):
            asked += branches(body, replace(wanted, messages=(Message("user", prompt),)))
    return asked


def _prompts(body: Body) -> tuple[str, ...]:
    prompts = strings(body, "prompt")
    if not prompts:
        raise Rejected(400, "prompt is a string or a list of strings, got none")
    return prompts


def _told(body: Body) -> bool:
    """Log-probabilities are asked for; `logprobs` counts the likeliest tokens, and 0 of them is a wish too."""
    return body.get("logprobs") is not None and body.get("logprobs") is not False


def _reads(body: Body) -> bool:
    return bool(body.get("echo")) and _told(body)


def _writes(body: Body) -> bool:
    return not (body.get("echo") and body.get("max_tokens") == 0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt to be echoed ("" if not), its tokens where they are told, and what is written after it."""

    prompt: str
    read: tuple[Token, ...]
    reply: Reply

    @property
    def finish(self) -> str:
        if declined(self.reply) is not None:
            return "content_filter"
        return "length" if finish(self.reply) == "length" else "stop"


def _choices(body: Body, replies: Sequence[Reply]) -> list[Choice]:
    """Raises Rejected where a backend did not tell the prompt's tokens."""
    rest = iter(replies)
    choices: list[Choice] = []
    for prompt in _prompts(body):
        read = next(rest).tokens if _reads(body) else ()
        if _reads(body) and not spell(read, prompt):
            raise Rejected(400, "this backend cannot tell the log-probabilities of a prompt's tokens (echo, logprobs)")
        echoed = prompt if body.get("echo") else ""
        nothing = Reply(finish="length")
        choices += [Choice(echoed, read, next(rest) if _writes(body) else nothing) for _ in range(how_many(body))]
    return choices


def whole(asked: Asked, replies: Sequence[Reply]) -> dict[str, Any]:
    told = [
        {
            "index": i,
            "text": choice.prompt + choice.reply.text,
            "finish_reason": choice.finish,
            "logprobs": _logprobs(asked.body, choice.read, choice.reply.tokens),
        }
        for i, choice in enumerate(_choices(asked.body, replies))
    ]
    return {**_head(asked), "choices": told, "usage": _usage(asked, replies)}


def _head(asked: Asked) -> dict[str, Any]:
    return {"id": f"cmpl-{asked.number}", "object": "text_completion", "created": 0, "model": asked.body["model"]}


def _usage(asked: Asked, replies: Sequence[Reply]) -> dict[str, Any]:
    """A prompt is read once, whether it is echoed, continued n times, or both."""
    return openai_usage(in_total(replies, len(replies) // len(_prompts(asked.body)) or 1))


def _logprobs(body: Body, read: Sequence[Token], written: Sequence[Token], at: int = 0) -> dict[str, Any] | None:
    """The very first token has nothing before it, and so no log-probability; `at` is where in the text they begin."""
    tokens = [*read, *written]
    if not _told(body) or not tokens:
        return None
    logprobs = [None if read and i == 0 else finite(token.logprob) for i, token in enumerate(tokens)]
    likeliest = [None if p is None else {token.text: p} for token, p in zip(tokens, logprobs, strict=True)]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": logprobs,
        "top_logprobs": likeliest if body.get("logprobs") else None,
        "text_offset": list(accumulate((len(token.text) for token in tokens[:-1]), initial=at)),
    }


def events(asked: Asked, replies: Sequence[Reply]) -> Iterator[Event]:
    with_usage = nested(asked.body, "stream_options").get("include_usage")
    none_yet = {"usage": None} if with_usage else {}
    for choice in in_turn(_deltas(asked.body, i, choice) for i, choice in enumerate(_choices(asked.body, replies))):
        yield Event(None, {**_head(asked), "choices": [choice], **none_yet})
    if with_usage:
        yield Event(None, {**_head(asked), "choices": [], "usage": _usage(asked, replies)})
    yield DONE


def _deltas(body: Body, i: int, choice: Choice) -> Iterator[dict[str, Any]]:
    at = len(choice.prompt)
    if choice.prompt:
        logprobs = _logprobs(body, choice.read, ())
        yield {"index": i, "text": choice.prompt, "finish_reason": None, "logprobs": logprobs}
    for piece, tokens in deltas(choice.reply, _told(body)):
        yield {"index": i, "text": piece, "finish_reason": None, "logprobs": _logprobs(body, (), tokens, at)}
        at += len(piece)
    yield {"index": i, "text": "", "finish_reason": choice.finish, "logprobs": None}
