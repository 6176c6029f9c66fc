"""The page of one answer: what was asked, what came out, and a drawing of how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.program import Exchange
from promptlab.trace.drawings import drawn
from promptlab.trace.redacting import Redactor
from promptlab.trace.rendering import environment
from promptlab.types import Answer, Reply, Usage


def answer_page(
    question: Any, answer: Answer, *, model: str = "", exchanges: Sequence[Exchange] = (), redact: bool = True
) -> str:
    """The HTML of an answer; it needs no network and no other file.

    With the exchanges of `traced` it says how many calls there were and what they took. What looks like a key is cut
    off, unless `redact` is False.
    """
    redactor = Redactor(redact)
    replies = [exchange.reply for exchange in exchanges if isinstance(exchange.reply, Reply)]
    template = environment(redactor).get_template("answer.html.jinja")
    body: str = template.render(
        question=question,
        answer=answer,
        model=model,
        calls=len(exchanges),
        failed=len(exchanges) - len(replies),
        usage=sum((reply.usage for reply in replies), Usage(cost_usd=0.0)),
        drawing=drawn(answer, redactor),
    )
    return body.encode("utf-8", "backslashreplace").decode()
