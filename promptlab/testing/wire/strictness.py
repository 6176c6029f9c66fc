"""What the providers refuse of schemas and turns, in their words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from promptlab.testing.wire.reading import Body, nested, objects
from promptlab.testing.wire.rejections import Provider, Rejected

NOT_PERMITTED = "oneOf allOf not if then else prefixItems patternProperties dependentRequired dependentSchemas".split()
TOO_MUCH = (  # for Anthropic
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength maxItems uniqueItems".split()
)


def check_strict(schema: Any, provider: Provider, where: str) -> None:
    """Raises Rejected for a schema that a provider's strict mode does not take; `where` is what the schema is of."""
    for path, part in _parts(schema, ()):
        said = _openai(part) if provider == "openai" else _anthropic(part)
        if said and provider == "openai":
            raise Rejected(400, f"Invalid schema for {where}: In context={path!r}, {said}")
        if said:
            raise Rejected(400, f"{where}: {said}")


def check_tools(tools: Sequence[Body], provider: Provider, schema: str) -> None:
    """Those that are strict."""
    for tool in tools:
        if tool.get("strict"):
            where = f"function {tool.get('name')!r}" if provider == "openai" else f"tools.{tool.get('name')}"
            check_strict(nested(tool, schema), provider, where)


def _openai(part: Body) -> str | None:
    for name in NOT_PERMITTED:
        if name in part:
            return f"'{name}' is not permitted."
    if "$ref" in part and len(part) > 1 and "$defs" not in part:
        return f"$ref cannot have keywords {set(part) - {'$ref'}}."
    if "object" in _types(part):
        if part.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false."
        if missing := [name for name in part.get("properties", {}) if name not in part.get("required", ())]:
            wanted = "'required' is required to be supplied and to be an array including every key in properties."
            return f"{wanted} Missing {missing[0]!r}."
    elif not {"type", "enum", "const", "anyOf", "$ref"} & part.keys():
        return "schema must have a 'type' key."
    return None


def _anthropic(part: Body) -> str | None:
    if "object" in _types(part) and part.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if "oneOf" in part:
        return "Schema type 'oneOf' is not supported"
    if too_much := [name for name in TOO_MUCH if name in part]:
        return f"For '{part.get('type')}' type, properties {', '.join(too_much)} are not supported"
    return None


def _types(part: Body) -> Sequence[str]:
    kind = part.get("type")
    return kind if isinstance(kind, list) else [kind] if isinstance(kind, str) else []


def _parts(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Body]]:
    """A schema and all within it, each with its path."""
    if not isinstance(schema, Mapping):
        raise Rejected(400, f"a schema is an object, got {schema!r} at {path!r}")
    yield path, schema
    for name in ("$defs", "definitions", "properties"):
        for key, inner in nested(schema, name).items():
            yield from _parts(inner, (*path, name, key))
    for name in ("anyOf", "oneOf", "allOf"):
        for i, inner in enumerate(objects(schema, name)):
            yield from _parts(inner, (*path, name, str(i)))
    if isinstance(schema.get("items"), Mapping):
        yield from _parts(schema["items"], (*path, "items"))


# ---- turns


def check_turns(turns: Sequence[Body]) -> None:
    """Anthropic's: content is there, tool results follow their calls."""
    called: set[str] = set()  # in the turn before
    for i, turn in enumerate(turns):
        content, final = turn.get("content"), i == len(turns) - 1 and turn.get("role") == "assistant"
        if not content and not final:
            allowed = "except for the optional final assistant message"
            raise Rejected(400, f"messages.{i}: all messages must have non-empty content {allowed}")
        blocks = [] if isinstance(content, str) or not content else objects(turn, "content")
        for k, block in enumerate(blocks):
            if block.get("type") == "text" and not str(block.get("text") or "").strip():
                said = "must be non-empty" if not block.get("text") else "must contain non-whitespace text"
                raise Rejected(400, f"messages: text content blocks {said}")
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in called:
                said = f"unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}"
                must = "must have a corresponding `tool_use` block in the previous message"
                raise Rejected(400, f"messages.{i}.content.{k}: {said}. Each `tool_result` block {must}.")
        if blocks and blocks[-1].get("type") in ("thinking", "redacted_thinking"):
            raise Rejected(400, f"messages.{i}: The final block in an assistant message cannot be `thinking`.")
        called = {str(block.get("id")) for block in blocks if block.get("type") == "tool_use"}


def check_marks(body: Body) -> None:
    """Anthropic's marks for its cache: at most four, and on nothing that cannot be cached."""
    system = [] if isinstance(body.get("system"), str) else objects(body, "system")
    turns = [turn for turn in objects(body, "messages") if isinstance(turn.get("content"), list)]
    blocks = [*objects(body, "tools"), *system, *(block for turn in turns for block in objects(turn, "content"))]
    marked = [block for block in blocks if block.get("cache_control")]
    for block in marked:
        if block.get("type") in ("thinking", "redacted_thinking"):
            raise Rejected(400, f"{block['type']}.cache_control: Extra inputs are not permitted")
        if block.get("type") == "text" and not block.get("text"):
            raise Rejected(400, "cache_control cannot be set for empty text blocks")
    n = len(marked) + bool(body.get("cache_control"))
    if n > 4:
        raise Rejected(400, f"A maximum of 4 blocks with cache_control may be provided. Found {n}.")


def check_answered(turns: Sequence[Body]) -> None:
    """OpenAI's chats: what a tool answered follows its call."""
    called: set[str] = set()
    for i, turn in enumerate(turns):
        if turn.get("role") == "assistant":
            called = {str(call.get("id")) for call in objects(turn, "tool_calls")}
        elif turn.get("role") != "tool":
            called = set()
        elif turn.get("tool_call_id") not in called:
            must = "must be a response to a preceeding message with 'tool_calls'"
            raise Rejected(400, f"Invalid parameter: messages with role 'tool' {must}. (messages.[{i}].role)")
