"""A backend as DSPy's engine: what it asks becomes our Request, what we answer its Response, our errors its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import dspy
from dspy import lm15
from dspy.clients.provider import Provider

from promptlab.backends.wrappers import Retrying
from promptlab.errors import BudgetExceeded, ModelError, SetupError
from promptlab.interop.asking import Asking
from promptlab.interop.dspy.wire import raised, request_from, response_from
from promptlab.options import name_of, takes
from promptlab.types import Backend, Message, Reply, Request, Usage

Train = Callable[[list[list[Message]]], Backend]  # chats that end in the reply -> the model trained on them
TALLY = "promptlab_tally"  # a setting of DSPy, which it hands on to its threads; context variables it does not
RETRIES = 3  # DSPy's own, where nobody further in asks again


@dataclass
class Call:
    """One call of an LM: which rollout it is, and how many of its n answers there are already."""

    rollout: Any
    answered: int = 0

    @property
    def branch(self) -> tuple[int, ...]:
        """Where its next request stands: a rollout's number first, where it has one."""
        return (*([] if self.rollout is None else [int(self.rollout)]), self.answered)


CALL: ContextVar[Call | None] = ContextVar("promptlab_dspy_call", default=None)


class Spent:
    """What the requests of programs came to, by the engine that was asked: replies and failures, as they came."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Engine, Reply | ModelError]] = []

    def calls(self, engine: Engine | None = None) -> int:
        """How many were sent, to one engine or to all."""
        sent = [asked for asked, each in self.outcomes if not isinstance(each, BudgetExceeded)]
        return len(sent) if engine is None else sum(asked is engine for asked in sent)

    @property
    def usage(self) -> Usage:
        replies = (each if isinstance(each, Reply) else each.reply for _, each in self.outcomes)
        return sum((reply.usage for reply in replies if reply is not None), Usage(cost_usd=0.0))

    @property
    def failed(self) -> list[ModelError]:
        return [each for _, each in self.outcomes if isinstance(each, ModelError)]


def spending(**settings: Any) -> tuple[Any, Spent]:
    """A context of DSPy's settings, and what is spent within it."""
    spent = Spent()
    return dspy.context(**{TALLY: spent}, **settings), spent


class Engine:
    """One attempt a request: retries, and n answers one by one, are DSPy's. A request's `model` says which is asked."""

    supports_reasoning = False

    def __init__(self, backend: Backend | Asking) -> None:
        self.first = backend if isinstance(backend, Asking) else Asking(backend)
        backend = self.first.backend
        self.model = f"promptlab/{self.first.name}"
        self.models = {self.model: self.first}
        self.supports_function_calling = takes(backend, "tools")
        self.supports_response_schema = takes(backend, "schema")
        named = {"response_format": "schema"} | {
            name: name for name in ("tools", "temperature", "top_p", "seed", "stop", "logprobs")
        }
        self.supported_params = ("max_tokens", *(theirs for theirs, ours in named.items() if takes(backend, ours)))

    def __deepcopy__(self, memo: Any) -> Engine:
        return self  # DSPy copies programs; the model they ask is one

    def add(self, backend: Backend) -> str:
        """Another model behind the same engine, by the name it is given."""
        asking = Asking(backend)
        name = f"promptlab/{asking.name}"
        self.models[name] = asking
        return name

    def complete(self, request: Any) -> Any:
        asked, asking = self.asked(request)
        try:
            reply = asking.ask(asked)
        except SetupError as error:
            raise raised(error) from error
        return self.answered(request, reply)

    def stream(self, request: Any) -> Iterator[Any]:
        yield from lm15.response_to_events(self.complete(request))

    def close(self) -> None:
        """A model's connections are closed once nobody has the engine any more."""

    def asked(self, request: Any) -> tuple[Request, Asking]:
        """A request as we say it, and who is asked."""
        call = CALL.get()
        sampled = request.config.temperature != 0  # at 0 all rollouts are one, as DSPy warns
        asked = request_from(request, call.branch if call is not None and sampled else ())
        return asked, self.models.get(request.model, self.first)

    def answered(self, request: Any, reply: Reply | ModelError) -> Any:
        """A reply as DSPy has it, counted. Raises what DSPy knows for an error."""
        if (spent := dspy.settings.get(TALLY)) is not None:
            spent.outcomes.append((self, reply))
        response = response_from(reply, request.model)
        if (call := CALL.get()) is not None:
            call.answered += 1
        return response


