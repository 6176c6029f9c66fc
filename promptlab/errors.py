"""Every error promptlab raises on purpose.

    PromptlabError
    ├── SetupError         the set-up is wrong: says what was got and what to do
    │   ├── DataError      a file, column or label set that cannot be used as asked
    │   └── Unsupported    this backend cannot do what the request asks
    ├── ForeignAwaitable   a program under `run` awaited something that is not an effect
    ├── WrongCall          a call names no tool, or arguments it does not take: told to the model
    ├── ReplayMiss         a replayed program asked something that was not recorded
    └── ModelError         one request failed: a value in a batch, raised inside the program by `ask`
        └── ContextOverflow    the prompt and the room for its reply exceed the model's context

Catch broadly (`PromptlabError`) at the edge, narrowly (`ModelError`, through `attempt`) inside a program.
What the model *wrote* is never an error: an unreadable reply is `Answer(None, why=…)`.
"""


class PromptlabError(Exception):
    """The root of the tree above."""


class SetupError(PromptlabError, ValueError):
    """The set-up is wrong; the message says what was got and what to do."""


class DataError(SetupError):
    """A file, column or label set cannot be used as asked."""


class Unsupported(SetupError):
    """This backend cannot do what the request asks."""


class ForeignAwaitable(PromptlabError, RuntimeError):
    """A program awaited something other than an effect where only effects are possible."""


class WrongCall(PromptlabError, ValueError):
    """A call names no tool, or arguments the tool does not take; the text is told to the model."""


class ReplayMiss(PromptlabError, LookupError):
    """A replayed program asked something that was not recorded; the message holds the prompt."""


class ModelError(PromptlabError):
    """One request failed. A value in a batch; raised inside the program that asked; never the end of a run."""


class ContextOverflow(ModelError):
    """The prompt and the room for its reply exceed the model's context."""
