"""Actions as text: what the paper's form asks for, and how a reply is read that does not quite keep to it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from promptlab.extraction import EMPHASIS
from promptlab.tool import Tool

FORMAT = 'Each time write "Thought: ..." and then "Action: tool[argument]".'
FINISH = "finish"
OBSERVATION = "Observation: "

HALLUCINATED = re.compile(r"(?:^|\n)[ \t*_]*Observation(?: \d+)?[*_]*:.*", re.DOTALL)
LABEL = re.compile(r"^[ \t>*_`#-]*Action(?: \d+)?[*_]*:[*_]*", re.MULTILINE | re.IGNORECASE)
STRICT_LABEL = re.compile(r"(?:^|\n)Action(?: \d+)?: ?")
NEXT_TURN = re.compile(r"\n[ \t>*_`#-]*(?:Thought|Action|Observation|Question)(?: \d+)?[*_]*:", re.IGNORECASE)
NAME = re.compile(r"[\s*_`\"']*(\w+)\s*\[")
BARE = re.compile(r"[\s*_`\"']*(\w+)[*_`\"'.]*\s*(?:\n|$)")
INPUT = re.compile(r"[\s*_`\"']*(\w+)[*_`\"']*\s*\n\s*Action Input:\s*(.*)", re.IGNORECASE)
FINAL = re.compile(r"^[ \t*_]*Final Answer[*_]*:[*_]*[ \t]*(.+)", re.MULTILINE | re.IGNORECASE)
PROTOCOL = re.compile(r"^(?=[ \t]*(?:Thought|Action|Observation|Question)(?: \d+)?:)", re.MULTILINE | re.IGNORECASE)


class Action(NamedTuple):
    """A tool and what stands in its brackets. What is after `end` in the text is not part of it."""

    name: str
    argument: str
    end: int


def told(tools: Sequence[Tool]) -> str:
    """What the model is told of the tools."""
    return f"Use tools: {signatures(tools)}. End with finish[answer]. {FORMAT}"


def signatures(tools: Sequence[Tool]) -> str:
    return ", ".join(f"{t.spec.name}[{', '.join(t.spec.parameters.get('properties', {}))}]" for t in tools)


def without_observation(text: str) -> str:
    """A reply up to where it begins to make up what the world answers: for models that stop strings do not stop."""
    return HALLUCINATED.sub("", text, count=1)


def quoted(observed: str) -> str:
    """What a tool gave, its lines that look like turns of this form marked as quotations."""
    return PROTOCOL.sub("> ", observed)


def strict(text: str, names: Collection[str]) -> Action | None:
    """The action as the paper's code reads it: all after the first "Action:", its first letter in lower case.

    It has to end in "]" and begin with a known tool's name, in that case, and "[".
    """
    label = STRICT_LABEL.search(text)
    if label is None:
        return None
    said = text[label.end() :]
    said = (said[:1].lower() + said[1:]).strip()
    name, bracket, rest = said.partition("[")
    return Action(name, rest[:-1], len(text)) if bracket and rest.endswith("]") and name in names else None


def repaired(text: str, names: Collection[str]) -> Action | None:
    """The first action that can be read; unlike `strict`, an unknown tool is one too.

    It may begin on a new line, be followed by words, be one of several, be emphasised or in quotes, lack its last
    bracket at the end of the reply, be in LangChain's form ("Action Input:", "Final Answer:"), or stand there without
    the word "Action": on a line of its own or at the end.
    """
    for label in LABEL.finditer(text):
        for reading in (in_brackets, with_input, bare):
            if found := reading(text, label.end(), names):
                return found
    if final := FINAL.search(text):
        return Action(FINISH, final[1].strip(), final.end())
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    on_a_line, at_the_end = rf"^[ \t*_`]*(?:{known})\[", rf"\b(?:{known})\[[^\[\]\n]*\]\W*\Z"
    alone = re.search(f"{on_a_line}|{at_the_end}", text, re.MULTILINE | re.IGNORECASE)
    return in_brackets(text, alone.start(), names) if alone else None


def is_whole(text: str, action: Action) -> bool:
    """Whether the action's bracket is closed: of a reply that was cut off, one that is not may lack more."""
    return text[: action.end].endswith("]")


def in_brackets(text: str, start: int, names: Collection[str]) -> Action | None:
    name = NAME.match(text, start)
    if name is None:
        return None
    end = closing(text, name.end())
    argument = text[name.end() : end].strip()
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "\"'`":
        argument = argument[1:-1]
    return Action(as_known(name[1], names), argument, min(end + 1, len(text)))


def closing(text: str, start: int) -> int:
    """Where the bracket that was opened before `start` is closed, as far as one can tell."""
    begun = len(text[start:]) - len(text[start:].lstrip())
    if text[start + begun : start + begun + 1] == "{":  # brackets in the texts of a JSON object count for nothing
        try:
            _, end = json.JSONDecoder().raw_decode(text, start + begun)
        except (ValueError, RecursionError):
            end = -1
        if end >= 0 and text[end:].lstrip().startswith("]"):
            return text.index("]", end)
    depth = 1
    for i in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[i], 0)
        if depth == 0:
            return i
    line_end = text.find("\n", start) if "\n" in text[start:] else len(text)
    last = text.rfind("]", start, line_end)
    return last if last >= 0 else line_end


def with_input(text: str, start: int, names: Collection[str]) -> Action | None:
    found = INPUT.match(text, start)
    return Action(as_known(found[1], names), found[2].strip().strip(EMPHASIS), found.end()) if found else None


def bare(text: str, start: int, names: Collection[str]) -> Action | None:
    """A tool's name by itself. A word that is none could be anything."""
    found = BARE.match(text, start)
    name = as_known(found[1], names) if found else ""
    return Action(name, "", found.end()) if found and name in names and name != FINISH else None


def as_known(name: str, names: Collection[str]) -> str:
    """A name as the tools have it, if it is one of theirs but for its case."""
    alike = [each for each in names if each.casefold() == name.casefold()]
    return name if name in names or len(alike) != 1 else alike[0]


def first_turn(text: str, action: Action) -> str:
    """A reply without the further turns that it makes up after its action."""
    further = NEXT_TURN.search(text, action.end)
    return text[: further.start()].rstrip() if further else text


def arguments(action: Action, tools: Sequence[Tool]) -> dict[str, Any]:
    """The argument by its parameter's name, or the JSON object that names them all."""
    parameters = next((list(t.spec.parameters.get("properties", {})) for t in tools if t.spec.name == action.name), [])
    if action.argument.startswith("{"):
        try:
            given = json.loads(action.argument)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict) and (len(parameters) > 1 or given.keys() == set(parameters)):
            return given
    return {parameters[0]: action.argument} if parameters and action.argument else {}
