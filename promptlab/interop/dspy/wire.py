"""DSPy's canonical requests and responses (its vendored lm15), and ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from dspy import lm15

from promptlab.errors import (
    BudgetExceeded,
    ContextOverflow,
    ModelError,
    Refused,
    SetupError,
    Truncated,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from promptlab.types import Message, Reply, Request, ToolCall, ToolSpec

UNSAID = ("top_k", "frequency_penalty", "presence_penalty", "reasoning", "probabilities")  # no word for it in a Request
FINISH = {"stop": "stop", "length": "length", "calls": "tool_call"}


def request_from(asked: Any, branch: tuple[int, ...]) -> Request:
    """What DSPy asks, in our words. Raises lm15's UnsupportedFeatureError for what there are none for."""
    config = asked.config
    for name in UNSAID:
        if getattr(config, name, None) is not None:
            raise unsupported(f"{name} cannot be asked of a promptlab backend", f"config.{name}")
    choice = config.tool_choice
    if choice is not None and (choice.mode not in ("auto", "none") or choice.allowed):
        raise unsupported("a promptlab backend chooses its tools itself", "config.tool_choice")
    if config.logprobs:
        raise unsupported("log-probabilities are those of what is written, not of alternatives", "config.logprobs")
    tools = () if choice is not None and choice.mode == "none" else asked.tools
    return Request(
        tuple(chat_from(asked)),
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=1.0 if config.top_p is None else config.top_p,
        stop=tuple(config.stop),
        seed=config.seed,
        logprobs=config.logprobs is not None,
        tools=tuple(map(tool_from, tools)),
        schema=schema_from(config.response_format),
        branch=branch,
    )


def chat_from(asked: Any) -> Iterator[Message]:
    if asked.system is not None:
        yield Message("system", asked.system if isinstance(asked.system, str) else text_of(asked.system))
    for message in asked.messages:
        if message.role == "tool":
            for part in message.parts:
                yield Message("tool", text_of(part.content), call_id=part.id)
        else:
            role: Any = "system" if message.role == "developer" else message.role
            calls = tuple(ToolCall(p.id, p.name, p.input) for p in message.parts if isinstance(p, lm15.ToolCallPart))
            yield Message(role, text_of(p for p in message.parts if not isinstance(p, lm15.ToolCallPart)), calls)


def text_of(parts: Iterable[Any]) -> str:
    """Texts and values one after the other; what a model thought before is left out."""
    said = []
    for part in parts:
        if isinstance(part, lm15.TextPart):
            said.append(part.text)
        elif isinstance(part, lm15.DataPart):
            said.append(json.dumps(part.value, ensure_ascii=False))
        elif not isinstance(part, lm15.ThinkingPart):
            raise unsupported(f"promptlab's messages are texts, got a part of type {part.type!r}", "messages")
    return "".join(said)


def tool_from(tool: Any) -> ToolSpec:
    if not isinstance(tool, lm15.FunctionTool):
        raise unsupported(f"the provider's own tool {tool.name!r} cannot be asked for", "tools")
    return ToolSpec(tool.name, tool.description or "", tool.parameters)


def schema_from(wanted: Any) -> Any:
    """The schema asked for. "Some JSON" is none: that the prompt says, and whoever reads the reply sees to."""
    if not wanted:
        return None
    return wanted.get("schema") or wanted.get("json_schema", {}).get("schema")


def response_from(reply: Reply | ModelError, model: str) -> Any:
    """Our reply as DSPy reads it; what was cut off, too. Raises any other failure as lm15's error."""
    cut_off = isinstance(reply, Truncated) and reply.reply is not None
    if isinstance(reply, ModelError) and not cut_off:
        raise raised(reply) from reply
    said: Any = reply.reply if isinstance(reply, ModelError) else reply
    parts: list[Any] = [lm15.TextPart(said.text)] if said.text or not said.calls else []
    for call in said.calls:
        if call.unread:
            raise lm15.ProviderError(
                f"the arguments of {call.name} are no JSON object: {call.unread!r}", provider_code="Malformed"
            )
        parts.append(lm15.ToolCallPart(call.id, call.name, dict(call.arguments)))
    usage = said.usage
    return lm15.Response(
        id=None,
        model=model,
        message=lm15.Message.assistant(parts),
        finish_reason="length" if cut_off else FINISH[said.finish],
        usage=lm15.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
        logprobs=tuple(lm15.TokenLogprob(t.text, t.logprob) for t in said.tokens) or None,
        provider_data={"cost_usd": usage.cost_usd},
    )


def unsupported(why: str, feature: str) -> Exception:
    return lm15.UnsupportedFeatureError(why, feature=feature)  # type: ignore[no-any-return]


def raised(error: ModelError | SetupError) -> Exception:
    """An error of ours as the one by which DSPy decides whether to ask again. `provider_code` is its name here.

    Only what is Unavailable is asked again; a spent budget is DSPy's unpaid bill, which is not.
    """
    told: dict[str, Any] = {"provider_code": type(error).__name__}
    if isinstance(error, Unavailable):
        told |= {"status": error.status, "retry_after": error.retry_after_s}
        kind = {429: lm15.RateLimitError, 408: lm15.TimeoutError, 504: lm15.TimeoutError}.get(error.status or 0)
        return (kind or (lm15.TransportError if error.status is None else lm15.ServerError))(str(error), **told)  # type: ignore[no-any-return]
    kinds = {
        ContextOverflow: lm15.ContextLengthError,
        BudgetExceeded: lm15.BillingError,
        Refused: lm15.InvalidRequestError,
        ModelError: lm15.ProviderError,
        Unauthorized: lm15.AuthError,
        Unsupported: lm15.UnsupportedFeatureError,
        SetupError: lm15.ConfigurationError,
    }
    return next(kind for ours, kind in kinds.items() if isinstance(error, ours))(str(error), **told)  # type: ignore[no-any-return]
