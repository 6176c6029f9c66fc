"""Every error promptlab raises on purpose.

    PromptlabError
    ├── SetupError         the set-up is wrong: says what was got and what to do
    │   ├── DataError      a file, column or label set that cannot be used as asked
    │   ├── Unsupported    this backend cannot do what the request asks
    │   └── Unauthorized   no key, or one that the provider refuses
    ├── Diverged           training went on until a loss or a weight was no finite number
    ├── ForeignAwaitable   a program under `run` awaited something that is not an effect
    ├── WrongCall          a call names no tool, or arguments it does not take: told to the model
    ├── BudgetSpent        a study cannot be ended within its budget: a larger one goes on from there
    ├── ReplayMiss         a replayed program asked something that was not recorded
    └── ModelError         one request failed: a value in a batch, raised inside the program by `ask`
        ├── ContextOverflow    the prompt and the room for its reply exceed the model's context
        ├── Unavailable        not now: a rate limit, an overloaded server, no connection, no answer in time
        ├── Refused            the model, or a filter of its provider, declined
        ├── BudgetExceeded     it was not sent: with it a budget could have been exceeded
        ├── Truncated          the reply ended before what was asked for was whole: a JSON object, a tool's arguments
        └── Malformed          what came is not what was asked: no such protocol, a stream without end, not the schema

    KeyboardInterrupt
    └── Interrupted        Ctrl-C while an engine in this process answered a wave: holds what it had answered

Catch broadly (`PromptlabError`) at the edge, narrowly (`ModelError`, through `attempt`) inside a program.
What the model *wrote* is never an error: an unreadable reply is `Answer(None, why=…)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptlab.types import Reply


class PromptlabError(Exception):
    """The root of the tree above."""


class SetupError(PromptlabError, ValueError):
    """The set-up is wrong; the message says what was got and what to do."""


class DataError(SetupError):
    """A file, column or label set cannot be used as asked."""


class Unsupported(SetupError):
    """This backend cannot do what the request asks."""


class Diverged(PromptlabError, ArithmeticError):
    """Training went on until a loss, a gradient or a weight was no finite number: in a study a result of its arm."""


class ForeignAwaitable(PromptlabError, RuntimeError):
    """A program awaited something other than an effect where only effects are possible."""


class WrongCall(PromptlabError, ValueError):
    """A call names no tool, or arguments the tool does not take; the text is told to the model."""


class ReplayMiss(PromptlabError, LookupError):
    """A replayed program asked something that was not recorded; the message holds the prompt."""


class Unauthorized(SetupError):
    """There is no key, or the provider refuses it; the message says which variable holds it, never the key."""


class ModelError(PromptlabError):
    """One request failed. A value in a batch; raised inside the program that asked; never the end of a run.

    `reply` is what was written, and paid for, all the same, where anything was. `maybe_served` says that nobody knows
    whether the provider served the request, and bills it: it failed in the middle of a reply, or its fate is not known.
    """

    maybe_served = False

    def __init__(self, message: str, *, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class ContextOverflow(ModelError):
    """The prompt and the room for its reply exceed the model's context."""


TORN = (504, 522, 524)  # of a gateway, Cloudflare's for one, that waited in vain for the server behind it


class Unavailable(ModelError):
    """Not now: asking again later may succeed. `retry_after_s` is when the server said so, in seconds.

    `status` is that of HTTP; None where it is not known whether the request was served: no answer in time, a torn one.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s, self.status = retry_after_s, status
        self.maybe_served = status is None or status in TORN


class Refused(ModelError):
    """The model, or a content filter of its provider, declined to answer."""


class BudgetExceeded(ModelError):
    """The request was not sent: calls, tokens, money or time could have come to more than the budget.

    `least` is the limit that was in its way, as Budget calls it, and what it would have to be for this request alone.
    """

    def __init__(self, message: str, *, reply: Reply | None = None, least: tuple[str, float] | None = None) -> None:
        super().__init__(message, reply=reply)
        self.least = least


class BudgetSpent(PromptlabError):
    """A study cannot be ended within its budget: what was asked last was not sent for this reason."""

    def __init__(self, reason: BudgetExceeded) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The budget is spent: {self.reason}. A larger one goes on from here."


class Truncated(ModelError):
    """The reply ended at its most tokens before what was asked for was whole."""


class Malformed(ModelError):
    """What came back is not what was asked for."""

    maybe_served = True


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a wave. `replies` are those that are whole, None in the places of others."""

    def __init__(self, replies: Sequence[Reply | ModelError | None]) -> None:
        super().__init__()
        self.replies = replies


def reason(error: Exception) -> str:
    """An exception in a line, and where it was raised if that is news."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or isinstance(error, ModelError | SyntaxError):  # a syntax error says where it is
        return said
    return f"{said} ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
