"""JSON schemas and tools as the providers' strict modes take them, which know a part of JSON schema only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from promptlab.backends.wire.common import Json
from promptlab.errors import Unsupported
from promptlab.types import ToolSpec


@dataclass(frozen=True, slots=True)
class Mode:
    """What a strict mode holds a model to beyond types, keys, unions, enums and references.

    One that `closes` adds to objects that they have no other keys, and lets keys be left out; else objects have to say
    so themselves and require all their keys.
    """

    limits: frozenset[str]
    formats: frozenset[str]
    closes: bool = False


FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
NUMBERS = frozenset({"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
OPENAI = Mode(NUMBERS | {"pattern", "format", "minItems", "maxItems"}, FORMATS)
ANTHROPIC_TOOLS = Mode(frozenset({"format", "minItems"}), FORMATS | {"uri"})
ANTHROPIC = replace(ANTHROPIC_TOOLS, closes=True)

TAKEN = frozenset({"type", "enum", "const", "title", "description", "required", "$ref"})
SAY_WHAT = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf"})
NOT_TAKEN = frozenset(
    "allOf not if then else prefixItems patternProperties dependentRequired dependentSchemas dependencies".split()
)
OF_NO_VALUE = frozenset({"$schema", "$id", "$comment", "discriminator", "additionalProperties"})


def held(schema: Mapping[str, Any], mode: Mode) -> Json:
    """The schema as a strict mode takes it. Raises Unsupported where it allows what the mode cannot be held to.

    As the SDKs do: limits that the mode does not know (a number's minimum, a text's length) move to the description,
    `oneOf` becomes `anyOf`, and what stands beside a `$ref`, which has to stand alone, stands around it. So what is
    sent may allow more than what was asked: replies are to be checked against the schema itself.
    """
    root = dict(schema)
    if (ref := root.pop("$ref", None)) is not None:  # a root has to be an object itself
        root = {**_referred(schema, str(ref)), **root}
    return _held(root, mode, "the schema")


def strict(schema: Mapping[str, Any], mode: Mode) -> tuple[Mapping[str, Any], bool]:
    """The schema, and whether it is for the strict mode; if not, it is as it was."""
    try:
        return held(schema, mode), True
    except Unsupported:
        return schema, False


def described(tool: ToolSpec, mode: Mode = OPENAI, parameters: str = "parameters") -> Json:
    """What a model is told of a tool; `parameters` is what the provider calls the schema of its arguments."""
    schema, is_strict = strict(tool.parameters, mode)
    return {"name": tool.name, "description": tool.description, parameters: schema, "strict": is_strict}


def _held(schema: Any, mode: Mode, at: str) -> Json:
    """A part of a schema, by its keywords: names of properties and definitions are none."""
    if not isinstance(schema, Mapping) or not SAY_WHAT & schema.keys():
        raise Unsupported(f"No strict mode holds a model to any value, as {at} allows.")
    if not_taken := NOT_TAKEN & schema.keys():
        raise Unsupported(f"No strict mode knows {', '.join(sorted(not_taken))}, which {at} has.")
    if "$ref" in schema and len(schema) > 1:
        return _around_reference(schema, at)
    told: Json = {}
    notes: Json = {}
    for name, value in schema.items():
        if name in ("$defs", "definitions", "properties"):
            told[name] = {key: _held(inner, mode, f"{at}/{key}") for key, inner in value.items()}
        elif name in ("anyOf", "oneOf"):
            told["anyOf"] = [_held(inner, mode, at) for inner in value]
        elif name == "items":
            told[name] = _held(value, mode, f"{at}/items")
        elif name in TAKEN or _knows(mode, name, value):
            told[name] = value
        elif name not in OF_NO_VALUE and value is not None:
            notes[name] = value
    kinds = schema.get("type")
    if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in told:
        raise Unsupported(f"No strict mode holds a model to a list of any values, as {at} allows.")
    if "object" in (kinds if isinstance(kinds, list) else [kinds]) or "properties" in schema:
        _check_keys(schema, mode, at)
        told["additionalProperties"] = False
    return _noted(told, notes)


def _around_reference(schema: Mapping[str, Any], at: str) -> Json:
    """A reference with something beside it, as a union of one: so references to what they are part of end, too."""
    if SAY_WHAT & schema.keys() != {"$ref"} or "properties" in schema:
        raise Unsupported(f"No strict mode holds a model to a reference and more, as {at} has.")
    around = {name: schema[name] for name in ("title", "description") if name in schema}
    notes = {k: v for k, v in schema.items() if k not in {"$ref", *around, *OF_NO_VALUE} and v is not None}
    return _noted({"anyOf": [{"$ref": schema["$ref"]}], **around}, notes)


def _check_keys(schema: Mapping[str, Any], mode: Mode, at: str) -> None:
    """Raises Unsupported for an object that may have keys it does not name, or lack some."""
    others, keys = schema.get("additionalProperties"), schema.get("properties") or {}
    unsaid = others is None and mode.closes and keys
    if others is not False and not unsaid:
        raise Unsupported(f"No strict mode holds a model to an object of any keys, as {at} allows.")
    if not mode.closes and set(schema.get("required", ())) != set(keys):
        raise Unsupported(f"This strict mode has objects require all their keys, which {at} does not.")


def _knows(mode: Mode, name: str, value: Any) -> bool:
    if name == "format":
        return value in mode.formats
    if name == "minItems" and "maxItems" not in mode.limits:
        return value in (0, 1)
    return name in mode.limits and not (name == "pattern" and "(?" in value)  # looking ahead is not known


def _noted(told: Json, notes: Json) -> Json:
    """With what a model is told only, in the form that Anthropic's SDK gives it."""
    if notes:
        said = "{" + ", ".join(f"{name}: {value}" for name, value in notes.items()) + "}"
        told["description"] = f"{told['description']}\n\n{said}" if told.get("description") else said
    return told


def _referred(schema: Mapping[str, Any], ref: str) -> Mapping[str, Any]:
    there: Any = schema
    for name in ref.removeprefix("#/").split("/"):
        there = there.get(name) if isinstance(there, Mapping) else None
    if not isinstance(there, Mapping) or not ref.startswith("#/"):
        raise Unsupported(f"The schema refers to {ref!r}, which it does not hold.")
    return there