class AsyncEngine:
    """An Engine in an event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __deepcopy__(self, memo: Any) -> AsyncEngine:
        return self

    async def complete(self, request: Any) -> Any:
        asked, asking = self.engine.asked(request)
        try:
            reply = await asking.aask(asked)
        except SetupError as error:
            raise raised(error) from error
        return self.engine.answered(request, reply)

    async def stream(self, request: Any) -> Any:
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """As Engine.close."""


class LM(dspy.LM):  # type: ignore[misc]
    """A dspy.LM that lets its engine know which rollout is asked for: DSPy puts that into its cache's key only."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        token = CALL.set(Call(kwargs.get("rollout_id", self.kwargs.get("rollout_id"))))
        try:
            return super().__call__(prompt, messages=messages, **kwargs)
        finally:
            CALL.reset(token)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        token = CALL.set(Call(kwargs.get("rollout_id", self.kwargs.get("rollout_id"))))
        try:
            return await super().acall(prompt, messages=messages, **kwargs)
        finally:
            CALL.reset(token)


class Trainer(Provider):  # type: ignore[misc]
    """DSPy's fine-tuning by a function of ours. What it trains answers behind the same engine, under a name of its own,
    since DSPy goes on with a copy of the LM in which nothing but the name is another."""

    def __init__(self, engine: Engine, train: Train) -> None:
        super().__init__()
        self.finetunable = True
        self.engine, self.train = engine, train

    def __deepcopy__(self, memo: Any) -> Trainer:
        return self

    def finetune(self, job: Any, model: str, train_data: Any, train_data_format: Any, train_kwargs: Any = None) -> str:
        return self.engine.add(self.train([chat_from(row["messages"]) for row in train_data]))


def chat_from(rows: Sequence[dict[str, Any]]) -> list[Message]:
    return [Message(row["role"], row["content"]) for row in rows]


def sft_on(base: Backend, method: str = "sft", seed: int = 0) -> Train:
    """What trains tiny, or a model of hf, on the chats that BootstrapFinetune makes: `lm(base, train=sft_on(base))`."""
    from promptlab.backends.tiny import Tiny
    from promptlab.learners.finetuned import trainable, tuned_hf, tuned_tiny

    if method not in ("sft", "lora") or not trainable(base, method):
        raise SetupError(f"sft_on trains tiny and hf by sft or lora; got {name_of(base)} and {method!r}.")
    tuned: Any = tuned_tiny if isinstance(base, Tiny) else tuned_hf

    def train(chats: list[list[Message]]) -> Backend:
        return tuned(base, method, chats, [], seed).backend  # type: ignore[no-any-return]

    return train


def engine(backend: Backend) -> Engine:
    """A backend as an engine for dspy.LM(name, engine=…). `lm` makes both, and knows rollouts too."""
    return Engine(backend)


def lm(backend: Backend | Asking, *, train: Train | None = None, cache: bool = False, **options: Any) -> LM:
    """Any backend as the model of DSPy programs: `dspy.configure(lm=lm(model("tiny")))`.

    What the backend goes through (a cache, a budget, retries) holds for all that DSPy asks. A rollout
    (`rollout_id=`, and each of n answers) is a branch, so that it is another sample, and another entry of our cache.
    DSPy's own cache is off unless `cache`; it is a file of pickles in the home folder, keyed by the model's name, which
    here holds a fingerprint of all that can change an answer. Where the backend asks again by itself, DSPy does not.
    With `train`, a function from chats to a model, BootstrapFinetune works. `options` are those of dspy.LM.
    """
    engine = Engine(backend)
    options.setdefault("num_retries", 0 if retries(engine.first.backend) else RETRIES)
    if train is not None:
        options["provider"] = Trainer(engine, train)
    return LM(engine.model, engine=engine, async_engine=AsyncEngine(engine), cache=cache, **options)


def retries(backend: Any) -> bool:
    """Whether one of what is around a backend asks again by itself."""
    while hasattr(type(backend), "around"):
        if isinstance(backend, Retrying):
            return True
        backend = backend.backend
    return False
