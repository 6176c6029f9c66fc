"""Backends by name. A new one is a file and a row of this table; one of a user's own needs neither."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.backends.wrappers.emulating import as_wished
from promptlab.errors import PromptlabError, SetupError, Unauthorized, reason
from promptlab.types import Backend

if TYPE_CHECKING:
    from promptlab.backends.wrappers.budget import Budget

BACKENDS = {
    "tiny": "promptlab.backends.tiny:Tiny",
    "openai": "promptlab.backends.openai:OpenAI",
    "anthropic": "promptlab.backends.anthropic:Anthropic",
    "hf": "promptlab.backends.hf:HF",
    "hf-nli": "promptlab.backends.hf_nli:HFNLI",
    "hf-mask": "promptlab.backends.hf_mask:HFMask",
    "hf-inference": "promptlab.backends.hf_inference:HFInference",
    "vllm": "promptlab.backends.vllm:VLLM",
}

EXTRAS = {  # which extra brings a package
    "torch": "tiny",
    "tokenizers": "tiny",
    "safetensors": "tiny",
    "openai": "openai",
    "anthropic": "anthropic",
    "aiohttp": "openai,anthropic",
    "transformers": "hf",
    "peft": "hf",
    "accelerate": "train-hf",
    "datasets": "train-hf",
    "trl": "train-hf",
    "vllm": "vllm",
    "opentelemetry": "otel",
    "dspy": "dspy",
    "gepa": "gepa",
    "ray": "ray",
    "mlflow": "mlflow",
}


def model(
    spec: str,
    *,
    cache: str | Path | None = None,
    budget: Budget | None = None,
    attempts: int = 6,
    on_unsupported: str = "error",
    offline: bool = False,
    spans: bool | str = False,
    **options: Any,
) -> Backend:
    """The backend a spec names: "tiny", "openai:NAME", "openai:NAME@URL", or your own as "package.module:Class/name".

    What follows the first colon (or, for your own, the first slash) is the backend's first argument, if there is any;
    `options` are its keyword arguments. A hosted model is asked no faster than its provider takes it, and up to
    `attempts` times where it is unavailable. With `cache` answers are kept in that file, and every call is noted there;
    `offline` then sends nothing, and raises ReplayMiss for what is not there. `budget` is what may be spent, alone or
    together with others that are given the same Budget. With `spans` every call is a span of OpenTelemetry, with
    spans="content" prompts and replies are in it.

    A request for what the backend cannot do raises Unsupported before it is sent; with `on_unsupported="emulate"` stop
    strings and schemas are seen to here, with "warn" what it cannot do is left out with a warning. Raises SetupError
    for an unknown name, a module that cannot be imported, or an option that cannot be kept to.
    """
    backend = unasked(spec, **options) if offline else made(spec, **options)
    if attempts == 6 and cache is None and budget is None and not offline and not spans and backend.batched:
        return as_wished(backend, on_unsupported)
    from promptlab.backends.wrappers.stack import stacked

    stack = stacked(backend, cache=cache, budget=budget, attempts=attempts, offline=offline, spans=spans)
    return as_wished(stack, on_unsupported)


def unasked(spec: str, **options: Any) -> Backend:
    """The backend a spec names, of which nothing will be asked: so it needs no key."""
    try:
        return made(spec, **options)
    except Unauthorized:
        return made(spec, **{**options, "key": "none-is-needed"})


def made(spec: str, **options: Any) -> Backend:
    """The backend a spec names, by itself."""
    if not isinstance(spec, str):
        raise SetupError(f'model takes a name such as "tiny", got {spec!r}.')
    name, _, argument = spec.partition(":")
    named = spec.partition("@")[0]  # for messages: an address may hold a key
    path = BACKENDS.get(name)
    if path is None and argument and ("." in name or (name.isidentifier() and find_spec(name))):
        attribute, _, argument = argument.partition("/")
        path = f"{name}:{attribute}"
    if path is None:
        near = get_close_matches(name, BACKENDS, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        known = ", ".join([*BACKENDS, "package.module:Class/name"])
        raise SetupError(f'Unknown model "{named}".{hint} Known: {known}.')
    make = load_attribute(path)
    given = [argument] if argument else []
    try:
        signature(make).bind(*given, **options)
    except TypeError as error:
        raise SetupError(f'"{named}" cannot be made: {error}. What follows the name is its first argument.') from error
    try:
        backend = make(*given, **options)
    except PromptlabError:
        raise
    except Exception as error:  # somebody else's class
        raise SetupError(f'"{spec}" cannot be made: {reason(error)}.') from error
    if not isinstance(backend, Backend):
        raise SetupError(f'"{spec}" is a {type(backend).__name__}, not a backend: it needs `generate` and `batched`.')
    return backend


def needs(package: str) -> None:
    """Raises SetupError, with the extra that brings it, where a package is not installed. Nothing is imported."""
    if not find_spec(package):
        raise SetupError(f"The package {package} is not installed: pip install 'promptlab[{EXTRAS[package]}]'")


def load_attribute(path: str) -> Any:
    """What "package.module:name" names."""
    module, _, attribute = path.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        hint = f" pip install 'promptlab[{EXTRAS[missing]}]'" if missing in EXTRAS else ""
        raise SetupError(f'Cannot load "{path}": the module {missing} is not installed.{hint}') from error
    except Exception as error:  # somebody else's module
        raise SetupError(f'Cannot load "{path}": {reason(error)}.') from error
    if not hasattr(found, attribute):
        raise SetupError(f'Cannot load "{path}": {module} has no {attribute}.')
    return getattr(found, attribute)
