"""Answers of a pydantic type, without wasting what was generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from promptlab.errors import Malformed, SetupError, Truncated
from promptlab.program import ask
from promptlab.prompt import Prompt
from promptlab.types import Answer, Message, Reply


async def structured(question: str | Mapping[str, str], prompt: Prompt, native: bool = True, **options: Any) -> Answer:
    """An answer of the prompt's pydantic model.

    The provider is held to its schema (with `native`; else it is only said in words) as far as it can be: its backend
    may leave limits such as a number's minimum to the words, so what comes back is always checked against the model
    itself. It is mended where that needs no call (a code fence, a trailing comma, Python's quotes), and only what is
    still not the model is asked for again, once, with the reason. Raises Malformed, with the last reply and the usage
    of both, if that does not help either; Truncated for a reply that ended at its most tokens before its JSON was
    whole; Refused and ContextOverflow come as they are. Raises SetupError for an output that is no pydantic model,
    Unsupported for one that a provider cannot be held to (Anthropic: a dict of any keys), which `native=False` can do.

    Prompt: what is wanted and the schema in words, the demonstrations as JSON, the question; with `native` the provider
        is given the schema too.
    Stop: the model's own end, or `max_tokens`.
    Parse: the outermost {…} as the pydantic model, mended where it is not quite JSON, unless it was cut off.
    Ties: none, as there is one reply that counts.
    Cost: 1 call, or 2 where the first reply is not the model's JSON.
    Pinned by: tests/contracts/test_structured_output.py
    """
    if not isinstance(prompt, Prompt) or not hasattr(prompt.output, "model_json_schema"):
        wrong = prompt.output if isinstance(prompt, Prompt) else prompt
        raise SetupError(f"structured takes Prompt(output=…) with a pydantic model as its output, got {wrong!r}.")
    if native:
        options["schema"] = closed(prompt.output.model_json_schema())
    chat = prompt.render(question)
    first = await ask(chat, **options)
    answer = parsed(first, prompt)
    if answer.value is not None:
        return answer
    chat += [first.message, Message("user", f"That cannot be read: {answer.why}. Reply with the JSON object only.")]
    second = await ask(chat, **options)
    paid = replace(second, usage=first.usage + second.usage)
    answer = parsed(paid, prompt)
    if answer.value is None:
        raise Malformed(f"asked twice, the model did not write what was wanted: {answer.why}", reply=paid)
    return answer


def parsed(reply: Reply, prompt: Prompt) -> Answer:
    """What a reply says. Raises Truncated where nothing can be read as there was no room for more."""
    answer = prompt.parse(reply.text)
    if answer.value is None and reply.finish == "length":
        raise Truncated(f"the reply ended at its most tokens before its JSON was whole: {answer.why}", reply=reply)
    return answer.but(shots=len(prompt.shots))


NAMED = ("properties", "$defs", "definitions")  # keywords whose values are schemas under names
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


def closed(schema: Any) -> Any:
    """A JSON schema whose objects have all their keys and no others, as "strict" modes want; a default is no excuse."""
    if not isinstance(schema, dict):
        return schema
    parts = {name: value for name, value in schema.items() if name != "default"}
    for name in parts:
        if name in NAMED:
            parts[name] = {key: closed(inner) for key, inner in parts[name].items()}
        elif name in LISTED:
            parts[name] = [closed(inner) for inner in parts[name]]
        elif name in ("items", "additionalProperties"):
            parts[name] = closed(parts[name])
    if "properties" in parts:
        parts |= {"required": list(parts["properties"]), "additionalProperties": False}
    return parts
