"""Backends by name. A new one is a file and a row of this table; one of a user's own needs neither."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from promptlab.errors import SetupError
from promptlab.types import Backend

BACKENDS = {
    "tiny": "promptlab.backends.tiny:Tiny",
}


def model(spec: str, **options: Any) -> Backend:
    """The backend a spec names: "tiny", "tiny:FOLDER", or one of your own as "package.module:Class/name".

    What follows the first colon (or, for your own, the first slash) is the backend's first argument, if there is any;
    `options` are its keyword arguments. Raises SetupError for an unknown name or a module that cannot be imported.
    """
    name, _, argument = spec.partition(":")
    path = BACKENDS.get(name)
    if path is None and argument and ("." in name or (name.isidentifier() and find_spec(name))):
        attribute, _, argument = argument.partition("/")
        path = f"{name}:{attribute}"
    if path is None:
        near = get_close_matches(name, BACKENDS, n=1)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        known = ", ".join([*BACKENDS, "package.module:Class/name"])
        raise SetupError(f'Unknown model "{spec}".{hint} Known: {known}.')
    make = load_attribute(path)
    given = [argument] if argument else []
    try:
        signature(make).bind(*given, **options)
    except TypeError as error:
        raise SetupError(f'"{spec}" cannot be made: {error}. What follows the name is its first argument.') from error
    backend = make(*given, **options)
    if not isinstance(backend, Backend):
        raise SetupError(f'"{spec}" is a {type(backend).__name__}, not a backend: it needs `generate` and `batched`.')
    return backend


def load_attribute(path: str) -> Any:
    """What "package.module:name" names."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or module
        extra = " pip install 'promptlab[tiny]'" if missing in ("torch", "tokenizers", "safetensors") else ""
        raise SetupError(f'Cannot load "{path}": the module {missing} is not installed.{extra}') from error
    except AttributeError as error:
        raise SetupError(f'Cannot load "{path}": {module} has no {attribute}.') from error
