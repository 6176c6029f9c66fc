"""What every optimiser is: a program that takes a prompt, labelled examples and a score, and gives a prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeAlias

from promptlab.errors import BudgetExceeded, SetupError
from promptlab.optimizers.candidate import Candidate
from promptlab.optimizers.concluding import as_it_is, conclude
from promptlab.optimizers.found import Over
from promptlab.optimizers.proposing import Limits
from promptlab.optimizers.search import Search
from promptlab.program import Program
from promptlab.task import exact

Method: TypeAlias = Callable[..., Awaitable[Candidate]]  # (search, **its own options) -> the candidate to confirm
Optimizer: TypeAlias = Callable[..., Program[Any]]
TERMS = {name: each for name, each in signature(Search).parameters.items() if name != "method"}


def optimizer(method: Method, **defaults: Any) -> Optimizer:
    """An optimiser of a method that proposes and races candidates and returns the best; `defaults` are its own, of the
    options that all have.

    The optimiser is `optimiser(prompt, examples, score=exact, **options)`: a program whose result is the prompt that
    was found (a Tuned, with `found`), or the one given, with the reason, where none was shown to be better on fresh
    examples. `prompt` may be a mapping of names to Prompts, for a program that has several. Options, besides the
    method's own:

    `solve(question, prompt)` is the program that answers (a strategy). `calls` is the most calls of all, the
    proposer's among them; proposals are asked with `to="proposer"`, for `promptlab.backends.routed.Routed` to send to
    another model. `alpha` is how often a prompt that is no better may replace the one there is, by the `test` "exact"
    (one look at all fresh items; graded scores are bet on then, too) or "betting" (a look every ten, ending early).
    `shares` are those of the examples that proposers read, that races are run on, and that the last comparison is made
    on. `repeats` asks each item so often, where answers are sampled. `temperature` is the proposer's, `limits` what an
    instruction may be; `observe` is told of every event as it happens. Raises SetupError for examples or calls that
    are too few for an honest comparison.
    """
    own = [each for each in signature(method).parameters.values() if each.name != "search"]

    @wraps(method)
    async def optimise(prompt: Any, examples: Iterable[Any], score: Any = exact, **options: Any) -> Any:
        terms = defaults | {name: options.pop(name) for name in TERMS if name in options}
        search = Search(method.__name__, prompt, examples, score, **terms)
        try:
            await search.opening()
            best = await method(search, **options)
            return await conclude(search, best)
        except Over as over:
            return as_it_is(search, str(over))
        except BudgetExceeded as spent:
            return as_it_is(search, f"the budget was spent before the search was done: {spent}")

    def checked(*args: Any, **options: Any) -> Program[Any]:
        if unknown := options.keys() - {*TERMS, *(each.name for each in own)}:
            known = ", ".join(sorted({*TERMS, *(each.name for each in own)} - {"prompt", "examples", "score"}))
            raise SetupError(f"{method.__name__} has no option {', '.join(sorted(unknown))}. Its options: {known}.")
        if missing := [each.name for each in own if each.default is each.empty and each.name not in options]:
            raise SetupError(f"{method.__name__} takes {', '.join(missing)}: give {missing[0]}=….")
        return optimise(*args, **options)

    checked = wraps(method)(checked)
    del checked.__wrapped__  # or its signature would be taken for this one's
    keywords = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
    given = {name: each.replace(default=defaults.get(name, each.default)) for name, each in TERMS.items()}
    checked.__signature__ = signature(Search).replace(  # type: ignore[attr-defined]
        parameters=[*given.values(), *keywords], return_annotation="Program[Tuned | TunedPrompts]"
    )
    return checked


def check_value(name: str, value: Any, default: Any) -> None:
    """Of an option that was typed. Raises SetupError for a value of another kind than the default; a list where there
    is none."""
    if isinstance(default, int) and not (type(value) is int and value >= 0):
        raise SetupError(f"{name} takes a whole number, got {value!r}.")
    if isinstance(default, float) and not (type(value) in (int, float) or (value is None and "temperature" in name)):
        raise SetupError(f"{name} takes a number, got {value!r}.")
    if isinstance(default, str) and not isinstance(value, str):
        raise SetupError(f"{name} takes a word, got {value!r}.")
    listed = isinstance(default, tuple) or default is Parameter.empty
    if listed and not isinstance(value, list):
        raise SetupError(f'{name} takes a list, as {name}=["…"] or {name}=@FILE, got {value!r}.')
    if not listed and (default is None or callable(default) or isinstance(default, Limits)):
        raise SetupError(f"{name} can be given in Python only.")
