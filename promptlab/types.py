"""The values that everything passes around: messages, requests, replies, answers, examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from promptlab.errors import ModelError

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "calls"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to run a tool: `arguments` are its keyword arguments, parsed from JSON.

    `unread` is what it wrote in their place, where that is no JSON object.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `calls` belong to an assistant's turn, `call_id` to the tool's turn that answers one.

    `opaque` is what a provider wants back unchanged with its own turn, such as signed thinking blocks.
    """

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    opaque: Any = field(default=None, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told about a tool: its name, what it does, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a model.

    With `continuations` it asks for the log-probability of each of them after `messages`; without, for a reply. Where
    they are `alternatives`, of one that begins another only what does not go on to that counts.
    `temperature=None` leaves sampling to the backend's own default (greedy for in-process engines).
    `branch` tells apart requests that are otherwise equal: n samples of one prompt are n different requests.
    `to` says which of several models is asked, where there are several (`promptlab.backends.routed`); `program` which
    program asks, in the words of its runner, for traces: alone of all it is no part of what is asked.
    """

    messages: tuple[Message, ...]
    continuations: tuple[str, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    tools: tuple[ToolSpec, ...] = ()
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    branch: tuple[int, ...] = ()
    alternatives: bool = False
    to: str = ""
    program: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply took. `cached_tokens` are part of `input_tokens`, `reasoning_tokens` part of `output_tokens`.

    `cache_write_tokens` are the part of `input_tokens` that the provider wrote to its cache, where it says so.
    `cost_usd` is None where the price is not known; it is never guessed to be 0.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token and its log-probability in nats."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer to a Request. `scores` (nats, one a continuation) answer a request that has continuations.

    `opaque` is what its provider wants back with this turn of the chat; `message` carries it. `seconds` are those that
    the call took over the network; None for an engine, which answers many at a time, and for what a cache answered.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"
    tokens: tuple[Token, ...] = ()
    scores: tuple[float, ...] = ()
    usage: Usage = Usage()
    opaque: Any = field(default=None, hash=False, repr=False)
    seconds: float | None = field(default=None, compare=False, repr=False)

    @property
    def logprob(self) -> float | None:
        """The log-probability of the reply in nats; None where its tokens are not known."""
        return sum(token.logprob for token in self.tokens) if self.tokens else None

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities; None where they are not known."""
        return None if self.logprob is None else math.exp(self.logprob / len(self.tokens))

    @property
    def message(self) -> Message:
        """The reply as the assistant's turn of the chat."""
        return Message("assistant", self.text, self.calls, opaque=self.opaque)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a strategy concluded. `value` None is "no answer", and `why` says the reason.

    `text` is what the value was read from; where none could be read, all that the model said. `found` is where in the
    reply the value stood, or what else it comes from. `logprob` is the log-probability of the whole reply (nats), and
    `confidence` a number from 0 to 1, where they are known: where a model was asked for log-probabilities, the latter
    is the probability of a token of the reply, as their geometric mean. `votes` is how often each value was voted for,
    or with what weight, the winner first. Of all votes `share` is the winner's and `margin` its lead; `entropy` (nats)
    is that of the votes, `tied` holds the values with as many votes as the winner, and `sampled` how many paths were
    begun: those that were cancelled in flight, and may yet be on a bill, are among them, so on a hosted model it may
    depend on timing. `scores` holds the log-probability of each label where labels were scored, and `generated` what
    the model then says when asked freely; `shots` is how many demonstrations the prompt held, `left_out` how many did
    not fit. `trace` is how the answer came about: a chain's reasoning, the answers voted among.
    """

    value: Any = None
    text: str | None = None
    why: str | None = None
    found: str = ""
    logprob: float | None = None
    confidence: float | None = None
    votes: Mapping[Any, float] | None = None
    share: float | None = None
    margin: float | None = None
    entropy: float | None = None
    tied: tuple[Any, ...] = ()
    sampled: int = field(default=0, compare=False)
    scores: Mapping[str, float] | None = None
    generated: Answer | None = None
    shots: int = 0
    left_out: int = 0
    trace: Any = None

    def but(self, **changes: Any) -> Answer:
        """The same answer with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled item. `group` names what it must not be split from (an abstract, a patient).

    `subgroup` is whom it is about (a sex, a clinic), where scores are wanted for each: no learner uses it.
    """

    input: str
    target: Any = None
    id: str = ""
    group: str | None = None
    subgroup: str | None = None


@runtime_checkable
class Backend(Protocol):
    """Answers requests: same length, same order, and a failed request is a ModelError in its place.

    `batched` says how programs are driven: True, in step, every wave one call of `generate` (in-process engines);
    False, each request on its own, many in flight (hosted models).

    A backend may also have (absent means no): `scores`, True where it answers requests with continuations; `chats`,
    False where a prompt means nothing to it; `entails`, True where scores say how far a text entails others; `can`, the
    names of the options of a Request that it honours (absent: all are passed to it, and are its own affair; it is
    `scores` and `native_n` that are asked about texts to score and samples, whatever `can` holds); `identity`, all of
    it that can change an answer, as JSON can tell it (never a key), by which answers are kept; `native_n`, True where
    samples of one prompt are best asked together; `context_tokens`, the most tokens a prompt and its reply may have
    together; `count_tokens(messages)`; `memory`, the bytes it takes in each process that has it for itself, infinite
    where there is to be one alone, by which a study has so many at a time; `local`, True where what is asked never
    leaves this machine, which `--local-only` insists on; `async agenerate(requests)`, used instead of `generate` by the
    concurrent runners, and `async aclose()`, which `run` calls when its event loop is about to end.
    """

    batched: bool

    def generate(self, requests: Sequence[Request]) -> list[Reply | ModelError]: ...
